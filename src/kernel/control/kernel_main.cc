// kernel_process_main: a container's kernel from its first instruction to its end.
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

int give_up(const char* what, Errno error, int errors) {
  // Whoever started the container sees its standard error.
  dprintf(errors, "caisson: %s: %s\n", what, strerrordesc_np(error.value));
  klog(LogLevel::Error, "%s: %s", what, strerrordesc_np(error.value));
  return error == Errno(ENOENT) ? 127 : 126;
}

// From here on there is no way back to what lies outside the container. own: set to whether it has a user namespace of its own.
Result<void> confine(const v1::Start& start, bool& own) {
  const uint64_t guests = start.process().bounding();
  constexpr uint64_t kLowPorts = 1ULL << CAP_NET_BIND_SERVICE;
  uint64_t brokered = guests & 1ULL << CAP_NET_RAW;
  own = can_have_user_namespace(guests);
  if (own && (guests & kLowPorts) != 0 && !(start.own_network() && open_low_ports())) brokered |= kLowPorts;
  Result<void> entered = enter_empty_root(own, brokered);
  if (!entered && own) {
    klog(LogLevel::Info, "no user namespace for the kernel process: %s", strerrordesc_np(entered.error().value));
    own = false;
    entered = enter_empty_root(false, brokered);
  }
  TRY(std::move(entered));
  return drop_privileges(guests);  // before the first thread: capabilities are each thread's own
}

Result<int> run() {
  v1::Start start = TRY(take_start());
  strace_configure(start.strace());
  CallSites::allow(start.patch());
  TRY(open_own_proc());
  TRY(adopt_host_id_maps());
  std::vector<OpenMount> mounts = TRY(open_mounts(start));
  UniqueFd signals = block_signals();
  leave_terminal(0);
  UniqueFd errors(fcntl(2, F_DUPFD_CLOEXEC, 16));
  UniqueFd control(fcntl(kChannelFd, F_DUPFD_CLOEXEC, 16));
  close(kChannelFd);
  std::vector<UniqueFd> streams = take_streams(start.process().preserved());
  bool own_user_namespace = false;
  const auto usable = [&]() -> Result<std::unique_ptr<Kernel>> {
    TRY(confine(start, own_user_namespace));
    std::unique_ptr<Kernel> kernel = TRY(Kernel::create());  // stubs have a filter of their own: the zygote comes before ours
    if (!enter_proc_folder()) return host_errno();
    TRY(load_host_filter(start.process().bounding()));
    return kernel;
  };
  Result<std::unique_ptr<Kernel>> made = usable();
  if (!made) return give_up("the application kernel cannot be confined", made.error(), errors.get());
  const std::unique_ptr<Kernel> kernel = *std::move(made);
  std::unique_ptr<Container> container = TRY(make_container(*kernel, start, std::move(mounts)));
  Result<Kernel::Started> started = start_with(*kernel, *container, start.process(), std::move(streams));
  if (!started)
    return give_up(start.process().arguments_size() > 0 ? start.process().arguments(0).c_str() : "process.args", started.error(),
                   errors.get());
  errors.reset();
  Server server(*kernel, std::move(signals), own_user_namespace);
  const int status = server.serve(std::move(container), std::move(control), *started);
  if (server.busy()) _exit(status);
  *started = {};
  kernel->shutdown();
  return status;
}

}  // namespace

int kernel_process_main() {
  prctl(PR_SET_NAME, "caisson-kernel");
  umask(0);
  raise_descriptor_limit();
  const Result<int> status = run();
  // Nothing is to be tidied up: the PID namespace ends with us.
  _exit(status ? *status : give_up("the application kernel cannot start", status.error(), 2));
}

}  // namespace caisson::kernel
