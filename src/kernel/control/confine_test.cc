// The kernel process as if it had been taken: a process confined by the same functions tries what an intruder would. Each try is made
// twice, before and after: what fails anyway proves nothing.
#include "kernel/control/confine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <set>
#include <vector>

#include "kernel/control/host_mounts.h"
#include "kernel/fs/host/identity.h"
#include "kernel/klog.h"
#include "kernel/net/broker.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kGuest = 1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE;  // no network capability

// What a test's process has, made before it is confined.
struct World {
  UniqueFd root;    // a mount of ours of a folder with "file" and the device node "zero"
  UniqueFd folder;  // the same folder as it is
  UniqueFd place;   // where the root is, if it hears of the node's mounts
};
using Try = std::function<long(World&)>;

constexpr int kWorked = 100, kNoSetup = 101;

struct Confinement {
  uint64_t guests = kGuest;  // capabilities
  bool own_user_namespace = true;
  bool hears = false;  // "below" in the folder is mounted on by the node later
};

// confinement: null: it is left as it is.
Result<World> make_world(const std::string& folder, const Confinement* confinement) {
  World world;
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return host_errno();
  if (mount(folder.c_str(), folder.c_str(), nullptr, MS_BIND, nullptr) != 0) return host_errno();
  world.folder.reset(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const bool hears = confinement != nullptr && confinement->hears;
  if (hears && mount(nullptr, folder.c_str(), nullptr, MS_SHARED, nullptr) != 0) return host_errno();
  TRY(open_own_proc());
  open_network_settings();
  std::vector<OpenMount> mounts =
      open_host_mounts(TRY(read_host_proc("self/mountinfo")), [&](std::string_view point) { return point != folder; });
  let_mounts_hear(mounts);
  for (OpenMount& each : mounts) {
    if (each.mount.point == folder) world.root = std::move(each.fd);
    if (each.mount.type == kHearingPlace) world.place = std::move(each.fd);
  }
  if (hears && mount("none", (folder + "/below").c_str(), "tmpfs", 0, nullptr) != 0) return host_errno();
  if (hears && !UniqueFd(open((folder + "/below/late").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644))) return host_errno();
  if (!world.folder || !world.root) return Errno(ENOENT);
  if (confinement == nullptr) return world;
  TRY(enter_empty_root(confinement->own_user_namespace, brokered_capabilities(confinement->guests)));
  TRY(drop_privileges(confinement->guests));
  TRY(load_host_filter(confinement->guests));
  return world;
}

// In a PID namespace of its own. The outcome: 0 it worked, an errno, or minus the signal that ended the process.
int outcome_of(const std::string& folder, const Confinement* confinement, const Try& attempt) {
  const pid_t outer = fork();
  if (outer == 0) {
    if (unshare(CLONE_NEWPID) != 0) _exit(kNoSetup);
    const pid_t inner = fork();
    if (inner == 0) {
      klog_configure(-1, LogLevel::Error);
      Result<World> world = make_world(folder, confinement);
      if (!world) _exit(kNoSetup);
      const long result = attempt(*world);
      // Not _exit: a device's number and an errno both fit.
      _exit(result >= 0 ? kWorked : errno);
    }
    int status = 0;
    waitpid(inner, &status, 0);
    // A signal cannot be told by the exit status of a PID namespace's first process otherwise.
    _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
  }
  int status = 0;
  waitpid(outer, &status, 0);
  const int code = WEXITSTATUS(status);
  EXPECT_NE(code, kNoSetup) << "the test's process could not be set up";
  return code == kWorked ? 0 : code >= 128 ? -(code - 128) : code;
}

struct Confined : testing::Test {
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    char name[] = "/tmp/confineXXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder = name;
    chmod(name, 0755);
    const UniqueFd file(open((folder + "/file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    ASSERT_TRUE(file);
    ASSERT_EQ(write(file.get(), "content", 7), 7);
    ASSERT_EQ(fchown(file.get(), 1000, 1000), 0);
    ASSERT_EQ(symlink("/etc/passwd", (folder + "/absolute").c_str()), 0);
    ASSERT_EQ(symlink("../../../../etc/passwd", (folder + "/up").c_str()), 0);
    device = mknod((folder + "/zero").c_str(), S_IFCHR | 0666, makedev(1, 5)) == 0;
  }
  void TearDown() override {
    for (const char* name : {"/file", "/absolute", "/up", "/zero", "/made"}) unlink((folder + name).c_str());
    rmdir((folder + "/below").c_str());
    rmdir(folder.c_str());
  }
  int before(const Try& attempt) { return outcome_of(folder, nullptr, attempt); }
  int after(const Try& attempt) { return outcome_of(folder, &confinement, attempt); }
  // It works for root as such, and confined it fails with `error`, or (negative) ends the process.
  void expect_stopped(const char* what, int error, const Try& attempt) {
    EXPECT_EQ(before(attempt), 0) << what;
    EXPECT_EQ(after(attempt), error) << what;
  }

  std::string folder;
  Confinement confinement;
  bool device = false;
};

TEST_F(Confined, StillServesTheContainersFiles) {
  EXPECT_EQ(after([](World& world) { return openat(world.root.get(), "file", O_RDWR | O_NOFOLLOW | O_CLOEXEC); }), 0);
  EXPECT_EQ(after([](World& world) -> long {
              const UniqueFd path(openat(world.root.get(), "file", O_PATH | O_NOFOLLOW | O_CLOEXEC));
              return reopen_host_fd(path.get(), O_RDWR).ok() ? 0 : -1;
            }),
            0);
  // Owners are what they are outside, and any of them can be given and taken on.
  EXPECT_EQ(after([](World& world) -> long {
              struct stat stat;
              if (fstatat(world.root.get(), "file", &stat, AT_SYMLINK_NOFOLLOW) != 0 || stat.st_uid != 1000) return -1;
              if (fchownat(world.root.get(), "file", 70000, 70001, AT_SYMLINK_NOFOLLOW) != 0) return -1;
              Credentials user;
              user.fsuid = 70000;
              user.fsgid = 70001;
              user.effective = 0;
              act_as(user);
              return openat(world.root.get(), "file", O_WRONLY | O_CLOEXEC);
            }),
            0);
  EXPECT_EQ(after([](World&) -> long { return read_host_proc("meminfo").ok() && read_host_proc("self/status").ok() ? 0 : -1; }), 0);
  EXPECT_EQ(after([](World&) -> long { return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }), 0);
}

TEST_F(Confined, TheNetworksSettingsAreReadOnly) {
  for (const bool own_user_namespace : {true, false}) {
    confinement.own_user_namespace = own_user_namespace;
    EXPECT_EQ(after([](World&) -> long { return read_host_proc("sys/net/ipv4/ip_forward").ok() ? 0 : -1; }), 0);
    EXPECT_EQ(after([](World&) -> long {
                for (int fd = 0; fd < 64; ++fd) {
                  if (openat(fd, "ipv4/ip_forward", O_WRONLY | O_CLOEXEC) >= 0) return 0;
                  if (errno == EROFS) return -1;
                }
                errno = ENOENT;
                return -1;
              }),
              EROFS);
  }
}

TEST_F(Confined, AVolumeThatHearsOfTheNodesMountsLeadsNowhereElse) {
  ASSERT_EQ(mkdir((folder + "/below").c_str(), 0755), 0);
  confinement.hears = true;
  EXPECT_EQ(after([](World& world) -> long { return world.place ? openat(world.root.get(), "below/late", O_RDONLY | O_CLOEXEC) : -1; }), 0);
  EXPECT_EQ(after([](World& world) -> long { return openat(world.root.get(), "../../../etc/passwd", O_RDONLY | O_CLOEXEC); }), ENOENT);
  // Above it is a folder with the volumes of this kind, and nothing above that.
  EXPECT_EQ(after([](World& world) -> long {
              const UniqueFd up(openat(world.root.get(), "..", O_PATH | O_CLOEXEC)), further(openat(up.get(), "..", O_PATH | O_CLOEXEC));
              struct stat one, other, volume, root;
              if (fstat(up.get(), &one) != 0 || fstat(further.get(), &other) != 0 || fstat(world.root.get(), &root) != 0) return -1;
              if (one.st_ino != other.st_ino || one.st_dev != other.st_dev || one.st_nlink != 3) return -1;
              if (fstatat(up.get(), "0", &volume, AT_SYMLINK_NOFOLLOW) != 0) return -1;
              return volume.st_ino == root.st_ino && volume.st_dev == root.st_dev ? 0 : -1;
            }),
            0);
  EXPECT_EQ(after([](World& world) -> long { return mkdirat(world.root.get(), "../made", 0755); }), EROFS);
  // What keeps the place is no door.
  EXPECT_EQ(after([](World& world) -> long { return setns(world.place.get(), CLONE_NEWNS); }), -SIGSYS);
}

TEST_F(Confined, NoFileOfTheHostIsReached) {
  for (const bool above : {false, true})
    EXPECT_EQ(after([above](World&) -> long {
                for (int fd = 0; fd < 64; ++fd)
                  if (openat(fd, above ? "../kernel/core_pattern" : "kernel/core_pattern", O_RDONLY | O_CLOEXEC) >= 0) return 0;
                errno = ENOENT;
                return -1;
              }),
              ENOENT)
        << "of /proc/sys there is net only";
  expect_stopped("by its name", EPERM, [](World&) -> long { return open("/etc/passwd", O_RDONLY | O_CLOEXEC); });
  expect_stopped("by an absolute name", ENOENT,
                 [](World& world) -> long { return openat(world.root.get(), "/etc/passwd", O_RDONLY | O_CLOEXEC); });
  expect_stopped("by a symbolic link", ENOENT,
                 [](World& world) -> long { return openat(world.root.get(), "absolute", O_RDONLY | O_CLOEXEC); });
  EXPECT_EQ(before([](World& world) -> long { return openat(world.folder.get(), "up", O_RDONLY | O_CLOEXEC); }), 0);
  EXPECT_EQ(after([](World& world) -> long { return openat(world.root.get(), "up", O_RDONLY | O_CLOEXEC); }), ENOENT);
  EXPECT_EQ(after([](World& world) -> long { return openat(world.root.get(), "../../../etc/passwd", O_RDONLY | O_CLOEXEC); }), ENOENT);
  EXPECT_EQ(after([](World&) -> long { return openat(proc_folder(), "self/root/etc/passwd", O_RDONLY | O_CLOEXEC); }), ENOENT);
  EXPECT_EQ(after([](World&) -> long { return openat(proc_folder(), "1/cwd/etc/passwd", O_RDONLY | O_CLOEXEC); }), ENOENT);
  EXPECT_EQ(before([](World&) -> long { return open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC); }), 0);
  EXPECT_EQ(after([](World&) -> long { return openat(proc_folder(), "sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC); }), ENOENT);
  EXPECT_EQ(after([](World&) -> long {
              for (int fd = 0; fd < 64; ++fd)
                if (openat(fd, "sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC) >= 0) return 0;
              errno = ENOENT;
              return -1;
            }),
            ENOENT)
      << "what was used to set up is still there";
  // The files of the whole machine that are kept: an owner may change modes in /proc.
  for (const bool own_user_namespace : {true, false}) {
    confinement.own_user_namespace = own_user_namespace;
    EXPECT_EQ(after([](World&) -> long {
                int found = 0;
                for (int fd = 0; fd < 64; ++fd) {
                  char path[32];
                  struct statfs fs;
                  struct stat stat;
                  if (fstatfs(fd, &fs) != 0 || fs.f_type != PROC_SUPER_MAGIC || fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) continue;
                  ++found;
                  snprintf(path, sizeof path, "self/fd/%d", fd);
                  if (fchmodat(proc_folder(), path, stat.st_mode & 07777, 0) == 0) return 0;
                  if (errno != EROFS) return -1;
                }
                errno = found > 0 ? EROFS : ENOENT;
                return -1;
              }),
              EROFS);
  }
  confinement = {};
  EXPECT_EQ(after([](World&) -> long { return openat(proc_folder(), "sysrq-trigger", O_WRONLY | O_CLOEXEC); }), ENOENT);
  expect_stopped("a new file in its root", EPERM,
                 [](World&) -> long { return open("/tmp/confine-made", O_CREAT | O_WRONLY | O_CLOEXEC, 0600); });
  unlink("/tmp/confine-made");
}

TEST_F(Confined, DeviceNodesOfTheImageDoNotOpen) {
  if (!device) GTEST_SKIP() << "no device nodes can be made here";
  const Try through = [](World& world) -> long {
    const UniqueFd path(openat(world.root.get(), "zero", O_PATH | O_NOFOLLOW | O_CLOEXEC));
    Result<UniqueFd> opened = reopen_host_fd(path.get(), O_RDONLY);
    if (!opened) errno = opened.error().value;
    return opened ? 0 : -1;
  };
  EXPECT_EQ(before([](World& world) -> long { return openat(world.folder.get(), "zero", O_RDONLY | O_CLOEXEC); }), 0);
  EXPECT_EQ(after(through), EACCES);
  EXPECT_EQ(after([](World& world) -> long { return mknodat(world.root.get(), "made", S_IFCHR | 0666, makedev(1, 5)); }), EPERM);
}

TEST_F(Confined, NothingOfTheHostsInsideIsTouched) {
  expect_stopped("mount", -SIGSYS, [](World&) -> long { return mount("none", "/tmp", "tmpfs", 0, nullptr); });
  expect_stopped("fsopen", -SIGSYS, [](World&) -> long { return fsopen("tmpfs", FSOPEN_CLOEXEC); });
  expect_stopped("unshare", -SIGSYS, [](World&) -> long { return unshare(CLONE_NEWNET); });
  expect_stopped("chroot", -SIGSYS, [](World&) -> long { return chroot("/"); });
  expect_stopped("user namespace", -SIGSYS, [](World&) -> long { return unshare(CLONE_NEWUSER); });
  expect_stopped("chdir out of its root", EPERM,
                 [](World& world) -> long { return fchdir(world.folder.get()) == 0 && chroot(".") == 0 ? 0 : -1; });
  expect_stopped("execve", -SIGSYS, [](World&) -> long {
    // Before: the call is made, and finds nothing.
    char* const arguments[] = {const_cast<char*>("none"), nullptr};
    return execve("/nowhere/none", arguments, arguments) != 0 && errno == ENOENT ? 0 : -1;
  });
  expect_stopped("ptrace", -SIGSYS, [](World&) -> long { return ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); });
  expect_stopped("io_uring", -SIGSYS,
                 [](World&) -> long { return syscall(SYS_io_uring_setup, 0, nullptr) < 0 && errno != ENOSYS ? 0 : -1; });
  // Whether root may do these depends on the machine: only what happens when confined is asked.
  for (const int number :
       {SYS_bpf, SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_setns, SYS_open_by_handle_at, SYS_perf_event_open, SYS_keyctl,
        SYS_reboot, SYS_swapon, SYS_settimeofday, SYS_pidfd_getfd, SYS_userfaultfd, SYS_iopl, SYS_shmget})
    EXPECT_EQ(after([number](World&) { return syscall(number, -1, -1, -1, -1, -1, -1); }), -SIGSYS) << number;
}

// Every row of that kind, and a few numbers that no row has: new calls of the host come so.
TEST_F(Confined, WhatHasNoRowIsRefusedAndWhatIntrudersWantEndsTheProcess) {
  // uretprobe and uprobe, which no filter sees (Linux 6.14): SIGILL for whoever is not probed.
  std::set<int> known = {335, 336};
  for (const CallRow& row : host_calls()) {
    known.insert(row.number);
    if (row.effect != CallEffect::Kill) continue;
    const int number = row.number;
    EXPECT_EQ(after([number](World&) { return syscall(number, -1, -1, -1, -1, -1, -1); }), -SIGSYS) << row.name;
  }
  EXPECT_EQ(after([&known](World&) -> long {
              for (int number = 0; number < 1024; ++number)
                if (!known.contains(number) && (syscall(number, -1, -1, -1, -1, -1, -1) != -1 || errno != EPERM)) return 0;
              errno = EPERM;
              return -1;
            }),
            EPERM)
      << "a call without a row is made";
}

TEST_F(Confined, NoProcessesNoCodeNoSocketsOfTheHost) {
  expect_stopped("fork", EPERM, [](World&) -> long {
    const long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return child;
  });
  expect_stopped("new code", EPERM, [](World&) -> long {
    return mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED ? 0 : -1;
  });
  expect_stopped("code made of data", EPERM, [](World&) -> long {
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(page, 4096, PROT_READ | PROT_EXEC);
  });
  expect_stopped("packets", EPERM, [](World&) -> long { return socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); });
  expect_stopped("raw sockets", EPERM, [](World&) -> long { return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP); });
  expect_stopped("services of the node", EPERM, [](World&) -> long { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); });
  expect_stopped("netfilter", EPERM, [](World&) -> long { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT); });
  EXPECT_EQ(after([](World&) -> long {
              const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
              return setsockopt(fd, IPPROTO_IP, 64 /* IPT_SO_SET_REPLACE */, &fd, sizeof fd);
            }),
            EPERM);
  EXPECT_EQ(after([](World&) -> long { return ioctl(0, TIOCSTI, ""); }), EPERM);
  expect_stopped("signals", EPERM, [](World&) -> long { return kill(getpid(), SIGCONT); });
}

TEST_F(Confined, HasFewCapabilitiesAndNoneOutside) {
  const Try capabilities = [](World&) -> long {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    if (syscall(SYS_capget, &header, data) != 0) return -1;
    const uint64_t permitted = data[0].permitted | static_cast<uint64_t>(data[1].permitted) << 32;
    errno = EINVAL;
    return permitted == kept_capabilities(kGuest) && data[0].inheritable == 0 ? 0 : -1;
  };
  EXPECT_EQ(before(capabilities), EINVAL);
  EXPECT_EQ(after(capabilities), 0);
  EXPECT_EQ(kept_capabilities(0) & (1ULL << CAP_NET_RAW | 1ULL << CAP_NET_ADMIN | 1ULL << CAP_SYS_ADMIN | 1ULL << CAP_SYS_PTRACE), 0u);
  EXPECT_EQ(kept_capabilities(~0ULL) & (1ULL << CAP_NET_RAW | 1ULL << CAP_NET_ADMIN | 1ULL << CAP_SYS_ADMIN), 0u)
      << "what takes one is the broker's";
  const Try status = [](World&) -> long {
    const Result<std::string> text = read_host_proc("self/status");
    errno = EINVAL;
    return text && text->find("NoNewPrivs:\t1\n") != text->npos && text->find("Seccomp:\t2\n") != text->npos ? 0 : -1;
  };
  EXPECT_EQ(before(status), EINVAL);
  EXPECT_EQ(after(status), 0);
}

// What docker and Kubernetes give containers has CAP_NET_RAW in it.
TEST_F(Confined, RawSocketsComeFromTheBrokerAlone) {
  confinement.guests |= 1ULL << CAP_NET_RAW;
  EXPECT_EQ(after([](World&) -> long {
              for (const int family : {AF_INET, AF_INET6, AF_PACKET}) {
                const Result<UniqueFd> fd = pod_broker().open(family, SOCK_RAW, IPPROTO_ICMP);
                if (!fd || fcntl(fd->get(), F_GETFD) != FD_CLOEXEC) return -1;
              }
              return 0;
            }),
            0);
  for (const int family : {AF_INET, AF_INET6, AF_PACKET})
    EXPECT_EQ(after([family](World&) -> long { return socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP); }), EPERM);
  EXPECT_EQ(after([](World&) -> long {
              const Result<UniqueFd> fd = pod_broker().open(AF_UNIX, SOCK_STREAM, 0);
              errno = fd ? 0 : fd.error().value;
              return fd ? 0 : -1;
            }),
            EPROTONOSUPPORT);
  // No network of the node is configured, nor seen through such a socket's rights.
  EXPECT_EQ(after([](World&) -> long {
              const Result<UniqueFd> fd = pod_broker().open(AF_INET, SOCK_RAW, IPPROTO_ICMP);
              const int mark = 1;
              return fd ? setsockopt(fd->get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) : -1;
            }),
            EPERM);
  EXPECT_EQ(after([](World&) -> long {
              const Result<UniqueFd> fd = pod_broker().open(AF_INET, SOCK_RAW, IPPROTO_ICMP);
              ifreq request{};
              strcpy(request.ifr_name, "lo");
              return fd ? ioctl(fd->get(), SIOCSIFFLAGS, &request) : -1;
            }),
            EPERM);
  EXPECT_EQ(after([](World&) -> long {
              // The broker is a process of this PID namespace: nobody may look into it.
              for (pid_t pid = 2; pid < 10; ++pid) {
                char byte = 0;
                iovec ours{&byte, 1}, theirs{reinterpret_cast<void*>(&make_broker_filter), 1};
                if (process_vm_readv(pid, &ours, 1, &theirs, 1, 0) == 1) return 0;
              }
              errno = ESRCH;
              return -1;
            }),
            ESRCH);
}

// A guest that may configure the network.
TEST_F(Confined, TheNetworkIsConfiguredByTheBrokerAlone) {
  confinement.guests |= 1ULL << CAP_NET_ADMIN;
  const auto set_mtu = [](bool brokered) {
    return [brokered](World&) -> long {
      const UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      ifreq request{};
      strcpy(request.ifr_name, "lo");
      if (ioctl(any.get(), SIOCGIFMTU, &request) != 0) return -1;
      if (!brokered) return ioctl(any.get(), SIOCSIFMTU, &request);  // what it is already
      const Result<void> set = pod_broker().ioctl(any.get(), SIOCSIFMTU, {reinterpret_cast<const char*>(&request), sizeof request});
      errno = set ? 0 : set.error().value;
      return set ? 0 : -1;
    };
  };
  EXPECT_EQ(before(set_mtu(false)), 0);
  EXPECT_EQ(after(set_mtu(false)), EPERM);
  EXPECT_EQ(after(set_mtu(true)), 0);
  // A request for the very address that is there: the host looks at the capability first.
  const auto add_address = [](bool brokered) {
    return [=](World&) -> long {
      struct {
        nlmsghdr header{sizeof header + sizeof address + sizeof attribute + sizeof loopback, RTM_NEWADDR,
                        NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, 1, 0};
        ifaddrmsg address{AF_INET, 8, 0, 0, 1};
        rtattr attribute{sizeof attribute + sizeof loopback, IFA_LOCAL};
        in_addr loopback{htonl(INADDR_LOOPBACK)};
      } request;
      const std::span<const char> bytes(reinterpret_cast<const char*>(&request), sizeof request);
      if (!needs_administrator(NETLINK_ROUTE, bytes)) return -1;
      const UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
      if (brokered ? !pod_broker().send(fd.get(), bytes).ok() : send(fd.get(), bytes.data(), bytes.size(), 0) < 0) return -1;
      struct {
        nlmsghdr header;
        nlmsgerr error;
        char rest[256];
      } answer{};
      if (recv(fd.get(), &answer, sizeof answer, 0) < static_cast<ssize_t>(sizeof answer.header + sizeof answer.error)) return -1;
      errno = -answer.error.error;
      return answer.error.error == 0 ? 0 : -1;
    };
  };
  EXPECT_EQ(before(add_address(false)), EEXIST);
  EXPECT_EQ(after(add_address(false)), EPERM);
  EXPECT_EQ(after(add_address(true)), EEXIST);
}

TEST_F(Confined, WithoutTheCapabilityThereIsNoBroker) {
  EXPECT_EQ(after([](World&) -> long {
              const Result<UniqueFd> fd = pod_broker().open(AF_INET, SOCK_RAW, IPPROTO_ICMP);
              errno = fd ? 0 : fd.error().value;
              return fd ? 0 : -1;
            }),
            EPERM);
}

TEST(ExecProcess, HasNothingLeft) {
  const pid_t child = fork();
  if (child == 0) {
    if (!drop_everything(make_exec_filter())) _exit(1);
    if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EPERM) _exit(2);
    if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0 || kill(getpid(), SIGCONT) == 0) _exit(3);
    if (socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0) _exit(4);
    if (syscall(SYS_poll, nullptr, 0, 0) != 0) _exit(5);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(HostRows, EveryRowHasAReasonAndIsCompiled) {
  size_t killed = 0;
  for (const CallRow& row : host_calls()) {
    EXPECT_GT(std::string_view(row.reason).size(), 3u) << row.name;
    killed += row.effect == CallEffect::Kill ? 1 : 0;
  }
  for (const CallRow& row : exec_calls()) EXPECT_GT(std::string_view(row.reason).size(), 3u) << row.name;
  for (const CapabilityRow& row : host_capabilities()) EXPECT_GT(std::string_view(row.reason).size(), 5u) << row.name;
  EXPECT_GT(killed, 50u);
  EXPECT_LT(make_host_filter(~0ULL).size(), 4096u);
}

}  // namespace
}  // namespace caisson::kernel
