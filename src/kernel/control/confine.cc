#include "kernel/control/confine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kernel/fs/host/identity.h"
#include "kernel/klog.h"
#include "kernel/platform/host_proc.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t bit(int capability) { return 1ULL << capability; }
// On files: what a guest's root may do to its own. The identity of each host thread follows the guest's task.
constexpr uint64_t kAlways = bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) | bit(CAP_DAC_READ_SEARCH) | bit(CAP_FOWNER) | bit(CAP_FSETID) |
                             bit(CAP_SETUID) | bit(CAP_SETGID) | bit(CAP_KILL);
// In the container's network namespace, if the guest may do it.
constexpr uint64_t kAsGuest = bit(CAP_NET_RAW) | bit(CAP_NET_BIND_SERVICE) | bit(CAP_NET_ADMIN) | bit(CAP_SETFCAP) | bit(CAP_SYS_NICE);

}  // namespace

Result<void> open_own_proc() {
  UniqueFd context(static_cast<int>(syscall(SYS_fsopen, "proc", 1 /* FSOPEN_CLOEXEC */)));
  UniqueFd proc;
  if (context && syscall(SYS_fsconfig, context.get(), 6 /* FSCONFIG_CMD_CREATE */, nullptr, nullptr, 0) == 0)
    proc.reset(static_cast<int>(syscall(SYS_fsmount, context.get(), 1 /* FSMOUNT_CLOEXEC */, MS_NOSUID | MS_NODEV | MS_NOEXEC)));
  // In a user namespace the host may refuse a new one: the container's own, then.
  if (!proc) proc.reset(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!proc) return host_errno();
  UniqueFd copy(fcntl(proc.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return host_errno();
  set_host_proc(std::move(copy));
  set_proc_folder(proc.release());
  return {};
}

Result<void> drop_privileges(uint64_t guests) {
  const uint64_t keep = kAlways | (kAsGuest & guests);
  for (int capability = 0; capability < 64; ++capability) {
    const int present = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (present < 0) break;
    if (present == 1 && (keep & bit(capability)) == 0) (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  TRY(host_result(syscall(SYS_capget, &header, data)));
  for (int i = 0; i < 2; ++i) {
    data[i].permitted &= static_cast<uint32_t>(keep >> 32 * i);
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  TRY(host_result(syscall(SYS_capset, &header, data)));
  TRY(host_result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
  return {};
}

void leave_terminal(int fd) {
  if (isatty(fd) == 0 || ioctl(fd, TIOCNOTTY) != 0) return;
  // The session is told that its terminal has gone; signals are blocked by now.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGCONT);
  const timespec now{};
  while (sigtimedwait(&set, nullptr, &now) > 0) continue;
}

}  // namespace caisson::kernel
