#include "shim/publisher.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <cstring>

#include "base/log.h"

namespace caisson::shim {
namespace {

constexpr size_t kQueueLimit = 2048;
constexpr std::chrono::milliseconds kSendDeadline{5000};
constexpr std::chrono::milliseconds kRetryDelay{500};
constexpr std::chrono::milliseconds kFlushDeadline{2000};
constexpr const char* kService = "containerd.services.events.ttrpc.v1.Events";

Result<UniqueFd> connect_unix(std::string path) {
  if (path.starts_with("unix://")) path.erase(0, 7);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return make_error(ENAMETOOLONG, "socket path {} is too long", path);
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("socket");
  if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return errno_error("connect to {}", path);
  return socket;
}

}  // namespace

int64_t now_unix_nanos() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

containerd::Timestamp timestamp(int64_t unix_nanos) {
  containerd::Timestamp stamp;
  stamp.set_seconds(unix_nanos / 1'000'000'000);
  stamp.set_nanos(static_cast<int32_t>(unix_nanos % 1'000'000'000));
  return stamp;
}

Publisher::Publisher(host::EventLoop& loop, std::string ttrpc_address, std::string namespace_)
    : loop_(loop), address_(std::move(ttrpc_address)), namespace_(std::move(namespace_)) {}

Publisher::~Publisher() {
  loop_.cancel_timer(retry_timer_);
  loop_.cancel_timer(flush_timer_);
}

void Publisher::publish(const std::string& topic, const std::string& type, const google::protobuf::MessageLite& event) {
  if (address_.empty()) return;
  containerd::ForwardRequest request;
  containerd::Envelope* envelope = request.mutable_envelope();
  *envelope->mutable_timestamp() = timestamp(now_unix_nanos());
  envelope->set_namespace_(namespace_);
  envelope->set_topic(topic);
  envelope->mutable_event()->set_type_url(type);
  envelope->mutable_event()->set_value(event.SerializeAsString());
  if (queue_.size() == kQueueLimit) {
    log::warning("containerd takes no events: dropping the oldest");
    queue_.erase(queue_.begin() + (sending_ ? 1 : 0));
  }
  queue_.push_back(request.SerializeAsString());
  send_next();
}

void Publisher::send_next() {
  if (queue_.empty()) return settle_flush();
  if (sending_ || retry_timer_ != 0) return;
  if (!client_) {
    Result<UniqueFd> socket = connect_unix(address_);
    if (!socket.ok()) return retry_later();
    client_ = std::make_unique<rpc::AsyncClient>(loop_, std::move(socket).value());
  }
  sending_ = true;
  client_->call(kService, "Forward", queue_.front(), kSendDeadline, [this](Result<std::string> sent) {
    sending_ = false;
    if (sent.ok() || sent.error().code() != ECONNRESET) {
      // An event that containerd refuses would be refused again.
      if (!sent.ok()) log::warning("event not taken: {}", sent.error().message());
      queue_.pop_front();
      return send_next();
    }
    retry_later();
  });
}

void Publisher::retry_later() {
  // The client is destroyed in a turn of its own: this may be running inside one of its callbacks.
  loop_.post([old = std::shared_ptr<rpc::AsyncClient>(std::move(client_))] {});
  retry_timer_ = loop_.add_timer(kRetryDelay, [this] {
    retry_timer_ = 0;
    send_next();
  });
}

void Publisher::flush(std::function<void()> done) {
  flushed_ = std::move(done);
  flush_timer_ = loop_.add_timer(kFlushDeadline, [this] {
    queue_.clear();
    settle_flush();
  });
  send_next();
}

void Publisher::settle_flush() {
  if (!flushed_) return;
  loop_.cancel_timer(flush_timer_);
  std::exchange(flushed_, nullptr)();
}

}  // namespace caisson::shim
