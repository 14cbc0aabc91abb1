#include "kernel/control/confine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "kernel/fs/host/identity.h"
#include "kernel/klog.h"
#include "kernel/net/broker.h"
#include "kernel/net/room_maker.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

constexpr unsigned kSealedMount = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

// A /proc with everything in it, for what is still to be set up; to make one takes a tenth of a millisecond. Gone once there is no way
// back.
UniqueFd g_whole_proc;

struct Setting {
  const char *key, *value;
};

// A file system that is mounted nowhere but in its descriptor.
Result<UniqueFd> make_mount(const char* type, std::initializer_list<Setting> settings, unsigned attributes = kSealedMount) {
  const UniqueFd context(fsopen(type, FSOPEN_CLOEXEC));
  if (!context) return host_errno();
  for (const Setting& setting : settings) TRY(host_result(fsconfig(context.get(), FSCONFIG_SET_STRING, setting.key, setting.value, 0)));
  TRY(host_result(fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0)));
  UniqueFd mount(fsmount(context.get(), FSMOUNT_CLOEXEC, attributes));
  if (!mount) return host_errno();
  return mount;
}

Result<UniqueFd> own_proc() {
  if (Result<UniqueFd> own = make_mount("proc", {{"subset", "pid"}})) return own;
  // In a container's user namespace the host may refuse a new one: the container's own, then, by a mount of ours. (Its uid 0 is nobody
  // there.)
  UniqueFd shared(open_tree(AT_FDCWD, "/proc", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!shared) return host_errno();
  return shared;
}

// Of this process's network namespace, whoever looks: the files ask for that of their reader.
Result<UniqueFd> network_settings() {
  UniqueFd folder(open_tree(g_whole_proc.get(), "sys/net", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  // Before Linux 6.15 a mount that lies nowhere cannot be copied.
  if (!folder) folder.reset(open_tree(AT_FDCWD, "/proc/sys/net", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!folder) return host_errno();
  struct statfs stat {};
  TRY(host_result(fstatfs(folder.get(), &stat)));
  if (stat.f_type != PROC_SUPER_MAGIC) return Errno(ENOENT);
  mount_attr attributes{};
  attributes.attr_set = kSealedMount;
  TRY(host_result(mount_setattr(folder.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes)));
  return folder;
}

Result<void> write_proc(const char* path, std::string_view text) {
  const UniqueFd fd(openat(g_whole_proc.get(), path, O_WRONLY | O_CLOEXEC));
  if (!fd) return host_errno();
  TRY(host_result(write(fd.get(), text.data(), text.size())));
  return {};
}

// Files of it that stay open (host_proc.h) are read-only from now on: who is uid 0 could change the modes of the machine's.
Result<void> seal_whole_proc() {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (g_whole_proc) TRY(host_result(mount_setattr(g_whole_proc.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes)));
  return {};
}

// By a process that is still in the namespace above: only there is the right to map what is not one's own. The errno, or 0.
int map_ids(pid_t process) {
  for (const char* file : {"uid_map", "gid_map"}) {
    char path[64];
    snprintf(path, sizeof path, "%d/%s", process, file);
    if (const Result<void> written = write_proc(path, "0 0 4294967295"); !written) return written.error().value;
  }
  const Result<void> sealed = seal_whole_proc();
  return sealed ? 0 : sealed.error().value;
}

// The helper that stays in the namespace above: it maps ids once this process has left, and then is the broker, or ends.
[[noreturn]] void help_from_above(UniqueFd channel, pid_t process, int root, uint64_t brokered) {
  char go;
  if (read(channel.get(), &go, 1) != 1) _exit(1);
  const int error = map_ids(process);
  if (write(channel.get(), &error, sizeof error) != sizeof error || error != 0 || brokered == 0) _exit(0);
  become_network_broker(std::move(channel), root, process, brokered);
}

Result<void> enter_user_namespace(int root, uint64_t brokered) {
  int ends[2];
  TRY(host_result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)));
  UniqueFd ours(ends[0]), theirs(ends[1]);
  const pid_t self = getpid(), child = fork();
  if (child < 0) return host_errno();
  if (child == 0) {
    ours.reset();
    help_from_above(std::move(theirs), self, root, brokered);
  }
  theirs.reset();
  const Result<long> entered = host_result(unshare(CLONE_NEWUSER));
  await_room_maker();  // before the helper seals /proc
  int error = EPERM;
  if (entered && write(ours.get(), "", 1) == 1 && read(ours.get(), &error, sizeof error) != sizeof error) error = EPERM;
  const bool stays = entered && error == 0 && brokered != 0;
  if (stays) {
    pod_broker().set(std::move(ours), brokered);
    return {};
  }
  ours.reset();
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) continue;
  if (!entered) return entered.error();
  if (error != 0) return Errno(error);
  return {};
}

}  // namespace

