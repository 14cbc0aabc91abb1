// Namespaces: what they hide, and who may make and enter them. namespaces(7), pid_namespaces(7), user_namespaces(7), mount_namespaces(7).
#include <fcntl.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"

namespace {

std::string host_name() {
  char name[65] = {};
  OK(gethostname(name, sizeof name));
  return name;
}

void write_text(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY);
  if (fd < 0 && errno == ENOENT) skip_test("there is no /proc");
  OK(fd);
  EQ(write(fd, text.data(), text.size()), text.size());
  close(fd);
}

int open_space(const char* name) {
  const int fd = open((std::string("/proc/self/ns/") + name).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) skip_test("there is no /proc");
  return OK(fd);
}

// A mount namespace of its own, from which nothing gets out.
void own_mounts() {
  OK(unshare(CLONE_NEWNS));
  OK(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
}

void make_folder(const char* path) {
  if (mkdir(path, 0755) != 0) EQ(errno, EEXIST);
}

bool exists(const char* path) { return access(path, F_OK) == 0; }

// The first process of a new PID namespace; its number here.
pid_t start_init(const std::function<void()>& body) {
  OK(unshare(CLONE_NEWPID));
  return start_child(body);
}

}  // namespace

TEST(namespace, uts) {
  const std::string before = host_name();
  EQ(in_child([&] {
       OK(unshare(CLONE_NEWUTS));
       CHECK(host_name() == before);
       OK(sethostname("inside", 6));
       CHECK(host_name() == "inside");
       EQ(in_child([] { CHECK(host_name() == "inside"); }), 0);
     }),
     0);
  CHECK(host_name() == before);
}

TEST(namespace, enter_uts) {
  const int old = open_space("uts");
  EQ(ioctl(old, NS_GET_NSTYPE), CLONE_NEWUTS);
  struct stat first {
  }, second{};
  OK(fstat(old, &first));
  const std::string before = host_name();
  OK(unshare(CLONE_NEWUTS));
  OK(sethostname("other", 5));
  const int fresh = open_space("uts");
  OK(fstat(fresh, &second));
  CHECK(first.st_ino != second.st_ino);
  EQ(first.st_dev, second.st_dev);
  FAILS(setns(old, CLONE_NEWIPC), EINVAL);
  FAILS(setns(-1, 0), EBADF);
  OK(setns(old, CLONE_NEWUTS));
  CHECK(host_name() == before);
  OK(setns(fresh, 0));
  CHECK(host_name() == "other");
  int fds[2];
  OK(pipe(fds));
  FAILS(setns(fds[0], 0), EINVAL);
}

TEST(namespace, enter_by_pidfd) {
  int ready[2], over[2];
  OK(pipe(ready));
  OK(pipe(over));
  const pid_t child = start_child([&] {
    OK(unshare(CLONE_NEWUTS | CLONE_NEWIPC));
    OK(sethostname("pidfd", 5));
    EQ(write(ready[1], "x", 1), 1);
    char byte;
    close(over[1]);
    EQ(read(over[0], &byte, 1), 0);
  });
  char byte;
  EQ(read(ready[0], &byte, 1), 1);
  const int pidfd = static_cast<int>(OK(syscall(SYS_pidfd_open, child, 0)));
  FAILS(setns(pidfd, 0), EINVAL);
  OK(setns(pidfd, CLONE_NEWUTS | CLONE_NEWIPC));
  CHECK(host_name() == "pidfd");
  close(over[1]);
  EQ(wait_child(child), 0);
}

TEST(namespace, ipc) {
  constexpr key_t kKey = 0x7e57;
  const int queue = OK(msgget(kKey, IPC_CREAT | 0600));
  EQ(in_child([] {
       OK(unshare(CLONE_NEWIPC));
       FAILS(msgget(kKey, 0), ENOENT);
       OK(msgget(kKey, IPC_CREAT | IPC_EXCL | 0600));
     }),
     0);
  EQ(msgget(kKey, 0), queue);
  OK(msgctl(queue, IPC_RMID, nullptr));
}

