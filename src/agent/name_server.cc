#include "agent/name_server.h"

#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <vector>

#include "base/log.h"

namespace caisson::agent {
namespace {

constexpr size_t kMostQuestions = 256;
constexpr size_t kMostConnections = 64;
constexpr size_t kMostDatagramBytes = 4096;        // a query; EDNS0 (RFC 6891) allows more than anybody sends
constexpr size_t kMostAnswersWaiting = 256 << 10;  // for a connection whose client does not read
constexpr int kDatagramsAtATime = 32;
constexpr int kBacklog = 16;
// What resolvers wait for an answer, and an idle connection for its next query (RFC 7766, section 6.2.3).
constexpr std::chrono::seconds kPatience{10};
constexpr size_t kLengthBytes = 2;  // before each message of a connection (RFC 1035, section 4.2.2)

}  // namespace

Result<std::unique_ptr<NameServer>> NameServer::create(host::EventLoop& loop, sandbox::Mux& mux, const std::string& address, uint16_t port,
                                                       uint32_t channel) {
  std::unique_ptr<NameServer> server(new NameServer(loop));
  TRY(server->listen(address, port));
  UniqueFd socket = TRY(mux.attach_socket(channel));
  NameServer* self = server.get();
  server->host_ = TRY(sandbox::NameChannel::create(
      loop, std::move(socket), [self](sandbox::NameFrame frame) { self->answered(std::move(frame)); },
      [] { log::warning("names are no longer served: the host has ended their channel"); }));
  return server;
}

NameServer::~NameServer() {
  if (timer_ != 0) loop_.cancel_timer(timer_);
  for (const UniqueFd* fd : {&datagrams_, &listener_})
    if (*fd) loop_.remove(fd->get());
  for (auto& [number, connection] : connections_) loop_.remove(connection.socket.get());
}

Result<void> NameServer::listen(const std::string& address, uint16_t port) {
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_port = htons(port);
  if (inet_pton(AF_INET, address.c_str(), &place.sin_addr) != 1 || ntohl(place.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
    return make_error(EINVAL, "address: must be an IPv4 loopback address");
  datagrams_.reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!datagrams_ || !listener_) return errno_error("make the sockets of a name server");
  const int yes = 1;
  setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  for (const UniqueFd* fd : {&datagrams_, &listener_})
    if (bind(fd->get(), reinterpret_cast<sockaddr*>(&place), sizeof place) != 0)
      return errno_error("listen at {} inside the guest", address);
  if (::listen(listener_.get(), kBacklog) != 0) return errno_error("listen at {} inside the guest", address);
  TRY(loop_.add(datagrams_.get(), EPOLLIN, [this](uint32_t) { receive_datagrams(); }));
  return loop_.add(listener_.get(), EPOLLIN, [this](uint32_t) { accept_connections(); });
}

void NameServer::receive_datagrams() {
  char buffer[kMostDatagramBytes];
  for (int i = 0; i < kDatagramsAtATime; ++i) {
    Question question;
    socklen_t size = sizeof question.sender;
    const ssize_t got =
        recvfrom(datagrams_.get(), buffer, sizeof buffer, MSG_DONTWAIT | MSG_TRUNC, reinterpret_cast<sockaddr*>(&question.sender), &size);
    if (got < 0) return;
    if (static_cast<size_t>(got) < sandbox::kDnsHeaderBytes || static_cast<size_t>(got) > sizeof buffer) continue;
    (void)ask(std::string(buffer, static_cast<size_t>(got)), question);
  }
}

void NameServer::accept_connections() {
  UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket || connections_.size() >= kMostConnections) return;  // closed: the client tries again
  const uint64_t number = next_connection_++;
  if (!loop_.add(socket.get(), EPOLLIN, [this, number](uint32_t events) { serve_connection(number, events); }).ok()) return;
  Connection& connection = connections_[number];
  connection.socket = std::move(socket);
  connection.until = Clock::now() + kPatience;
  watch_time();
}

void NameServer::serve_connection(uint64_t number, uint32_t events) {
  auto found = connections_.find(number);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  if ((events & EPOLLOUT) != 0 && !write_answers(connection)) return close_connection(number);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  char buffer[16 << 10];
  const ssize_t got = recv(connection.socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return close_connection(number);
  connection.in.append(buffer, static_cast<size_t>(got));
  connection.until = Clock::now() + kPatience;
  take_queries(number, connection);
}

// At most one whole message and the beginning of another are held: what cannot be asked now is dropped, and its client learns by the clock.
void NameServer::take_queries(uint64_t number, Connection& connection) {
  while (connection.in.size() >= kLengthBytes) {
    const size_t length = static_cast<uint8_t>(connection.in[0]) << 8 | static_cast<uint8_t>(connection.in[1]);
    if (length < sandbox::kDnsHeaderBytes) return close_connection(number);
    if (connection.in.size() < kLengthBytes + length) return;
    (void)ask(connection.in.substr(kLengthBytes, length), {.connection = number});
    connection.in.erase(0, kLengthBytes + length);
  }
}

bool NameServer::write_answers(Connection& connection) {
  while (!connection.out.empty()) {
    const ssize_t sent = send(connection.socket.get(), connection.out.data(), connection.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) break;
    connection.out.erase(0, static_cast<size_t>(sent));
  }
  const bool wanted = !connection.out.empty();
  if (std::exchange(connection.writes_watched, wanted) != wanted)
    return loop_.modify(connection.socket.get(), wanted ? uint32_t{EPOLLIN} | EPOLLOUT : uint32_t{EPOLLIN}).ok();
  return true;
}

void NameServer::close_connection(uint64_t number) {
  auto found = connections_.find(number);
  if (found == connections_.end()) return;
  loop_.remove(found->second.socket.get());
  connections_.erase(found);
}

bool NameServer::ask(std::string message, Question question) {
  if (questions_.size() >= kMostQuestions) return false;
  while (questions_.contains(next_key_)) ++next_key_;
  const uint16_t key = next_key_++;
  if (!host_->send({.key = key, .tcp = question.connection != 0, .message = std::move(message)})) return false;
  question.until = Clock::now() + kPatience;
  questions_[key] = question;
  watch_time();
  return true;
}

void NameServer::answered(sandbox::NameFrame frame) {
  auto found = questions_.find(frame.key);
  if (found == questions_.end()) return;  // too late
  const Question question = found->second;
  questions_.erase(found);
  if (question.connection == 0) {
    (void)sendto(datagrams_.get(), frame.message.data(), frame.message.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&question.sender), sizeof question.sender);
    return;
  }
  auto connection = connections_.find(question.connection);
  if (connection == connections_.end()) return;
  Connection& to = connection->second;
  if (to.out.size() + frame.message.size() > kMostAnswersWaiting) return close_connection(question.connection);
  to.out += static_cast<char>(frame.message.size() >> 8);
  to.out += static_cast<char>(frame.message.size() & 0xff);
  to.out += frame.message;
  if (!write_answers(to)) close_connection(question.connection);
}

void NameServer::watch_time() {
  if (timer_ != 0) return;
  timer_ = loop_.add_timer(kPatience, [this] {
    timer_ = 0;
    forget_old();
    if (!questions_.empty() || !connections_.empty()) watch_time();
  });
}

void NameServer::forget_old() {
  const auto now = Clock::now();
  std::erase_if(questions_, [&](const auto& row) { return row.second.until <= now; });
  std::vector<uint64_t> idle;
  for (const auto& [number, connection] : connections_)
    if (connection.until <= now) idle.push_back(number);
  for (uint64_t number : idle) close_connection(number);
}

}  // namespace caisson::agent
