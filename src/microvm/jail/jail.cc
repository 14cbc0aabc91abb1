#include "microvm/jail/jail.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "host/files.h"
#include "host/process.h"
#include "microvm/jail/jail_root.h"

namespace caisson::microvm {
namespace {

Result<void> set_descriptors(const JailSpec& spec, int control) {
  UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null || dup2(null.get(), 0) < 0 || dup2(spec.output, 1) < 0 || dup2(spec.output, 2) < 0)
    return errno_error("cannot set the standard streams");
  // Whatever else this process has open, by whoever's mistake, does not get through exec.
  if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) return errno_error("cannot close descriptors");
  for (int fd : spec.descriptors)
    if (fd == control || fcntl(fd, F_SETFD, 0) != 0) return errno_error("cannot pass descriptor {}", fd);
  return {};
}

Result<void> set_limits() {
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return errno_error("cannot set a resource limit");
  // A file server holds a descriptor for every file that the guest's kernel remembers.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return errno_error("cannot read a resource limit");
  files.rlim_cur = files.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &files) != 0) return errno_error("cannot set a resource limit");
  return {};
}

// Leaves just these capabilities, in every set, so that they get through exec also for a user other than root (capabilities(7), "ambient").
Result<void> set_privileges(const JailSpec& spec) {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; ++capability)
    if (std::find(spec.capabilities.begin(), spec.capabilities.end(), capability) == spec.capabilities.end() &&
        prctl(PR_CAPBSET_DROP, capability) != 0)
      return errno_error("cannot drop capability {}", capability);
  if (prctl(PR_SET_KEEPCAPS, 1) != 0) return errno_error("cannot keep capabilities");
  if (syscall(SYS_setgroups, 0, nullptr) != 0 || setresgid(spec.gid, spec.gid, spec.gid) != 0 ||
      setresuid(spec.uid, spec.uid, spec.uid) != 0)
    return errno_error("cannot become user {}", spec.uid);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  for (int capability : spec.capabilities) {
    auto& half = data[capability / 32];
    half.effective = half.permitted = half.inheritable |= 1U << (capability % 32);
  }
  if (syscall(SYS_capset, &header, data) != 0) return errno_error("cannot set capabilities");
  // Root has them from the bounding set.
  for (int capability : spec.capabilities)
    if (spec.uid != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0)
      return errno_error("cannot keep capability {}", capability);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error("cannot forbid new privileges");
  return {};
}

// Waits for the word to go on. The parent may have died before the death signal was set, or may give up: no word comes then.
Result<void> wait_for_go(int control) {
  char byte = 0;
  ssize_t count = -1;
  do count = read(control, &byte, 1);
  while (count < 0 && errno == EINTR);
  if (count != 1) _exit(1);
  return {};
}

Result<void> prepare(const JailSpec& spec, int control) {
  host::reset_signals();
  setsid();
  umask(022);
  TRY(set_limits());
  TRY(enter_jail_root(spec));
  TRY(set_descriptors(spec, control));
  if (spec.confined) TRY(set_privileges(spec));
  // After the last change of credentials, which clears it.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return errno_error("cannot set the parent's death signal");
  TRY(wait_for_go(control));
  if (spec.confined) TRY(load_syscall_filter(spec.syscalls));
  return {};
}

[[noreturn]] void run_child(const JailSpec& spec, int control) {
  auto ready = prepare(spec, control);
  Error failure(EIO, "");
  if (ready) {
    std::vector<char*> arguments;
    for (const std::string& argument : spec.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    char* environment[] = {const_cast<char*>("PATH=/usr/bin:/bin"), const_cast<char*>("LC_ALL=C"), nullptr};
    execve(arguments[0], arguments.data(), environment);
    failure = errno_error("cannot execute {}", spec.arguments[0]);
  } else {
    failure = std::move(ready).error();
  }
  (void)host::write_all(control, failure.message());
  _exit(127);
}

}  // namespace

Result<Jailed> start_jailed(const JailSpec& spec) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) return errno_error("cannot make a socket pair");
  UniqueFd ours(sockets[0]), theirs(sockets[1]);
  const uint64_t namespaces = spec.confined ? CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS : 0;
  auto cloned = host::clone_process(namespaces);
  if (!cloned) return std::move(cloned).error().within(fmt::format("cannot start {}", spec.what));
  if (cloned->pid == 0) {
    ours.reset();
    run_child(spec, theirs.get());
  }
  return Jailed{cloned->pid, std::move(cloned->pidfd), std::move(ours)};
}

JailUser find_jail_user(const std::string& name) {
  // No getpwnam: this program is static, and a name service has no say in this.
  auto text = host::read_file("/etc/passwd");
  if (!text) return {};
  for (size_t at = 0; at < text->size();) {
    const size_t end = std::min(text->find('\n', at), text->size());
    const std::string_view line(text->data() + at, end - at);
    at = end + 1;
    if (!line.starts_with(name + ":")) continue;
    const size_t uid = line.find(':', name.size() + 1), gid = line.find(':', uid == std::string_view::npos ? uid : uid + 1);
    if (gid == std::string_view::npos) continue;
    JailUser user{.exists = true};
    if (std::from_chars(line.data() + uid + 1, line.data() + gid, user.uid).ec != std::errc()) continue;
    if (std::from_chars(line.data() + gid + 1, line.data() + line.size(), user.gid).ec != std::errc()) continue;
    // Root in all but name would be no jail.
    if (user.uid != 0 && user.gid != 0) return user;
  }
  return {};
}

}  // namespace caisson::microvm
