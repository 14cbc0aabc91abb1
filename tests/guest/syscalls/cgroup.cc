// Control groups, version 2 (cgroups(7)).
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <vector>

#include "harness.h"

namespace {

constexpr uint64_t kIntoCgroup = 0x200000000ULL;

std::string read_text(const std::string& path) {
  const int fd = OK(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[16384];
  const ssize_t size = OK(read(fd, text, sizeof text));
  close(fd);
  return std::string(text, static_cast<size_t>(size));
}

// One write; 0 or its errno.
int write_text(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int error = write(fd, text.data(), text.size()) < 0 ? errno : 0;
  close(fd);
  return error;
}

bool has_line(const std::string& text, const std::string& line) { return ("\n" + text).find("\n" + line + "\n") != std::string::npos; }
bool is_in(const std::string& group, pid_t pid) { return has_line(read_text(group + "/cgroup.procs"), std::to_string(pid)); }

long number_in(const std::string& path, const std::string& name) {
  const std::string text = "\n" + read_text(path);
  const size_t at = text.find("\n" + name + " ");
  CHECK(at != text.npos);
  return atol(text.c_str() + at + name.size() + 2);
}

// A group of the test's own, in a mount of its own; removed with its groups in the end.
class TestGroup {
 public:
  TestGroup() : test_(getpid()) {
    if (unshare(CLONE_NEWNS) != 0) skip_test("may not make namespaces");
    OK(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
    OK(mkdir("groups", 0755));
    if (mount("cgroup2", "groups", "cgroup2", 0, nullptr) != 0) skip_test("cgroup2 cannot be mounted");
    path_ = "groups/caisson-test-" + std::to_string(getpid());
    if (mkdir(path_.c_str(), 0755) != 0) skip_test("no group can be made");
  }
  ~TestGroup() { remove(); }
  [[noreturn]] void skip(const char* why) const {
    remove();
    skip_test(why);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  std::string make(const std::string& name) const {
    OK(mkdir((*this / name).c_str(), 0755));
    return *this / name;
  }

 private:
  void remove() const {
    if (getpid() != test_) return;
    for (const char* name : {"/a/b", "/a", "/c", ""}) rmdir((path_ + name).c_str());
    umount("groups");
    rmdir("groups");
  }
  pid_t test_;
  std::string path_;
};

// A child that waits to be killed.
pid_t start_waiting_child() {
  return start_child([] {
    for (;;) pause();
  });
}
void end_child(pid_t pid) {
  OK(kill(pid, SIGKILL));
  EQ(wait_child(pid), 128 + SIGKILL);
}

pid_t clone_into(int fd) {
  struct {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
  } arguments{};
  arguments.flags = kIntoCgroup;
  arguments.exit_signal = SIGCHLD;
  arguments.cgroup = static_cast<uint64_t>(fd);
  return static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof arguments));
}

}  // namespace

TEST(cgroup, folders) {
  const TestGroup group;
  const std::string a = group.make("a");
  for (const char* name : {"cgroup.controllers", "cgroup.events", "cgroup.freeze", "cgroup.max.depth", "cgroup.max.descendants",
                           "cgroup.procs", "cgroup.stat", "cgroup.subtree_control", "cgroup.threads", "cgroup.type", "cpu.stat"})
    OK(access((a + "/" + name).c_str(), R_OK));
  EQ(read_text(a + "/cgroup.type") == "domain\n", true);
  EQ(read_text(a + "/cgroup.procs").size(), 0);
  EQ(number_in(a + "/cgroup.events", "populated"), 0);
  EQ(number_in(group / "cgroup.stat", "nr_descendants"), 1);
  struct stat status;
  OK(stat(a.c_str(), &status));
  EQ(status.st_mode, S_IFDIR | 0755);
  OK(stat((a + "/cgroup.procs").c_str(), &status));
  EQ(status.st_mode, S_IFREG | 0644);
  OK(stat(group.path().c_str(), &status));
  EQ(status.st_nlink, 3);
  FAILS(mkdir(a.c_str(), 0755), EEXIST);
  FAILS(mkdir((a + "/cgroup.procs").c_str(), 0755), EEXIST);
  FAILS(mkdir((a + "/x\ny").c_str(), 0755), EINVAL);
  FAILS(open((a + "/file").c_str(), O_CREAT | O_RDWR, 0644), EACCES);
  FAILS(symlink("x", (a + "/link").c_str()), EPERM);
  FAILS(unlink((a + "/cgroup.procs").c_str()), EPERM);
  FAILS(rmdir((a + "/cgroup.procs").c_str()), ENOTDIR);
  FAILS(rename(a.c_str(), (group / "other").c_str()), EPERM);
  OK(mkdir((a + "/b").c_str(), 0700));
  FAILS(rmdir(a.c_str()), EBUSY);
  const int file = OK(open((a + "/b/cgroup.procs").c_str(), O_RDONLY));
  OK(rmdir((a + "/b").c_str()));
  char text[16];
  FAILS(read(file, text, sizeof text), ENODEV);
  FAILS(rmdir((a + "/b").c_str()), ENOENT);
  OK(rmdir(a.c_str()));
}

TEST(cgroup, moving) {
  const TestGroup group;
  const std::string a = group.make("a"), c = group.make("c");
  const pid_t child = start_waiting_child();
  EQ(write_text(a + "/cgroup.procs", std::to_string(child) + "\n"), 0);
  CHECK(is_in(a, child));
  CHECK(!is_in(c, child));
  EQ(number_in(a + "/cgroup.events", "populated"), 1);
  EQ(number_in(group / "cgroup.events", "populated"), 1);
  EQ(number_in(c + "/cgroup.events", "populated"), 0);
  FAILS(rmdir(a.c_str()), EBUSY);
  EQ(write_text(c + "/cgroup.procs", std::to_string(child)), 0);
  OK(rmdir(a.c_str()));
  CHECK(is_in(c, child));
  EQ(has_line(read_text(c + "/cgroup.threads"), std::to_string(child)), true);
  EQ(write_text(c + "/cgroup.procs", "1999999999"), ESRCH);
  EQ(write_text(c + "/cgroup.procs", "x"), EINVAL);
  EQ(write_text(c + "/cgroup.procs", "-1"), EINVAL);
  // 0: who writes.
  EQ(in_child([&] {
       EQ(write_text(c + "/cgroup.procs", "0"), 0);
       CHECK(is_in(c, getpid()));
       // Children begin where their parents are.
       const pid_t grandchild = start_waiting_child();
       CHECK(is_in(c, grandchild));
       end_child(grandchild);
       CHECK(!is_in(c, grandchild));
     }),
     0);
  end_child(child);
  EQ(number_in(c + "/cgroup.events", "populated"), 0);
  OK(rmdir(c.c_str()));
}

TEST(cgroup, events_are_told) {
  const TestGroup group;
  const std::string a = group.make("a");
  const int file = OK(open((a + "/cgroup.events").c_str(), O_RDONLY));
  char text[64];
  OK(pread(file, text, sizeof text, 0));
  const int told = OK(inotify_init1(IN_NONBLOCK));
  OK(inotify_add_watch(told, (a + "/cgroup.events").c_str(), IN_MODIFY));
  pollfd entry{file, POLLPRI, 0};
  EQ(poll(&entry, 1, 0), 0);
  const pid_t child = start_waiting_child();
  EQ(write_text(a + "/cgroup.procs", std::to_string(child)), 0);
  EQ(poll(&entry, 1, 5000), 1);
  EQ(entry.revents & POLLPRI, POLLPRI);
  OK(pread(file, text, sizeof text, 0));
  EQ(poll(&entry, 1, 0), 0);
  const pid_t killer = start_child([&] { OK(kill(child, SIGKILL)); });
  EQ(poll(&entry, 1, 5000), 1);
  EQ(wait_child(child), 128 + SIGKILL);
  EQ(wait_child(killer), 0);
  EQ(number_in(a + "/cgroup.events", "populated"), 0);
  pollfd events{told, POLLIN, 0};
  EQ(poll(&events, 1, 5000), 1);
  alignas(inotify_event) char buffer[1024];
  CHECK(read(told, buffer, sizeof buffer) >= static_cast<ssize_t>(sizeof(inotify_event)));
  EQ(reinterpret_cast<inotify_event*>(buffer)->mask, IN_MODIFY);
  close(told);
  close(file);
}

TEST(cgroup, clone_into) {
  const TestGroup group;
  const std::string a = group.make("a");
  const int folder = OK(open(a.c_str(), O_RDONLY | O_DIRECTORY));
  const pid_t child = OK(clone_into(folder));
  if (child == 0) _exit(is_in(a, getpid()) ? 0 : 1);
  EQ(wait_child(child), 0);
  const int file = OK(open((a + "/cgroup.procs").c_str(), O_RDONLY));
  FAILS(clone_into(file), EBADF);
  FAILS(clone_into(1000), EBADF);
  const int other = OK(open(".", O_RDONLY | O_DIRECTORY));
  FAILS(clone_into(other), EBADF);
  OK(rmdir(a.c_str()));
  FAILS(clone_into(folder), ENOENT);
}

TEST(cgroup, kill) {
  const TestGroup group;
  const std::string a = group.make("a");
  OK(mkdir((a + "/b").c_str(), 0755));
  if (access((a + "/cgroup.kill").c_str(), W_OK) != 0) group.skip("no cgroup.kill before Linux 5.14");
  const pid_t upper = start_waiting_child(), lower = start_waiting_child(), other = start_waiting_child();
  EQ(write_text(a + "/cgroup.procs", std::to_string(upper)), 0);
  EQ(write_text(a + "/b/cgroup.procs", std::to_string(lower)), 0);
  EQ(write_text(a + "/cgroup.kill", "0"), ERANGE);
  EQ(write_text(a + "/cgroup.kill", "1"), 0);
  EQ(wait_child(upper), 128 + SIGKILL);
  EQ(wait_child(lower), 128 + SIGKILL);
  EQ(waitpid(other, nullptr, WNOHANG), 0);
  end_child(other);
}

TEST(cgroup, freeze) {
  const TestGroup group;
  const std::string a = group.make("a");
  OK(mkdir((a + "/b").c_str(), 0755));
  // One waits in a call, one counts.
  int fds[2];
  OK(pipe2(fds, O_NONBLOCK));
  OK(signal(SIGUSR1, [](int) { _exit(7); }) == SIG_ERR ? -1 : 0);
  const pid_t waiting = start_child([] {
    for (;;) pause();
  });
  const pid_t counting = start_child([&] {
    for (;;) {
      char text[4096];
      while (read(fds[0], text, sizeof text) > 0) continue;
      OK(write(fds[1], "x", 1));
    }
  });
  EQ(write_text(a + "/cgroup.procs", std::to_string(waiting)), 0);
  EQ(write_text(a + "/b/cgroup.procs", std::to_string(counting)), 0);
  EQ(write_text(a + "/cgroup.freeze", "2"), ERANGE);
  EQ(write_text(a + "/cgroup.freeze", "1"), 0);
  CHECK(becomes_true([&] { return number_in(a + "/cgroup.events", "frozen") == 1; }));
  CHECK(becomes_true([&] { return number_in(a + "/b/cgroup.events", "frozen") == 1; }));
  EQ(number_in(group / "cgroup.events", "frozen"), 0);
  EQ(read_text(a + "/b/cgroup.freeze") == "0\n", true);
  // Whoever comes in stands still, too.
  const pid_t late = start_waiting_child();
  EQ(write_text(a + "/cgroup.procs", std::to_string(late)), 0);
  CHECK(becomes_true([&] { return number_in(a + "/cgroup.events", "frozen") == 1; }));
  // The counter does not count.
  char text[4096];
  while (read(fds[0], text, sizeof text) > 0) continue;
  FAILS(read(fds[0], text, sizeof text), EAGAIN);
  // A signal waits, but for what ends the process without asking it.
  OK(kill(waiting, SIGUSR1));
  OK(kill(late, SIGTERM));
  EQ(wait_child(late), 128 + SIGTERM);
  const pid_t last = OK(clone_into(OK(open(a.c_str(), O_RDONLY | O_DIRECTORY))));
  if (last == 0) _exit(0);
  EQ(waitpid(last, nullptr, WNOHANG), 0);
  end_child(last);
  EQ(waitpid(waiting, nullptr, WNOHANG), 0);
  EQ(write_text(a + "/cgroup.freeze", "0"), 0);
  EQ(wait_child(waiting), 7);
  EQ(number_in(a + "/cgroup.events", "frozen"), 0);
  CHECK(becomes_true([&] { return read(fds[0], text, 1) == 1; }));
  end_child(counting);
}

TEST(cgroup, limits_of_the_tree) {
  const TestGroup group;
  const std::string a = group.make("a");
  EQ(read_text(a + "/cgroup.max.depth") == "max\n", true);
  EQ(write_text(a + "/cgroup.max.depth", "0"), 0);
  FAILS(mkdir((a + "/b").c_str(), 0755), EAGAIN);
  EQ(write_text(a + "/cgroup.max.depth", "max"), 0);
  EQ(write_text(a + "/cgroup.max.depth", "-1"), ERANGE);
  EQ(write_text(a + "/cgroup.max.depth", "x"), EINVAL);
  EQ(write_text(group / "cgroup.max.descendants", "1"), 0);
  FAILS(mkdir((a + "/b").c_str(), 0755), EAGAIN);
  EQ(write_text(group / "cgroup.max.descendants", "2"), 0);
  OK(mkdir((a + "/b").c_str(), 0755));
}

// Whoever has been given a part of the tree may move processes within it, and no further.
TEST(cgroup, delegation) {
  const TestGroup group;
  const std::string a = group.make("a"), c = group.make("c");
  OK(chown(a.c_str(), 1000, 1000));
  OK(chown((a + "/cgroup.procs").c_str(), 1000, 1000));
  struct stat status;
  OK(stat((a + "/cgroup.procs").c_str(), &status));
  EQ(status.st_uid, 1000);
  const int before = OK(open((c + "/cgroup.procs").c_str(), O_WRONLY));
  EQ(in_child([&] {
       EQ(write_text(a + "/cgroup.procs", "0"), 0);
       OK(setresgid(1000, 1000, 1000));
       OK(setresuid(1000, 1000, 1000));
       OK(mkdir((a + "/b").c_str(), 0755));
       struct stat made;
       OK(stat((a + "/b/cgroup.procs").c_str(), &made));
       EQ(made.st_uid, 1000);
       EQ(write_text(a + "/b/cgroup.procs", "0"), 0);
       CHECK(is_in(a + "/b", getpid()));
       EQ(write_text(c + "/cgroup.procs", "0"), EACCES);
       FAILS(mkdir((c + "/x").c_str(), 0755), EACCES);
       EQ(write_text(group / "cgroup.procs", "0"), EACCES);
       // The rights of who has opened the file count.
       EQ(write(before, "0", 1), 1);
     }),
     0);
}

TEST(cgroup, controllers) {
  const TestGroup group;
  const std::string a = group.make("a");
  EQ(write_text(group / "cgroup.subtree_control", "+nonsense"), EINVAL);
  EQ(write_text(group / "cgroup.subtree_control", "pids"), EINVAL);
  EQ(write_text(a + "/cgroup.type", "nonsense"), EINVAL);
  // What the group does not have itself, it cannot give.
  EQ(read_text(a + "/cgroup.controllers").size(), 0);
  if ((" " + read_text("groups/cgroup.controllers")).find(" pids") != std::string::npos)
    EQ(write_text(a + "/cgroup.subtree_control", "+pids"), ENOENT);
}

TEST(cgroup, pids) {
  const TestGroup group;
  if ((" " + read_text("groups/cgroup.controllers")).find(" pids") == std::string::npos) group.skip("pids is no controller of version 2");
  if (write_text("groups/cgroup.subtree_control", "+pids") != 0) group.skip("pids cannot be had here");
  EQ(write_text(group / "cgroup.subtree_control", "+pids"), 0);
  const std::string a = group.make("a");
  EQ(write_text(a + "/pids.max", "x"), EINVAL);
  EQ(write_text(a + "/pids.max", "2"), 0);
  EQ(read_text(a + "/pids.max") == "2\n", true);
  EQ(in_child([&] {
       EQ(write_text(a + "/cgroup.procs", "0"), 0);
       const pid_t child = start_waiting_child();
       EQ(read_text(a + "/pids.current") == "2\n", true);
       EQ(number_in(a + "/pids.events", "max"), 0);
       FAILS(fork(), EAGAIN);
       EQ(number_in(a + "/pids.events", "max"), 1);
       end_child(child);
       EQ(read_text(a + "/pids.current") == "1\n", true);
     }),
     0);
  EQ(read_text(a + "/pids.current") == "0\n", true);
  OK(rmdir(a.c_str()));
}

// No processes where children have controllers of whole processes.
TEST(cgroup, no_internal_processes) {
  const TestGroup group;
  if ((" " + read_text("groups/cgroup.controllers")).find(" memory") == std::string::npos)
    group.skip("memory is no controller of version 2");
  if (write_text("groups/cgroup.subtree_control", "+memory") != 0) group.skip("memory cannot be had here");
  const std::string a = group.make("a");
  const pid_t child = start_waiting_child();
  EQ(write_text(group / "cgroup.procs", std::to_string(child)), 0);
  EQ(write_text(group / "cgroup.subtree_control", "+memory"), EBUSY);
  EQ(write_text(a + "/cgroup.procs", std::to_string(child)), 0);
  EQ(write_text(group / "cgroup.subtree_control", "+memory"), 0);
  EQ(write_text(group / "cgroup.procs", std::to_string(child)), EBUSY);
  EQ(read_text(a + "/cgroup.controllers").find("memory") != std::string::npos, true);
  CHECK(atol(read_text(a + "/memory.current").c_str()) > 0);
  end_child(child);
}

// What members have used stays when they have ended or gone.
TEST(cgroup, cpu_time) {
  const TestGroup group;
  const std::string a = group.make("a"), c = group.make("c");
  const auto work = [] {
    const clock_t end = clock() + CLOCKS_PER_SEC / 10;
    while (clock() < end) continue;
  };
  EQ(in_child([&] {
       EQ(write_text(a + "/cgroup.procs", "0"), 0);
       work();
       EQ(write_text(c + "/cgroup.procs", "0"), 0);
       work();
     }),
     0);
  for (const std::string& each : {a, c}) {
    const long used = number_in(each + "/cpu.stat", "usage_usec");
    CHECK(used >= 90'000);
    CHECK(used < 5'000'000);
    const long parts = number_in(each + "/cpu.stat", "user_usec") + number_in(each + "/cpu.stat", "system_usec");
    CHECK(labs(used - parts) <= 2);
  }
  CHECK(number_in(group / "cpu.stat", "usage_usec") >= 180'000);
  OK(rmdir(a.c_str()));
  CHECK(number_in(group / "cpu.stat", "usage_usec") >= 180'000);
}

// cgroup_namespaces(7).
TEST(cgroup, namespaces) {
  const TestGroup group;
  const std::string a = group.make("a");
  if (access("/proc/self/cgroup", R_OK) != 0) group.skip("no /proc");
  const auto place = [](pid_t pid) {
    const std::string text = "\n" + read_text("/proc/" + (pid == 0 ? "self" : std::to_string(pid)) + "/cgroup");
    const size_t at = text.find("\n0::");
    CHECK(at != text.npos);
    return text.substr(at + 4, text.find('\n', at + 4) - at - 4);
  };
  const pid_t outside = start_waiting_child();
  EQ(write_text(group / "cgroup.procs", std::to_string(outside)), 0);
  EQ(in_child([&] {
       EQ(write_text(a + "/cgroup.procs", "0"), 0);
       CHECK(place(0).ends_with(group.path().substr(6) + "/a"));
       OK(unshare(CLONE_NEWCGROUP));
       EQ(place(0) == "/", true);
       EQ(place(outside) == "/..", true);
       OK(mkdir((a + "/b").c_str(), 0755));
       OK(mkdir("inside", 0755));
       OK(mount("cgroup2", "inside", "cgroup2", 0, nullptr));
       CHECK(is_in("inside", getpid()));
       OK(access("inside/b/cgroup.procs", W_OK));
       EQ(write_text("inside/b/cgroup.procs", "0"), 0);
       EQ(place(0) == "/b", true);
       EQ(place(getppid()) != "/", true);
       EQ(write_text("inside/cgroup.procs", "0"), 0);
       OK(rmdir("inside/b"));
       OK(umount("inside"));
       OK(rmdir("inside"));
     }),
     0);
  end_child(outside);
}

// Nonsense in every file that can be written: it is refused or taken, and nothing else.
TEST(cgroup, nonsense) {
  const TestGroup group;
  const std::string a = group.make("a");
  const std::string texts[] = {"",
                               " ",
                               "\n",
                               "-",
                               "+",
                               "+ +",
                               "-1",
                               "0x10",
                               "1 1",
                               "99999999999999999999",
                               "max max",
                               "~",
                               "1.5",
                               "+pids",
                               "-pids,",
                               "\xff",
                               "maxx",
                               "0\n0\n",
                               std::string(5000, '1'),
                               std::string(70000, 'x'),
                               std::string("1\0", 2),
                               std::string(300, '+')};
  for (const char* name : {"cgroup.freeze", "cgroup.max.depth", "cgroup.max.descendants", "cgroup.procs", "cgroup.subtree_control",
                           "cgroup.threads", "cgroup.type", "cgroup.events", "cpu.stat", "pids.max", "memory.current"})
    for (const std::string& text : texts) {
      // An own process that is moved by accident must not keep the group.
      if (strcmp(name, "cgroup.procs") == 0 && (text.empty() || text[0] == '0' || text[0] == '1')) continue;
      write_text(a + "/" + name, text);
    }
  EQ(write_text(a + "/cgroup.freeze", "0"), 0);
  EQ(write_text(a + "/cgroup.max.descendants", "max"), 0);
  CHECK(!is_in(a, getpid()));
  OK(rmdir(a.c_str()));
}

// Processes that come, go, end and are frozen at once: the counts are right in the end.
TEST(cgroup, many_at_once) {
  const TestGroup group;
  const std::string a = group.make("a"), c = group.make("c");
  OK(mkdir((a + "/b").c_str(), 0755));
  const std::string places[] = {a, c, a + "/b"};
  std::vector<pid_t> children;
  for (unsigned worker = 0; worker < 4; ++worker)
    children.push_back(start_child([&, worker] {
      unsigned random = worker + 1;
      const auto next = [&random](unsigned most) { return (random = random * 1103515245 + 12345) / 65536 % most; };
      for (int i = 0; i < 60; ++i) {
        EQ(write_text(places[next(3)] + "/cgroup.procs", "0"), 0);
        const pid_t child = start_child([] {});
        write_text(places[next(3)] + "/cgroup.procs", std::to_string(child));
        if (worker == 0) {
          const std::string own = group / ("own" + std::to_string(i));
          OK(mkdir(own.c_str(), 0755));
          // Frozen: a place that nobody who freezes is in.
          if (i % 4 == 0) {
            const pid_t still = start_waiting_child();
            EQ(write_text(own + "/cgroup.freeze", "1"), 0);
            EQ(write_text(own + "/cgroup.procs", std::to_string(still)), 0);
            if (i % 8 == 0) EQ(write_text(own + "/cgroup.freeze", "0"), 0);
            end_child(still);
          }
          OK(rmdir(own.c_str()));
        }
        EQ(wait_child(child), 0);
      }
    }));
  for (const pid_t child : children) EQ(wait_child(child), 0);
  for (const std::string& place : places) {
    EQ(number_in(place + "/cgroup.events", "populated"), 0);
    EQ(number_in(place + "/cgroup.events", "frozen"), 0);
  }
  EQ(number_in(group / "cgroup.stat", "nr_descendants"), 3);
  OK(rmdir((a + "/b").c_str()));
  OK(rmdir(a.c_str()));
  OK(rmdir(c.c_str()));
}