Result<void> open_own_proc() {
  // Of the machine as a whole: what guests may read of it, file by file.
  if (Result<UniqueFd> whole = make_mount("proc", {}, kSealedMount & ~MOUNT_ATTR_RDONLY)) {
    keep_host_proc_files(whole->get());
    g_whole_proc = *std::move(whole);
  }
  UniqueFd proc = TRY(own_proc());
  UniqueFd copy(fcntl(proc.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return host_errno();
  set_host_proc(std::move(copy));
  set_proc_folder(proc.release());
  return {};
}

void open_network_settings() {
  if (Result<UniqueFd> folder = network_settings())
    keep_network_settings(*std::move(folder));
  else
    klog(LogLevel::Info, "no /proc/sys/net for guests: %s", strerrordesc_np(folder.error().value));
}

void have_rooms() { start_room_maker(g_whole_proc.get()); }

namespace {

// `root`, a mount that lies nowhere yet, becomes the root of this process's mount namespace, and all else in it goes.
Result<void> leave_mounts_for(int root) {
  TRY(host_result(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr)));
  TRY(host_result(move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH)));
  TRY(host_result(fchdir(root)));
  // pivot_root(2), "pivot_root(".", ".")": the old root comes to lie on the new one, and goes.
  TRY(host_result(syscall(SYS_pivot_root, ".", ".")));
  TRY(host_result(umount2(".", MNT_DETACH)));
  TRY(host_result(chdir("/")));
  return {};
}

// In the namespace that is to be filled. Its descriptor.
Result<UniqueFd> fill_namespace(const UniqueFd& root, std::span<const int> mounts) {
  TRY(leave_mounts_for(root.get()));
  for (size_t i = 0; i < mounts.size(); ++i)
    TRY(host_result(move_mount(mounts[i], "", root.get(), std::to_string(i).c_str(), MOVE_MOUNT_F_EMPTY_PATH)));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  TRY(host_result(mount_setattr(root.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes)));
  UniqueFd space(openat(proc_folder(), "self/ns/mnt", O_RDONLY | O_CLOEXEC));
  if (!space) return host_errno();
  return space;
}

}  // namespace

Result<void> leave_mounts() {
  return leave_mounts_for(TRY(make_mount("tmpfs", {{"mode", "0555"}, {"size", "4k"}, {"nr_inodes", "1"}})).get());
}

Result<UniqueFd> make_mount_namespace(std::span<const int> mounts) {
  const UniqueFd before(openat(proc_folder(), "self/ns/mnt", O_RDONLY | O_CLOEXEC));
  if (!before) return host_errno();
  const std::string inodes = std::to_string(mounts.size() + 1);
  const UniqueFd root = TRY(make_mount("tmpfs", {{"mode", "0555"}, {"nr_inodes", inodes.c_str()}}, kSealedMount & ~MOUNT_ATTR_RDONLY));
  for (size_t i = 0; i < mounts.size(); ++i) TRY(host_result(mkdirat(root.get(), std::to_string(i).c_str(), 0555)));
  TRY(host_result(unshare(CLONE_NEWNS)));
  Result<UniqueFd> space = fill_namespace(root, mounts);
  TRY(host_result(setns(before.get(), CLONE_NEWNS)));
  TRY(host_result(chdir("/")));
  return space;
}

Result<void> enter_empty_root(bool own_user_namespace, uint64_t brokered) {
  const UniqueFd root = TRY(make_mount("tmpfs", {{"mode", "0555"}, {"size", "4k"}, {"nr_inodes", "1"}}));
  // In this order: who has changed its root may not make user namespaces, and who is in one may not make mounts.
  if (own_user_namespace) {
    TRY(enter_user_namespace(root.get(), brokered));
  } else {
    await_room_maker();
    TRY(seal_whole_proc());
    if (brokered != 0) TRY(start_network_broker(root.get(), brokered));
  }
  TRY(host_result(fchdir(root.get())));
  TRY(host_result(chroot(".")));
  TRY(host_result(chdir("/")));
  g_whole_proc.reset();
  return {};
}

Result<void> join_empty_root(int user_namespace) {
  const UniqueFd root = TRY(make_mount("tmpfs", {{"mode", "0555"}, {"size", "4k"}, {"nr_inodes", "1"}}));
  TRY(seal_whole_proc());
  if (user_namespace >= 0) TRY(host_result(setns(user_namespace, CLONE_NEWUSER)));
  TRY(host_result(fchdir(root.get())));
  TRY(host_result(chroot(".")));
  TRY(host_result(chdir("/")));
  g_whole_proc.reset();
  return {};
}

bool can_have_user_namespace() {
  // A container that has one by its config.json is in it by now.
  const Result<std::string> map = read_host_proc("self/uid_map");
  unsigned inside = 1, outside = 1, count = 0;
  return map && sscanf(map->c_str(), "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 && count == ~0U;
}

Result<void> open_low_ports() { return write_proc("sys/net/ipv4/ip_unprivileged_port_start", "0"); }

Result<void> drop_privileges(uint64_t guests) {
  const uint64_t keep = kept_capabilities(guests);
  TRY(limit_capabilities(keep, keep));
  TRY(host_result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
  TRY(host_result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)));
  return {};
}

Result<void> drop_everything(const std::vector<sock_filter>& filter) {
  // First: the kernel process, which may be taken, must never be able to look at this one.
  TRY(host_result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)));
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  TRY(host_result(syscall(SYS_capset, &header, data)));
  TRY(host_result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
  const sock_fprog program{static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
  TRY(host_result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)));
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