TEST(namespace, pids) {
  int numbers[2];
  OK(pipe(numbers));
  const pid_t init = start_init([&] {
    EQ(getpid(), 1);
    EQ(syscall(SYS_gettid), 1);
    EQ(getppid(), 0);
    const pid_t child = start_child([] {
      EQ(getppid(), 1);
      EQ(getpid(), 2);
      OK(kill(getpid(), 0));
      FAILS(kill(100000, 0), ESRCH);
    });
    EQ(child, 2);
    EQ(wait_child(child), 0);
  });
  CHECK(init > 1);
  // Its number here is another; threads of ours could not be in it.
  FAILS(unshare(CLONE_NEWPID), EINVAL);
  FAILS(syscall(SYS_clone, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0), EINVAL);
  EQ(wait_child(init), 0);
  // With its first process the namespace has died.
  FAILS(fork(), ENOMEM);
}

TEST(namespace, init_ends_all) {
  int alive[2];
  OK(pipe(alive));
  const pid_t init = start_init([&] {
    for (int i = 0; i < 3; ++i)
      start_child([] {
        signal(SIGTERM, SIG_IGN);
        for (;;) pause();
      });
    _exit(7);
  });
  close(alive[1]);
  EQ(wait_child(init), 7);
  // Everybody has gone by then: nobody holds the other end.
  OK(fcntl(alive[0], F_SETFL, O_NONBLOCK));
  char byte;
  EQ(read(alive[0], &byte, 1), 0);
}

TEST(namespace, init_takes_orphans) {
  int told[2];
  OK(pipe(told));
  const pid_t init = start_init([&] {
    const pid_t child = start_child([&] {
      start_child([&] {
        // The parent goes; then the namespace's first process is it.
        while (getppid() != 1) sched_yield();
        EQ(write(told[1], "x", 1), 1);
      });
    });
    EQ(wait_child(child), 0);
    int status;
    EQ(OK(wait(&status)), 3);
    EQ(status, 0);
  });
  EQ(wait_child(init), 0);
  char byte;
  EQ(read(told[0], &byte, 1), 1);
}

TEST(namespace, init_is_immune_from_inside) {
  int ready[2];
  OK(pipe(ready));
  const pid_t init = start_init([&] {
    EQ(in_child([] {
         OK(kill(1, SIGTERM));
         OK(kill(1, SIGKILL));
       }),
       0);
    EQ(write(ready[1], "x", 1), 1);
    for (;;) pause();
  });
  char byte;
  EQ(read(ready[0], &byte, 1), 1);
  OK(kill(init, SIGTERM));
  FAILS(waitpid(init, nullptr, WNOHANG) == 0 ? (errno = 0, -1) : 0, 0);
  OK(kill(init, SIGKILL));
  EQ(wait_child(init), 128 + SIGKILL);
}

namespace {
volatile int g_sender = -1;
void remember(int, siginfo_t* info, void*) { g_sender = info->si_pid; }
}  // namespace

TEST(namespace, signals_tell_visible_numbers) {
  struct sigaction action {};
  action.sa_sigaction = remember;
  action.sa_flags = SA_SIGINFO;
  OK(sigaction(SIGUSR1, &action, nullptr));
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  OK(sigprocmask(SIG_BLOCK, &set, &old));
  const pid_t init = start_init([&] {
    // From outside: a sender without a number.
    while (g_sender == -1) sigsuspend(&old);
    EQ(g_sender, 0);
  });
  OK(kill(init, SIGUSR1));
  EQ(wait_child(init), 0);
}

