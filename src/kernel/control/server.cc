#include "kernel/control/server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "kernel.pb.h"
#include "kernel/klog.h"
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
             .join =
                 [this](UniqueFd control, UniqueFd stand_in) {
                   if (tenants_.size() >= kMostTenants) return klog(LogLevel::Error, "too many containers");
                   tenants_.push_back(std::make_unique<Tenant>(house_, std::move(control), std::move(stand_in)));
                 }} {}

int Server::serve(std::unique_ptr<Container> container, UniqueFd control, const Kernel::Started& init) {
  tenants_.push_back(std::make_unique<Tenant>(house_, std::move(container), std::move(control), init));
  Tenant& first = *tenants_.front();
  init.go();
  for (bool soon = false;;) {
    std::vector<pollfd> entries = {{signals_.get(), POLLIN, 0}, {event_.get(), POLLIN, 0}};
    std::vector<Tenant*> of = {nullptr, nullptr};
    for (const auto& tenant : tenants_) {
      tenant->add_descriptors(entries);
      of.resize(entries.size(), tenant.get());
    }
    if (poll(entries.data(), entries.size(), soon ? kSoon : -1) < 0 && errno != EINTR) return 125;
    uint64_t count;
    if (entries[1].revents != 0) [[maybe_unused]]
      ssize_t ignored = read(event_.get(), &count, sizeof count);
    settle();
    if (const std::optional<int> status = first.outcome()) return *status;
    if (entries[0].revents != 0) pass_signal();
    for (size_t i = 2; i < entries.size(); ++i)
      if (entries[i].revents != 0 && still_readable(entries[i].fd)) of[i]->take_from(entries[i].fd);
    soon = false;
    for (auto it = tenants_.begin(); it != tenants_.end();) {
      soon = soon || (*it)->impatient();
      const bool over = (*it)->over();
      if (over) ended_.push_back((*it)->take_container());
      it = over ? tenants_.erase(it) : std::next(it);
    }
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

// What engines send to the container's process is meant for the guest's.
void Server::pass_signal() {
  signalfd_siginfo info;
  if (read(signals_.get(), &info, sizeof info) != sizeof info || info.ssi_signo == SIGCHLD) return;
  tenants_.front()->deliver(static_cast<int>(info.ssi_signo));
}

}  // namespace caisson::kernel
