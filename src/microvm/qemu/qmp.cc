#include "microvm/qemu/qmp.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/utf8.h"
#include "host/files.h"

namespace caisson::microvm {

namespace {
constexpr size_t kMaxLine = 1 << 20;
}

struct QmpClient::State : std::enable_shared_from_this<State> {
  host::EventLoop& loop;
  UniqueFd socket;
  Events events;
  std::string buffer;
  std::map<uint64_t, Done> pending;
  uint64_t next_id = 1;
  bool greeted = false, closed = false;
  bool abandoned = false;  // the client has been destroyed: nobody is told anything

  State(host::EventLoop& l, UniqueFd s, Events e) : loop(l), socket(std::move(s)), events(std::move(e)) {}

  void close() {
    if (closed) return;
    closed = true;
    loop.remove(socket.get());
    socket.reset();
  }

  void fail(Error error) {
    if (closed) return;
    const auto self = shared_from_this();  // each handler may destroy the client
    close();
    for (auto& [id, done] : std::exchange(pending, {})) {
      if (abandoned) return;
      done(error);
    }
    if (!abandoned && events.failed) events.failed(std::move(error));
  }

  void send(const QmpCommand& command, Done done) {
    const uint64_t id = next_id++;
    pending.emplace(id, std::move(done));
    nlohmann::json message{{"execute", command.name}, {"id", id}};
    if (!command.arguments.empty()) message["arguments"] = nlohmann::json::parse(command.arguments, nullptr, false);
    const std::string line = message.dump() + "\n";
    // A few hundred bytes into an empty socket buffer: this does not block.
    std::vector<int> fds;
    if (command.fd >= 0) fds.push_back(command.fd);
    auto sent = host::send_some_with_fds(socket.get(), line, fds, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (!sent.ok()) return fail(std::move(sent).error().within("cannot send a command to QEMU"));
    if (*sent != line.size()) fail(make_error(EAGAIN, "cannot send a command to QEMU: it does not read its control connection"));
  }

  void receive() {
    auto self = shared_from_this();
    char bytes[16 << 10];
    const ssize_t count = recv(socket.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count < 0) return fail(errno_error("the control connection to QEMU broke"));
    if (count == 0) return fail(make_error(ECONNRESET, "QEMU has closed its control connection"));
    const size_t seen = buffer.size();  // no line ends there
    buffer.append(bytes, static_cast<size_t>(count));
    for (size_t end = buffer.find('\n', seen); end != std::string::npos && !closed; end = buffer.find('\n')) {
      const std::string line = buffer.substr(0, end);
      buffer.erase(0, end + 1);
      handle(line);
    }
    if (buffer.size() > kMaxLine)
      fail(make_error(EPROTO, "QEMU has sent a line of more than {} bytes on its control connection", kMaxLine));
  }

  void handle(const std::string& line) {
    const nlohmann::json message = nlohmann::json::parse(line, nullptr, false);
    if (!message.is_object()) return fail(make_error(EPROTO, "QEMU has sent something on its control connection that is no JSON object"));
    if (message.contains("QMP") && !greeted) {
      greeted = true;
      send({"qmp_capabilities", "", -1}, [this](Result<void> outcome) {
        if (!outcome) return fail(std::move(outcome).error());
        if (events.ready) events.ready();
      });
    } else if (message.contains("return") || message.contains("error")) {
      answer(message);
    } else if (auto event = message.find("event"); event != message.end() && event->is_string()) {
      log::debug("QEMU event {}", printable(event->get<std::string>()));
    }
  }

  void answer(const nlohmann::json& message) {
    auto id = message.find("id");
    auto found = id != message.end() && id->is_number_unsigned() ? pending.find(id->get<uint64_t>()) : pending.end();
    if (found == pending.end()) return;
    Done done = std::move(found->second);
    pending.erase(found);
    if (message.contains("return")) return done({});
    const nlohmann::json& error = message["error"];
    auto text = error.is_object() ? error.find("desc") : error.end();
    done(make_error(
        EIO, "QEMU refuses a command: {}",
        error.is_object() && text != error.end() && text->is_string() ? printable(text->get<std::string>()) : "no reason given"));
  }
};

Result<std::unique_ptr<QmpClient>> QmpClient::create(host::EventLoop& loop, UniqueFd socket, Events events) {
  auto state = std::make_shared<State>(loop, std::move(socket), std::move(events));
  TRY(loop.add(state->socket.get(), EPOLLIN, [weak = std::weak_ptr(state)](uint32_t) {
    if (auto alive = weak.lock()) alive->receive();
  }));
  return std::unique_ptr<QmpClient>(new QmpClient(std::move(state)));
}

QmpClient::~QmpClient() {
  state_->abandoned = true;
  state_->close();
}

void QmpClient::execute(const QmpCommand& command, Done done) {
  if (state_->closed) return done(make_error(ENOTCONN, "the virtual machine has ended"));
  if (!state_->greeted) return done(make_error(EAGAIN, "the virtual machine is still starting"));
  state_->send(command, std::move(done));
}

void QmpClient::execute_all(std::vector<QmpCommand> commands, Done done) {
  if (commands.empty()) return done({});
  const QmpCommand first = std::move(commands.front());
  commands.erase(commands.begin());
  execute(first,
          [this, weak = std::weak_ptr(state_), commands = std::move(commands), done = std::move(done)](Result<void> outcome) mutable {
            if (!outcome.ok()) return done(std::move(outcome));
            // A handler may have destroyed the client.
            if (auto state = weak.lock(); !state || state->closed) return;
            execute_all(std::move(commands), std::move(done));
          });
}

}  // namespace caisson::microvm