TEST(namespace, messages_tell_visible_numbers) {
  int pair[2];
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  const int one = 1;
  OK(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
  const pid_t init = start_init([&] { EQ(send(pair[1], "x", 1, 0), 1); });
  char byte, control[CMSG_SPACE(sizeof(ucred))];
  iovec vector{&byte, 1};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  EQ(recvmsg(pair[0], &message, 0), 1);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  CHECK(header != nullptr && header->cmsg_type == SCM_CREDENTIALS);
  ucred who;
  memcpy(&who, CMSG_DATA(header), sizeof who);
  EQ(who.pid, init);
  EQ(wait_child(init), 0);
}

TEST(namespace, groups_and_sessions) {
  const pid_t init = start_init([] {
    // Those of the parent have no number here.
    EQ(getpgid(0), 0);
    EQ(getsid(0), 0);
    EQ(setsid(), 1);
    EQ(getpgid(0), 1);
    const pid_t child = start_child([] {
      OK(setpgid(0, 0));
      EQ(getpgrp(), 2);
      EQ(getsid(0), 1);
    });
    int status;
    EQ(waitpid(child, &status, 0), 2);
    EQ(status, 0);
  });
  EQ(wait_child(init), 0);
}

TEST(namespace, mounts_are_copied) {
  make_folder("m");
  EQ(in_child([] {
       own_mounts();
       OK(mount("none", "m", "tmpfs", 0, "size=1m"));
       EQ(in_child([] { close(OK(open("m/file", O_CREAT | O_WRONLY, 0644))); }), 0);
       CHECK(exists("m/file"));
     }),
     0);
  CHECK(!exists("m/file"));
}

TEST(namespace, peers_hear_of_mounts) {
  own_mounts();
  for (const char* folder : {"a", "b", "c"}) make_folder(folder);
  OK(mount("none", "a", "tmpfs", 0, "size=1m"));
  OK(mount("none", "a", nullptr, MS_SHARED, nullptr));
  make_folder("a/x");
  OK(mount("a", "b", nullptr, MS_BIND, nullptr));
  OK(mount("none", "a/x", "tmpfs", 0, "size=1m"));
  close(OK(open("b/x/file", O_CREAT | O_WRONLY, 0644)));
  CHECK(exists("a/x/file"));
  OK(umount("b/x"));
  CHECK(!exists("a/x/file"));
  FAILS(umount("a/x"), EINVAL);
  // A slave hears, and is not heard.
  OK(mount("none", "b", nullptr, MS_SLAVE, nullptr));
  OK(mount("none", "b/x", "tmpfs", 0, "size=1m"));
  close(OK(open("b/x/own", O_CREAT | O_WRONLY, 0644)));
  CHECK(!exists("a/x/own"));
  OK(umount("b/x"));
  OK(mount("none", "a/x", "tmpfs", 0, "size=1m"));
  close(OK(open("a/x/masters", O_CREAT | O_WRONLY, 0644)));
  CHECK(exists("b/x/masters"));
  // A copy of a slave is one, too; and one that is private does not hear.
  OK(mount("b", "c", nullptr, MS_BIND, nullptr));
  CHECK(!exists("c/x/masters"));
  OK(umount("a/x"));
  CHECK(!exists("b/x/masters"));
  OK(mount("none", "b", nullptr, MS_PRIVATE, nullptr));
  OK(mount("none", "a/x", "tmpfs", 0, "size=1m"));
  close(OK(open("a/x/again", O_CREAT | O_WRONLY, 0644)));
  CHECK(!exists("b/x/again"));
  CHECK(exists("c/x/again"));
}

TEST(namespace, unbindable) {
  own_mounts();
  for (const char* folder : {"a", "b"}) make_folder(folder);
  OK(mount("none", "a", "tmpfs", 0, "size=1m"));
  OK(mount("none", "a", nullptr, MS_UNBINDABLE, nullptr));
  FAILS(mount("a", "b", nullptr, MS_BIND, nullptr), EINVAL);
  OK(mount("none", "a", nullptr, MS_PRIVATE, nullptr));
  OK(mount("a", "b", nullptr, MS_BIND, nullptr));
  FAILS(mount("none", "a", nullptr, MS_PRIVATE | MS_SHARED, nullptr), EINVAL);
}

TEST(namespace, shared_mounts_reach_other_namespaces) {
  own_mounts();
  make_folder("a");
  OK(mount("none", "a", "tmpfs", 0, "size=1m"));
  OK(mount("none", "a", nullptr, MS_SHARED, nullptr));
  make_folder("a/x");
  int ready[2], go[2];
  OK(pipe(ready));
  OK(pipe(go));
  const pid_t child = start_child([&] {
    OK(unshare(CLONE_NEWNS));
    EQ(write(ready[1], "x", 1), 1);
    char byte;
    EQ(read(go[0], &byte, 1), 1);
    CHECK(exists("a/x/file"));
    OK(umount("a/x"));
  });
  char byte;
  EQ(read(ready[0], &byte, 1), 1);
  OK(mount("none", "a/x", "tmpfs", 0, "size=1m"));
  close(OK(open("a/x/file", O_CREAT | O_WRONLY, 0644)));
  EQ(write(go[1], "x", 1), 1);
  EQ(wait_child(child), 0);
  CHECK(!exists("a/x/file"));
}

TEST(namespace, recursive_binds_and_moves) {
  own_mounts();
  for (const char* folder : {"a", "b", "c"}) make_folder(folder);
  OK(mount("none", "a", "tmpfs", 0, "size=1m"));
  make_folder("a/x");
  OK(mount("none", "a/x", "tmpfs", 0, "size=1m"));
  close(OK(open("a/x/file", O_CREAT | O_WRONLY, 0644)));
  OK(mount("a", "b", nullptr, MS_BIND, nullptr));
  CHECK(exists("b/x") && !exists("b/x/file"));
  OK(umount("b"));
  OK(mount("a", "b", nullptr, MS_BIND | MS_REC, nullptr));
  CHECK(exists("b/x/file"));
  FAILS(umount("b"), EBUSY);
  OK(mount("b", "c", nullptr, MS_MOVE, nullptr));
  CHECK(!exists("b/x") && exists("c/x/file"));
  FAILS(mount("c", "c/x", nullptr, MS_MOVE, nullptr), ELOOP);
  OK(umount2("c", MNT_DETACH));
  CHECK(!exists("c/x"));
  // Out of a shared parent nothing is moved.
  OK(mount("none", "a", nullptr, MS_SHARED, nullptr));
  FAILS(mount("a/x", "b", nullptr, MS_MOVE, nullptr), EINVAL);
}

TEST(namespace, pivot_root) {
  own_mounts();
  make_folder("root");
  FAILS(syscall(SYS_pivot_root, "root", "root"), EBUSY);
  OK(mount("none", "root", "tmpfs", 0, "size=1m"));
  make_folder("root/old");
  close(OK(open("root/here", O_CREAT | O_WRONLY, 0644)));
  OK(chdir("root"));
  OK(syscall(SYS_pivot_root, ".", "old"));
  CHECK(exists("/here"));
  CHECK(exists("/old"));
  OK(umount2("/old", MNT_DETACH));
  CHECK(!exists("/old/root"));
  OK(chdir("/"));
  CHECK(exists("../here"));
  // As engines do it: without a folder for the old root.
  make_folder("/next");
  OK(mount("none", "/next", "tmpfs", 0, "size=1m"));
  OK(chdir("/next"));
  close(OK(open("there", O_CREAT | O_WRONLY, 0644)));
  OK(syscall(SYS_pivot_root, ".", "."));
  OK(umount2(".", MNT_DETACH));
  OK(chdir("/"));
  CHECK(exists("/there") && !exists("/here"));
}

TEST(namespace, users) {
  EQ(in_child([] {
       OK(unshare(CLONE_NEWUSER));
       EQ(getuid(), 65534);
       EQ(geteuid(), 65534);
       struct stat stat {};
       OK(::stat(".", &stat));
       EQ(stat.st_uid, 65534);
       FAILS(setuid(0), EINVAL);
       FAILS(setgroups(0, nullptr), EPERM);
       write_text("/proc/self/setgroups", "deny");
       write_text("/proc/self/uid_map", "7 0 1");
       write_text("/proc/self/gid_map", "8 0 1");
       EQ(getuid(), 7);
       EQ(getgid(), 8);
       OK(::stat(".", &stat));
       EQ(stat.st_uid, 7);
       FAILS(setgroups(0, nullptr), EPERM);
       FAILS(setuid(9), EINVAL);
       const int fd = OK(open("/proc/self/uid_map", O_WRONLY));
       FAILS(write(fd, "0 0 1", 5), EPERM);
     }),
     0);
}

TEST(namespace, user_gives_what_is_its_own) {
  chmod(".", 0777);
  make_folder("m");
  EQ(in_child([] {
       OK(prctl(PR_SET_DUMPABLE, 1));
       OK(setgid(1000));
       OK(setuid(1000));
       OK(prctl(PR_SET_DUMPABLE, 1));
       FAILS(unshare(CLONE_NEWUTS), EPERM);
       FAILS(sethostname("x", 1), EPERM);
       if (unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS) != 0) skip_test("this place does not let a user make namespaces");
       write_text("/proc/self/setgroups", "deny");
       write_text("/proc/self/uid_map", "0 1000 1");
       write_text("/proc/self/gid_map", "0 1000 1");
       EQ(getuid(), 0);
       OK(sethostname("x", 1));
       OK(mount("none", "m", "tmpfs", 0, "size=1m"));
       close(OK(open("m/file", O_CREAT | O_WRONLY, 0644)));
       struct stat stat {};
       OK(::stat("m/file", &stat));
       EQ(stat.st_uid, 0);
       // Nothing that belongs to all: devices, raised limits, priorities.
       FAILS(mknod("m/device", S_IFCHR | 0666, 0x103), EPERM);
       FAILS(nice(-5) == -1 ? -1 : 0, EPERM);
       FAILS(chown("m/file", 5, 5), EINVAL);
       OK(unshare(CLONE_NEWPID));
       EQ(in_child([] { EQ(getpid(), 1); }), 0);
     }),
     0);
}

