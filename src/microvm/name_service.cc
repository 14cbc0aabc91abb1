#include "microvm/name_service.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <algorithm>

#include "base/log.h"
#include "base/text.h"
#include "host/files.h"
#include "host/name_answers.h"
#include "host/namespaces.h"
#include "host/worker.h"

namespace caisson::microvm {
namespace {

constexpr uint16_t kDnsPort = 53;
constexpr size_t kMostNameServers = 3;  // MAXNS of resolv.conf(5)
constexpr size_t kMostResolvConf = 64 << 10;
constexpr size_t kMostQuestions = 1024;
constexpr size_t kMostTcpQuestions = 8;
constexpr int kAnswersAtATime = 32;
constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::milliseconds kProbePatience{100};

// A DNS message starts with its id, in network byte order.
uint16_t id_of(const std::string& message) {
  return static_cast<uint16_t>(static_cast<uint8_t>(message[0]) << 8 | static_cast<uint8_t>(message[1]));
}
void set_id(std::string& message, uint16_t id) {
  message[0] = static_cast<char>(id >> 8);
  message[1] = static_cast<char>(id & 0xff);
}

sockaddr_in place_of(const std::string& address) {
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_port = htons(kDnsPort);
  inet_pton(AF_INET, address.c_str(), &place.sin_addr);
  return place;
}

// The file may be anything: what is not an ordinary one is not read, so that nothing blocks.
std::string read_resolv_conf(const std::string& path) {
  if (path.empty()) return "";
  UniqueFd file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat info {};
  if (!file || fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return "";
  auto text = host::read_descriptor(file.get(), kMostResolvConf);
  return text.ok() ? std::move(text).value() : "";
}

Result<void> enter(const std::string& network) {
  UniqueFd ns = TRY(host::open_namespace(*host::find_namespace_type("network"), network));
  return host::join_namespace(ns.get(), CLONE_NEWNET, network);
}

// A connected UDP socket where somebody listens; an invalid one where nobody does. A question without a question is refused by name servers
// at once, and asks no other one.
UniqueFd find_server(const std::string& address) {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in place = place_of(address);
  if (!socket || connect(socket.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place) != 0) return UniqueFd();
  const std::string empty(sandbox::kDnsHeaderBytes, '\0');
  if (send(socket.get(), empty.data(), empty.size(), MSG_NOSIGNAL) < 0) return UniqueFd();
  // Silence is an answer, too: only a port where nobody listens says so.
  pollfd ready{socket.get(), POLLIN, 0};
  if (poll(&ready, 1, static_cast<int>(kProbePatience.count())) <= 0) return socket;
  char answer[512];
  return recv(socket.get(), answer, sizeof answer, 0) < 0 && errno == ECONNREFUSED ? UniqueFd() : std::move(socket);
}

// Runs in a worker: it enters the namespace and ends there. The payload has one letter for each address, '+' where there is a descriptor.
Result<host::WorkerOutput> find_servers(const std::string& network, const std::vector<std::string>& addresses,
                                        const std::vector<NameService::Redirected>& interfaces) {
  TRY(enter(network));
  host::WorkerOutput output;
  for (const std::string& address : addresses) {
    UniqueFd server = find_server(address);
    output.payload += server ? '+' : '-';
    if (server) output.fds.push_back(std::move(server));
  }
  if (output.fds.empty()) return output;
  for (const auto& [interface, tap] : interfaces)
    if (auto kept = host::keep_name_answers(interface, tap); !kept.ok() && kept.error().code() != EEXIST)
      log::warning("names of the world outside may not be found inside: {}", kept.error().message());
  return output;
}

Result<void> receive_all(int socket, char* to, size_t size) {
  for (size_t got = 0; got < size;) {
    const ssize_t more = recv(socket, to + got, size - got, 0);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) return errno_error("receive a name server's answer");
    if (more == 0) return make_error(ECONNRESET, "the name server has closed the connection");
    got += static_cast<size_t>(more);
  }
  return {};
}

// Runs in a worker: one question and its answer.
Result<host::WorkerOutput> ask_one(const std::string& network, const std::string& address, const std::string& message) {
  TRY(enter(network));
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{.tv_sec = kPatience.count(), .tv_usec = 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const sockaddr_in place = place_of(address);
  if (!socket || connect(socket.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place) != 0)
    return errno_error("connect to the name server {}", address);
  std::string framed{static_cast<char>(message.size() >> 8), static_cast<char>(message.size() & 0xff)};
  TRY(host::send_with_fds(socket.get(), framed + message, {}));
  unsigned char length[2];
  TRY(receive_all(socket.get(), reinterpret_cast<char*>(length), sizeof length));
  host::WorkerOutput output;
  output.payload.resize(static_cast<size_t>(length[0]) << 8 | length[1]);
  TRY(receive_all(socket.get(), output.payload.data(), output.payload.size()));
  return output;
}

}  // namespace

std::vector<std::string> loopback_name_servers(std::string_view resolv_conf) {
  std::vector<std::string> found;
  for (std::string_view line : split_fields(resolv_conf, '\n')) {
    std::string text(line);
    std::replace(text.begin(), text.end(), '\t', ' ');
    while (text.ends_with('\r')) text.pop_back();
    const std::vector<std::string_view> words = split_fields(text, ' ');
    if (words.size() < 2 || words[0] != "nameserver") continue;
    const std::string address(words[1]);
    in_addr number{};
    if (inet_pton(AF_INET, address.c_str(), &number) != 1 || ntohl(number.s_addr) >> 24 != IN_LOOPBACKNET) continue;
    if (found.size() < kMostNameServers && std::find(found.begin(), found.end(), address) == found.end()) found.push_back(address);
  }
  return found;
}

NameService::NameService(host::EventLoop& loop, GuestLink& link, uint32_t& next_channel)
    : loop_(loop), link_(link), next_channel_(next_channel) {}

NameService::~NameService() {
  *alive_ = false;
  for (auto& [address, server] : servers_) end(*server);
}

void NameService::serve(const std::string& resolv_conf, const std::string& network, std::vector<Redirected> interfaces,
                        std::function<void()> done) {
  std::vector<std::string> wanted = loopback_name_servers(read_resolv_conf(resolv_conf));
  std::erase_if(wanted, [&](const std::string& address) { return servers_.contains(address); });
  if (wanted.empty()) return done();
  host::run_worker(
      loop_, {.deadline = kPatience}, [network, wanted, interfaces] { return find_servers(network, wanted, interfaces); },
      [this, alive = alive_, network, wanted, done = std::move(done)](Result<host::WorkerOutput> output) {
        if (!*alive) return done();
        if (!output.ok()) log::warning("names of {} are not served inside: {}", wanted.front(), output.error().message());
        auto waiting = std::make_shared<size_t>(1);
        auto one_less = [waiting, done] {
          if (--*waiting == 0) done();
        };
        for (size_t i = 0, fd = 0; output.ok() && i < wanted.size() && i < output->payload.size(); ++i) {
          if (output->payload[i] != '+' || fd >= output->fds.size()) continue;
          ++*waiting;
          begin(wanted[i], network, std::move(output->fds[fd++]), one_less);
        }
        one_less();
      });
}

void NameService::begin(const std::string& address, const std::string& network, UniqueFd socket, std::function<void()> done) {
  auto server = std::make_shared<Server>();
  server->address = address;
  server->network = network;
  server->server = std::move(socket);
  const uint32_t channel = next_channel_++;
  auto failed = [address, done](const Error& error) {
    log::warning("names of {} are not served inside: {}", address, error.message());
    done();
  };
  auto ours = link_.mux().attach_socket(channel);
  if (!ours.ok()) return failed(ours.error());
  std::weak_ptr<Server> weak = server;
  auto guest = sandbox::NameChannel::create(
      loop_, std::move(*ours),
      [this, weak](sandbox::NameFrame frame) {
        if (auto self = weak.lock()) ask(self, std::move(frame));
      },
      [address] { log::debug("the guest asks for no more names of {}", address); });
  if (!guest.ok()) return failed(guest.error());
  server->guest = std::move(*guest);
  auto added = loop_.add(server->server.get(), EPOLLIN, [this, weak](uint32_t) {
    if (auto self = weak.lock()) answered(*self);
  });
  if (!added.ok()) return failed(added.error());
  servers_[address] = server;
  sandbox::v1::ServeNamesRequest request;
  request.set_address(address);
  request.set_channel(channel);
  link_.call<sandbox::v1::ServeNamesResponse>("ServeNames", request, link_.timeout(),
                                              [this, alive = alive_, address, channel, failed, done](auto response) {
                                                if (response.ok()) return done();
                                                if (*alive) {
                                                  if (link_.ready()) link_.mux().detach(channel);
                                                  if (auto found = servers_.find(address); found != servers_.end()) {
                                                    end(*found->second);
                                                    servers_.erase(found);
                                                  }
                                                }
                                                failed(response.error());
                                              });
}

void NameService::end(Server& server) {
  if (server.server) loop_.remove(server.server.get());
  server.server.reset();
  server.guest.reset();
}

void NameService::ask(const std::shared_ptr<Server>& server, sandbox::NameFrame frame) {
  if (frame.tcp) return ask_by_tcp(server, std::move(frame));
  const auto now = Clock::now();
  if (server->questions.size() >= kMostQuestions)
    std::erase_if(server->questions, [&](const auto& row) { return row.second.until <= now; });
  if (server->questions.size() >= kMostQuestions || !server->server) return;
  server->questions[frame.key] = {.id = id_of(frame.message), .until = now + kPatience};
  set_id(frame.message, frame.key);
  // What the server does not take is lost, as datagrams may be.
  (void)send(server->server.get(), frame.message.data(), frame.message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void NameService::ask_by_tcp(const std::shared_ptr<Server>& server, sandbox::NameFrame frame) {
  if (server->tcp_questions >= kMostTcpQuestions) return;
  ++server->tcp_questions;
  host::run_worker(
      loop_, {.deadline = kPatience, .keep_fds = std::vector<int>{}},
      [network = server->network, address = server->address, message = frame.message] { return ask_one(network, address, message); },
      [server, key = frame.key](Result<host::WorkerOutput> answer) {
        --server->tcp_questions;
        if (!answer.ok()) return log::debug("{}", answer.error().message());
        if (server->guest) (void)server->guest->send({.key = key, .tcp = true, .message = std::move(answer->payload)});
      });
}

void NameService::answered(Server& server) {
  std::string message;
  for (int i = 0; i < kAnswersAtATime; ++i) {
    message.resize(UINT16_MAX);
    const ssize_t got = recv(server.server.get(), message.data(), message.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got < static_cast<ssize_t>(sandbox::kDnsHeaderBytes)) continue;  // an error of an earlier question, or no answer
    message.resize(static_cast<size_t>(got));
    auto question = server.questions.find(id_of(message));
    if (question == server.questions.end()) continue;
    const uint16_t key = question->first;
    set_id(message, question->second.id);
    server.questions.erase(question);
    (void)server.guest->send({.key = key, .tcp = false, .message = message});
  }
}

}  // namespace caisson::microvm
