#include "kernel/control/server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>

#include "kernel.pb.h"
#include "kernel/klog.h"
#include "kernel/net/broker.h"
#include "kernel/platform/host_proc.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostTenants = 1024;
constexpr int kSoon = 1;  // millisecond

// What has been done since may have closed it, and its number may be another one's.
bool still_readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return poll(&entry, 1, 0) == 1;
}

}  // namespace

Server::Server(Kernel& kernel, UniqueFd signals, bool own_user_namespace)
    : signals_(std::move(signals)),
      event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      house_{.kernel = kernel,
             .event = event_.get(),
             .user_namespace = [own_user_namespace]() -> Result<UniqueFd> {
               return own_user_namespace ? open_host_proc("self/ns/user") : UniqueFd();
             },
             .shared_namespaces = [this](const v1::Start& start) { return shared_namespaces(start); },
             .somebody_begins =
                 [this] {
                   return std::any_of(tenants_.begin(), tenants_.end(), [](const auto& tenant) { return tenant->begins_by_itself(); });
                 },
             .join =
                 [this](UniqueFd control, UniqueFd stand_in) {
                   if (tenants_.size() >= kMostTenants) return klog(LogLevel::Error, "too many containers");
                   tenants_.push_back(std::make_unique<Tenant>(house_, std::move(control), std::move(stand_in)));
                   inhabited_ = true;
                 }} {}

void Server::serve(UniqueFd control) {
  control_ = std::move(control);
  for (bool soon = false; !all_gone();) {
    // poll(2) passes over what is -1.
    std::vector<pollfd> entries = {{signals_.get(), POLLIN, 0}, {event_.get(), POLLIN, 0}, {control_ ? control_.get() : -1, POLLIN, 0}};
    const size_t own = entries.size();
    std::vector<Tenant*> of(own, nullptr);
    for (const auto& tenant : tenants_) {
      tenant->add_descriptors(entries);
      of.resize(entries.size(), tenant.get());
    }
    if (poll(entries.data(), entries.size(), soon ? kSoon : -1) < 0 && errno != EINTR) return;
    uint64_t count;
    if (entries[1].revents != 0) [[maybe_unused]]
      ssize_t ignored = read(event_.get(), &count, sizeof count);
    settle();
    if (entries[0].revents != 0) take_signal();
    for (size_t i = own; i < entries.size(); ++i)
      if (entries[i].revents != 0 && still_readable(entries[i].fd)) of[i]->take_from(entries[i].fd);
    if (entries[2].revents != 0) take_announcement();
    // One that has gone without a beginning may be what another waits for.
    settle();
    forget_those_over();
    soon = std::any_of(tenants_.begin(), tenants_.end(), [](const auto& tenant) { return tenant->impatient(); });
  }
  house_.see_off();
}

// The sandbox process has gone, and whoever cleans up after it ends the containers: the kernel goes on for them until then.
void Server::take_announcement() {
  Result<Message> message = receive_message(control_.get());
  if (!message) return control_.reset();
  if (message->kind == MessageKind::Join && message->fds.size() == 2) house_.join(std::move(message->fds[0]), std::move(message->fds[1]));
  if (message->kind == MessageKind::Broker && message->fds.size() == 1)
    pod_broker().set(std::move(message->fds[0]), static_cast<uint32_t>(message->number));
}

bool Server::all_gone() const {
  if (!inhabited_) return !control_;
  return std::all_of(tenants_.begin(), tenants_.end(), [](const auto& tenant) { return tenant->gone(); });
}

void Server::forget_those_over() {
  for (auto it = tenants_.begin(); it != tenants_.end();) {
    const bool over = (*it)->over();
    if (over) ended_.push_back((*it)->take_container());
    it = over ? tenants_.erase(it) : std::next(it);
  }
}

void Server::settle() {
  for (const auto& tenant : tenants_) tenant->settle();
}

Container* Server::find(const std::string& id) {
  for (const auto& tenant : tenants_)
    if (Container* container = tenant->container(); container != nullptr && container->id == id) return container;
  return nullptr;
}

SharedNamespaces Server::shared_namespaces(const v1::Start& start) {
  SharedNamespaces shared;
  if (Container* other = find(start.pid_of())) shared.pids = other->pids;
  if (Container* other = find(start.ipc_of())) shared.ipc = other->namespaces()->ipc;
  if (Container* other = find(start.uts_of())) shared.uts = other->uts;
  return shared;
}

// Nobody has a reason to send any: they are for containers' first processes, which have stand-ins.
void Server::take_signal() {
  signalfd_siginfo info;
  [[maybe_unused]] ssize_t ignored = read(signals_.get(), &info, sizeof info);
}

}  // namespace caisson::kernel
