// kernel_process_main: the kernel of a sandbox's containers from its first instruction to its end, which comes with that of the last
// container. It is no container's process: each has a stand-in of its own (join_main.cc).
#include "kernel/control/kernel_main.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.pb.h"
#include "kernel/allocator.h"
#include "kernel/control/confine.h"
#include "kernel/control/container_setup.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/messages.h"
#include "kernel/control/server.h"
#include "kernel/control/start_process.h"
#include "kernel/fs/host/identity.h"
#include "kernel/fs/proc/proc.h"
#include "kernel/klog.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/host_rows.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/namespace_numbers.h"

namespace caisson::kernel {
namespace {

UniqueFd block_signals() {
  sigset_t all;
  sigfillset(&all);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&all, signal);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  return UniqueFd(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
}

// The files of all guests are open here. What one of them may have open is counted by the kernel itself.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// The cgroup that the kernel process begins in, told once that is made.
Result<void> find_place() {
  const Message message = TRY(receive_message(kPlaceFd));
  if (message.kind != MessageKind::Place) return Errno(EPROTO);
  close(kPlaceFd);
  for (const UniqueFd& fd : message.fds)
    if (write(fd.get(), "0", 1) != 1) return host_errno();
  return {};
}

// From here on there is no way back to what lies outside the containers. own: set to whether it has a user namespace of its own.
Result<void> confine(const v1::House& house, bool& own) {
  const uint64_t guests = house.bounding();
  constexpr uint64_t kLowPorts = 1ULL << CAP_NET_BIND_SERVICE;
  uint64_t brokered = guests & (1ULL << CAP_NET_RAW | 1ULL << CAP_NET_ADMIN);
  own = can_have_user_namespace();
  // Also where no guest has the capability: which ports are low is for this kernel to say (net/low_ports.h).
  const bool open = house.own_network() && open_low_ports();
  if (own && (guests & kLowPorts) != 0 && !open) brokered |= kLowPorts;
  Result<void> entered = enter_empty_root(own, brokered);
  if (!entered && own) {
    klog(LogLevel::Info, "no user namespace for the kernel process: %s", strerrordesc_np(entered.error().value));
    own = false;
    entered = enter_empty_root(false, brokered);
  }
  TRY(std::move(entered));
  return drop_privileges(guests);  // before the first thread: capabilities are each thread's own
}

Result<void> run() {
  const v1::House house = TRY(take_house());
  strace_configure(house.strace());
  CallSites::allow(house.patch());
  TRY(open_own_proc());
  open_network_settings();
  adopt_host_namespaces();
  TRY(adopt_host_id_maps());
  UniqueFd signals = block_signals();
  UniqueFd control(fcntl(kChannelFd, F_DUPFD_CLOEXEC, 16));
  close(kChannelFd);
  TRY(leave_mounts());
  have_rooms();
  bool own_user_namespace = false;
  TRY(confine(house, own_user_namespace));
  TRY(find_place());
  const std::unique_ptr<Kernel> kernel = TRY(Kernel::create(false));
  if (!enter_proc_folder()) return host_errno();
  TRY(load_host_filter(house.bounding()));
  Server server(*kernel, std::move(signals), own_user_namespace);
  server.serve(std::move(control));
  // Nothing is to be tidied up: the PID namespace ends with us.
  _exit(0);
}

}  // namespace

int kernel_process_main() {
  prctl(PR_SET_NAME, "caisson-kernel");
  umask(0);
  raise_descriptor_limit();
  use_few_areas();
  const Result<void> done = run();
  if (!done) klog(LogLevel::Error, "the application kernel cannot start: %s", strerrordesc_np(done.error().value));
  _exit(1);
}

}  // namespace caisson::kernel
