#include "agent/guest_init.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstring>
#include <fstream>

#include "base/log.h"
#include "base/unique_fd.h"
#include "host/files.h"

namespace caisson::agent {
namespace {

constexpr const char* kModuleList = "/etc/caisson/modules";
constexpr const char* kNewRoot = "/root";
// '@' cannot start a container's id, so this never meets a container's cgroup.
constexpr const char* kAgentCgroup = "/sys/fs/cgroup/@agent";

struct MountRow {
  const char* target;
  const char* type;
  unsigned long flags;
  const char* data;
  bool required;
};

// Relative to the new root. Folders are made.
constexpr MountRow kMounts[] = {
    {"/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "", true},
    {"/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "", true},
    {"/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=755", true},
    {"/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666,gid=5", true},
    {"/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", true},
    {"/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, "", false},
    {"/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate", true},
    {"/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755", true},
    {"/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", true},
};

// A module that does not load is only reported: what needs it says so later, more clearly.
void load_modules() {
  std::ifstream list(kModuleList);
  std::string path;
  while (std::getline(list, path)) {
    UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid() || (syscall(SYS_finit_module, file.get(), "", 0) != 0 && errno != EEXIST))
      log::warning("cannot load the kernel module {}: {}", path, strerrordesc_np(errno));
    file.reset();
    unlink(path.c_str());  // its memory is the containers'
  }
}

// pivot_root(2) cannot leave the kernel's first root file system, so the guest moves to another one: an empty tmpfs.
Result<void> leave_rootfs() {
  if (mkdir(kNewRoot, 0755) != 0 && errno != EEXIST) return errno_error("cannot make {}", kNewRoot);
  if (mount("root", kNewRoot, "tmpfs", 0, "mode=755") != 0) return errno_error("cannot mount a tmpfs");
  if (chdir(kNewRoot) != 0 || mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || chroot(".") != 0 || chdir("/") != 0)
    return errno_error("cannot change to the new root");
  return {};
}

Result<void> mount_all() {
  for (const MountRow& row : kMounts) {
    TRY(host::mkdir_p(row.target));
    if (mount(row.type, row.target, row.type, row.flags, row.data) == 0) continue;
    if (row.required) return errno_error("cannot mount {} on {}", row.type, row.target);
    log::debug("cannot mount {} on {}: {}", row.type, row.target, strerrordesc_np(errno));
  }
  return {};
}

// Every controller is on for containers. The agent's own cgroup keeps its memory when they use all of theirs. (The kernel kills PID 1 for
// lack of memory never.)
Result<void> set_up_cgroups() {
  TRY(host::mkdir_p(kAgentCgroup));
  TRY(host::write_file(std::string(kAgentCgroup) + "/cgroup.procs", "0"));
  std::string controllers = TRY(host::read_file("/sys/fs/cgroup/cgroup.controllers"));
  std::string wanted;
  for (char* word = strtok(controllers.data(), " \n"); word != nullptr; word = strtok(nullptr, " \n")) wanted += fmt::format("+{} ", word);
  if (!wanted.empty()) TRY(host::write_file("/sys/fs/cgroup/cgroup.subtree_control", wanted));
  if (auto kept = host::write_file(std::string(kAgentCgroup) + "/memory.min", "16777216"); !kept.ok())
    log::debug("{}", kept.error().message());
  return {};
}

Result<void> bring_loopback_up() {
  UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!any.valid()) return errno_error("cannot make a socket");
  ifreq request = {};
  memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP;
  if (ioctl(any.get(), SIOCSIFFLAGS, &request) != 0) return errno_error("cannot bring the loopback interface up");
  return {};
}

void set_limits() {
  // Containers inherit this where their spec has no limit of its own.
  rlimit files = {.rlim_cur = 65536, .rlim_max = 1048576};
  setrlimit(RLIMIT_NOFILE, &files);
  rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_CORE, &none);
  // The kernel's table of open files is everybody's, and small in a small guest: one container could use all of it. Each has its limit by
  // process, and pays by its memory (systemd does the same).
  if (auto raised = host::write_file("/proc/sys/fs/file-max", "9223372036854775807"); !raised.ok())
    log::debug("{}", raised.error().message());
  umask(022);
}

void make_dev_links() {
  constexpr std::pair<const char*, const char*> kLinks[] = {{"/proc/self/fd", "/dev/fd"},
                                                            {"/proc/self/fd/0", "/dev/stdin"},
                                                            {"/proc/self/fd/1", "/dev/stdout"},
                                                            {"/proc/self/fd/2", "/dev/stderr"}};
  for (const auto& [target, link] : kLinks)
    if (symlink(target, link) != 0 && errno != EEXIST) log::debug("cannot make {}", link);
}

}  // namespace

Result<void> initialize_guest() {
  load_modules();
  TRY(leave_rootfs());
  TRY(mount_all());
  make_dev_links();
  TRY(set_up_cgroups());
  TRY(bring_loopback_up());
  set_limits();
  TRY(host::mkdir_p(kShareFolder));
  return {};
}

void end_guest(const Error& error) {
  log::error("the agent ends the guest: {}", error.message());
  sync();
  // With reboot=k and QEMU's -no-reboot this ends the machine on every machine type; power-off needs ACPI.
  reboot(RB_AUTOBOOT);
  _exit(1);  // the kernel panics then, which ends the machine as well
}

}  // namespace caisson::agent