TEST(namespace, users_nest_32_deep) {
  int depth = 0;
  while (unshare(CLONE_NEWUSER) == 0) {
    write_text("/proc/self/uid_map", "0 0 1");
    write_text("/proc/self/setgroups", "deny");
    write_text("/proc/self/gid_map", "0 0 1");
    CHECK(++depth <= 33);
  }
  EQ(errno, ENOSPC);
  CHECK(depth >= 31);
}

TEST(namespace, what_is_not_allowed) {
  FAILS(unshare(1), EINVAL);
  FAILS(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
  FAILS(syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
  FAILS(syscall(SYS_clone, CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0), EINVAL);
}

// pid_namespaces(7), "reboot(2)": the namespace ends, and its first process as if by a signal. Only ever called by the first process of a
// namespace of its own, in a user namespace of its own.
TEST(namespace, reboot_ends_it) {
  for (const auto& [command, signal] : {std::pair{0x4321fedcU, SIGINT}, std::pair{0xcdef0123U, SIGINT}, std::pair{0x01234567U, SIGHUP}})
    EQ(in_child([&, command = command, signal = signal] {
         if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) skip_test("may not make namespaces");
         const pid_t init = start_child([&] {
           if (getpid() != 1) _exit(1);
           FAILS(reboot(static_cast<int>(0x89abcdefU)), EINVAL);
           // Whoever in it asks for it.
           const pid_t child = start_child([&] {
             reboot(static_cast<int>(command));
             _exit(2);
           });
           wait_child(child);
           for (;;) pause();
         });
         EQ(wait_child(init), 128 + signal);
       }),
       0);
}
