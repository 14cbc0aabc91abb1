#include "microvm/check/namespace_proof.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "host/files.h"
#include "host/process.h"

namespace caisson::microvm {
namespace {

#ifndef CLONE_NEWCGROUP
constexpr uint64_t CLONE_NEWCGROUP = 0x02000000;
#endif

// In the child: a container's root, in small.
Result<void> build_root() {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno_error("cannot make mounts private");
  if (mount("caisson-check", "/tmp", "tmpfs", MS_NOSUID, "size=64k") != 0) return errno_error("cannot mount a tmpfs");
  if (chdir("/tmp") != 0 || mkdir("proc", 0755) != 0) return errno_error("cannot use a tmpfs");
  if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) return errno_error("cannot mount /proc");
  if (mknod("null", S_IFCHR | 0666, makedev(1, 3)) != 0) return errno_error("cannot make a device node");
  if (syscall(SYS_pivot_root, ".", ".") != 0) return errno_error("cannot change the root");
  if (umount2(".", MNT_DETACH) != 0) return errno_error("cannot unmount the old root");
  UniqueFd null(open("/null", O_RDWR | O_CLOEXEC));
  if (!null) return errno_error("cannot open a device node");
  if (sethostname("check", 5) != 0) return errno_error("cannot set a host name");
  if (getpid() != 1) return make_error(EIO, "a new PID namespace does not begin with 1");
  return {};
}

}  // namespace

Result<void> prove_namespaces() {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return errno_error("cannot make a pipe");
  UniqueFd reader(pipe_fds[0]), writer(pipe_fds[1]);
  auto child = TRY(host::clone_process(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP));
  if (child.pid == 0) {
    auto built = build_root();
    if (!built) (void)host::write_all(writer.get(), built.error().message());
    _exit(built ? 0 : 1);
  }
  writer.reset();
  auto text = host::read_descriptor(reader.get(), 4096);
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return {};
  return make_error(EPERM, "{}", text && !text->empty() ? *text : "a test process " + host::describe_exit(status));
}

Result<std::string> prove_cgroups() {
  const host::CgroupLayout layout = TRY(host::cgroup_layout());
  host::CgroupPaths paths = TRY(host::cgroup_paths(layout, fmt::format("/caisson-check-{}", getpid())));
  auto made = host::create_cgroup(paths);
  auto child = made ? host::clone_process(0) : Result<host::Cloned>(made.error());
  if (child && child->pid == 0) {
    pause();
    _exit(0);
  }
  Result<void> outcome = child ? host::attach_to_cgroup(paths, child->pid) : Result<void>(child.error());
  if (child) {
    (void)host::send_signal(child->pidfd.get(), SIGKILL);
    waitpid(child->pid, nullptr, 0);
  }
  auto removed = host::remove_cgroup(paths);
  TRY(std::move(outcome));
  TRY(std::move(removed));
  if (layout.version == host::CgroupVersion::V2) return std::string("version 2");
  std::vector<std::string> names;
  for (const auto& [controller, folder] : paths.folders)
    if (!controller.empty()) names.push_back(controller);
  return fmt::format("version 1 ({})", fmt::join(names, ", "));
}

}  // namespace caisson::microvm
