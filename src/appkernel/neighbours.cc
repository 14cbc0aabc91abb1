#include "appkernel/neighbours.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>

#include "base/log.h"
#include "kernel.pb.h"
#include "kernel/control/messages.h"
#include "kernel/platform/host_rows.h"

namespace caisson::appkernel {
namespace {

namespace fs = std::filesystem;

constexpr int kPatience = 5000;  // milliseconds, for an answer
constexpr size_t kMostConnections = 64;
constexpr const char* kSocketName = "kernel-%d.sock";

Result<UniqueFd> local_socket(int flags) {
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!fd) return errno_error("cannot make a socket");
  return fd;
}

// Through a descriptor of the folder: a socket's name may be longer than an address has room for.
Result<sockaddr_un> address_of(const std::string& path, UniqueFd& folder) {
  const fs::path whole(path);
  folder.reset(open(whole.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return errno_error("cannot open {}", whole.parent_path().native());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = fmt::format("/proc/self/fd/{}/{}", folder.get(), whole.filename().native());
  if (name.size() >= sizeof address.sun_path) return make_error(ENAMETOOLONG, "{} is too long a name", path);
  memcpy(address.sun_path, name.data(), name.size());
  return address;
}

Result<kernel::Message> await_message(int fd) {
  pollfd entry{fd, POLLIN, 0};
  if (TEMP_FAILURE_RETRY(poll(&entry, 1, kPatience)) <= 0) return make_error(ETIMEDOUT, "no answer");
  auto message = kernel::receive_message(fd);
  if (!message.ok()) return make_error(message.error().value, "{}", strerrordesc_np(message.error().value));
  return std::move(*message);
}

Result<void> sent(kernel::Result<void> result) {
  if (!result.ok()) return make_error(result.error().value, "{}", strerrordesc_np(result.error().value));
  return {};
}

}  // namespace

Neighbours::Neighbours(host::EventLoop& loop, std::string dir) : loop_(loop), dir_(std::move(dir)) {}

Neighbours::~Neighbours() {
  while (!connections_.empty()) drop(connections_.begin()->first);
  if (!listener_) return;
  loop_.remove(listener_.get());
  unlink(path_.c_str());
}

std::string Neighbours::socket_path(const std::string& folder, pid_t pid) const {
  char name[64];
  snprintf(name, sizeof name, kSocketName, pid);
  return folder + "/" + name;
}

Result<void> Neighbours::offer(const Resident& first, Pass pass) {
  if (dir_.empty() || listener_) return {};
  first_ = first;
  pass_ = std::move(pass);
  path_ = socket_path(dir_, first.pid);
  UniqueFd listener = TRY(local_socket(SOCK_NONBLOCK));
  UniqueFd folder;
  const sockaddr_un address = TRY(address_of(path_, folder));
  const mode_t mask = umask(0177);
  const int bound = bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  umask(mask);
  if (bound != 0 || listen(listener.get(), 16) != 0) return errno_error("cannot listen on {}", path_);
  TRY(loop_.add(listener.get(), EPOLLIN, [this](uint32_t) { accept_one(); }));
  listener_ = std::move(listener);
  return {};
}

// Who connects is told whom it would join.
void Neighbours::accept_one() {
  UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd || connections_.size() >= kMostConnections) return;
  kernel::v1::Resident told;
  told.set_kernel_of(first_.kernel_of);
  told.set_pid(first_.pid);
  told.set_kernel_pid(first_.kernel);
  told.set_bounding(first_.bounding);
  told.set_user_namespace(first_.user_namespace);
  auto file = kernel::make_description("kernel-resident", told.SerializeAsString());
  if (!file.ok() || !kernel::send_message(fd.get(), kernel::MessageKind::Answer, 0, {file->get()}).ok()) return;
  const int number = fd.get();
  if (!loop_.add(number, EPOLLIN, [this, number](uint32_t) { take_from(number); })) return;
  connections_[number] = std::move(fd);
}

void Neighbours::take_from(int fd) {
  auto message = kernel::receive_message(fd);
  if (message.ok() && message->kind == kernel::MessageKind::Join && message->fds.size() == 2) {
    const Result<void> passed = pass_({message->fds[0].get(), message->fds[1].get()}, static_cast<uint32_t>(message->number));
    (void)kernel::send_message(fd, passed ? kernel::MessageKind::Started : kernel::MessageKind::Failed, passed ? 0 : passed.error().code());
  }
  drop(fd);
}

void Neighbours::drop(int fd) {
  loop_.remove(fd);
  connections_.erase(fd);
}

Residents Neighbours::look() const {
  Residents found;
  if (dir_.empty()) return found;
  std::error_code error;
  const fs::path own(dir_);
  for (const fs::directory_entry& folder : fs::directory_iterator(own.parent_path(), error)) {
    std::error_code inner;
    if (folder.path() == own) continue;
    for (const fs::directory_entry& file : fs::directory_iterator(folder.path(), inner)) {
      int pid = 0, end = 0;
      const std::string name = file.path().filename();
      if (sscanf(name.c_str(), "kernel-%d.sock%n", &pid, &end) != 1 || end != static_cast<int>(name.size()) || pid <= 0) continue;
      const std::string id = folder.path().filename();
      found[id] = {.kernel_of = id, .pid = pid};
    }
  }
  return found;
}

Result<Neighbours::Joining> Neighbours::approach(const std::string& kernel_of, pid_t pid) const {
  const std::string path = socket_path(fs::path(dir_).parent_path() / kernel_of, pid);
  Joining joining;
  joining.connection = TRY(local_socket(0));
  UniqueFd folder;
  const sockaddr_un address = TRY(address_of(path, folder));
  if (connect(joining.connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return errno_error("cannot connect to {}", path);
  const kernel::Message message = TRY(await_message(joining.connection.get()));
  kernel::v1::Resident told;
  if (message.kind != kernel::MessageKind::Answer || message.fds.size() != 1) return make_error(EPROTO, "{} does not say who it is", path);
  const auto text = kernel::read_description(message.fds[0].get());
  if (!text.ok() || !told.ParseFromString(*text) || told.pid() != pid || told.kernel_pid() <= 0)
    return make_error(EPROTO, "{} does not say who it is", path);
  joining.first = {.kernel_of = told.kernel_of(),
                   .kernel = told.kernel_pid(),
                   .pid = told.pid(),
                   .bounding = told.bounding(),
                   .user_namespace = told.user_namespace()};
  return joining;
}

Result<void> Neighbours::join(const Joining& joining, const std::vector<int>& fds, uint64_t bounding) {
  // Those that a broker may have are among the lowest 31.
  const auto number = static_cast<int32_t>(kernel::brokered_capabilities(bounding));
  TRY(sent(kernel::send_message(joining.connection.get(), kernel::MessageKind::Join, number, fds)));
  const kernel::Message message = TRY(await_message(joining.connection.get()));
  if (message.kind == kernel::MessageKind::Started) return {};
  return make_error(message.kind == kernel::MessageKind::Failed ? message.number : EPROTO, "it is not passed on");
}

}  // namespace caisson::appkernel
