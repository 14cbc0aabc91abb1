// Questions about the process itself: who it is, what it may do, what it inherited.
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cstring>

#include "testinit.h"

extern char** environ;

namespace caisson::testinit {
namespace {

Json ids(Args) {
  uid_t ruid, euid, suid;
  gid_t rgid, egid, sgid;
  check(::getresuid(&ruid, &euid, &suid), "getresuid");
  check(::getresgid(&rgid, &egid, &sgid), "getresgid");
  gid_t groups[1024];
  long count = check(::getgroups(1024, groups), "getgroups");
  return Object()
      .set("uid", ruid)
      .set("euid", euid)
      .set("suid", suid)
      .set("fsuid", ::setfsuid(-1))
      .set("gid", rgid)
      .set("egid", egid)
      .set("sgid", sgid)
      .set("fsgid", ::setfsgid(-1))
      .set("groups", Json::list(std::vector<gid_t>(groups, groups + count)));
}

Json umask_now(Args) {
  mode_t mask = ::umask(0);
  ::umask(mask);
  return mask;
}

// The five capability sets as numbers (bit n: capability n).
Json caps(Args) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  check(::syscall(SYS_capget, &header, data), "capget");
  auto both = [&](auto member) { return data[0].*member | static_cast<uint64_t>(data[1].*member) << 32; };
  uint64_t bounding = 0, ambient = 0;
  for (int cap = 0; cap < 64; cap++) {
    if (::prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1) bounding |= 1ULL << cap;
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1) ambient |= 1ULL << cap;
  }
  return Object()
      .set("effective", both(&__user_cap_data_struct::effective))
      .set("permitted", both(&__user_cap_data_struct::permitted))
      .set("inheritable", both(&__user_cap_data_struct::inheritable))
      .set("bounding", bounding)
      .set("ambient", ambient);
}

Json rlimits(Args) {
  static constexpr std::pair<const char*, int> kLimits[] = {{"RLIMIT_CPU", RLIMIT_CPU},           {"RLIMIT_FSIZE", RLIMIT_FSIZE},
                                                            {"RLIMIT_DATA", RLIMIT_DATA},         {"RLIMIT_STACK", RLIMIT_STACK},
                                                            {"RLIMIT_CORE", RLIMIT_CORE},         {"RLIMIT_RSS", RLIMIT_RSS},
                                                            {"RLIMIT_NPROC", RLIMIT_NPROC},       {"RLIMIT_NOFILE", RLIMIT_NOFILE},
                                                            {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},   {"RLIMIT_AS", RLIMIT_AS},
                                                            {"RLIMIT_LOCKS", RLIMIT_LOCKS},       {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
                                                            {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},
                                                            {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},     {"RLIMIT_RTTIME", RLIMIT_RTTIME}};
  Object limits;
  for (auto [name, resource] : kLimits) {
    rlimit limit{};
    check(::getrlimit(resource, &limit), "getrlimit");
    limits.set(name, Json::list(std::vector<uint64_t>{limit.rlim_cur, limit.rlim_max}));
  }
  return limits;
}

Json security(Args) {
  return Object()
      .set("no_new_privs", check(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), "PR_GET_NO_NEW_PRIVS"))
      .set("securebits", check(::prctl(PR_GET_SECUREBITS), "PR_GET_SECUREBITS"))
      .set("keepcaps", check(::prctl(PR_GET_KEEPCAPS), "PR_GET_KEEPCAPS"))
      .set("dumpable", check(::prctl(PR_GET_DUMPABLE), "PR_GET_DUMPABLE"))
      .set("seccomp_mode", ::prctl(PR_GET_SECCOMP));
}

Json env(Args) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; variable++) variables.emplace_back(*variable);
  return Json::list(variables);
}

Json cwd(Args) {
  char path[4096];
  if (::getcwd(path, sizeof path) == nullptr) fail("getcwd");
  return path;
}

Json pids(Args) {
  int death_signal = 0;
  ::prctl(PR_GET_PDEATHSIG, &death_signal);
  int subreaper = 0;
  ::prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
  return Object()
      .set("pid", ::getpid())
      .set("ppid", ::getppid())
      .set("pgid", ::getpgrp())
      .set("sid", ::getsid(0))
      .set("tid", ::gettid())
      .set("parent_death_signal", death_signal)
      .set("subreaper", subreaper);
}

Json tty(Args) {
  std::vector<Json> streams;
  for (int fd = 0; fd < 3; fd++) {
    winsize size{};
    bool sized = ::ioctl(fd, TIOCGWINSZ, &size) == 0;
    char name[256] = "";
    if (::ttyname_r(fd, name, sizeof name) != 0) name[0] = 0;
    struct stat status {};
    ::fstat(fd, &status);
    Object stream;
    stream.set("isatty", ::isatty(fd) == 1).set("name", name).set("uid", status.st_uid).set("mode", status.st_mode & 07777);
    if (sized) stream.set("rows", size.ws_row).set("columns", size.ws_col);
    streams.push_back(stream);
  }
  int controlling = ::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
  Object result;
  result.set("streams", Json::list(streams)).set("controlling", controlling >= 0);
  if (controlling >= 0) {
    result.set("foreground", ::tcgetpgrp(controlling));
    termios settings{};
    if (::tcgetattr(controlling, &settings) == 0)
      result.set("onlcr", (settings.c_oflag & ONLCR) != 0).set("echo", (settings.c_lflag & ECHO) != 0);
    ::close(controlling);
  }
  return result;
}

// Open descriptors, found without /proc.
Json fds(Args) {
  std::vector<Json> open;
  for (int fd = 0; fd < 4096; fd++) {
    int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0) continue;
    struct stat status {};
    ::fstat(fd, &status);
    static constexpr std::pair<mode_t, const char*> kTypes[] = {{S_IFREG, "file"},  {S_IFDIR, "dir"},  {S_IFCHR, "char"},
                                                                {S_IFBLK, "block"}, {S_IFIFO, "pipe"}, {S_IFSOCK, "socket"}};
    const char* type = "anon";
    for (auto [bits, name] : kTypes)
      if ((status.st_mode & S_IFMT) == bits) type = name;
    open.push_back(Object()
                       .set("fd", fd)
                       .set("type", type)
                       .set("cloexec", (flags & FD_CLOEXEC) != 0)
                       .set("flags", ::fcntl(fd, F_GETFL))
                       .set("inode", status.st_ino));
  }
  return Json::list(open);
}

// read-fd FD: what can be read from an inherited descriptor.
Json read_fd(Args args) {
  char buffer[4096];
  long got = check(::read(number(arg(args, 0)), buffer, sizeof buffer), "read");
  return std::string(buffer, got);
}

Json signals(Args) {
  sigset_t blocked;
  check(::sigprocmask(SIG_BLOCK, nullptr, &blocked), "sigprocmask");
  std::vector<int> masked, ignored;
  for (int sig = 1; sig <= SIGRTMAX; sig++) {
    if (::sigismember(&blocked, sig) == 1) masked.push_back(sig);
    struct sigaction action {};
    if (::sigaction(sig, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) ignored.push_back(sig);
  }
  return Object().set("blocked", Json::list(masked)).set("ignored", Json::list(ignored));
}

Json oom_score_adj(Args) { return number(read_all("/proc/self/oom_score_adj").substr(0, read_all("/proc/self/oom_score_adj").find('\n'))); }

struct SchedAttr {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

Json scheduler(Args) {
  SchedAttr attr{};
  check(::syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0), "sched_getattr");
  cpu_set_t set;
  check(::sched_getaffinity(0, sizeof set, &set), "sched_getaffinity");
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return Object()
      .set("policy", attr.policy)
      .set("flags", attr.flags)
      .set("nice", attr.nice)
      .set("priority", attr.priority)
      .set("runtime", attr.runtime)
      .set("deadline", attr.deadline)
      .set("period", attr.period)
      .set("cpus", Json::list(cpus));
}

Json io_priority(Args) {
  long value = check(::syscall(SYS_ioprio_get, 1 /* IOPRIO_WHO_PROCESS */, 0), "ioprio_get");
  return Object().set("class", value >> 13).set("level", value & 0x1fff);
}

Json personality_now(Args) { return check(::personality(0xffffffff), "personality"); }

// Serial number and description of the session keyring.
Json keyring(Args) {
  long serial = check(::syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0), "keyctl");
  char description[256] = "";
  check(::syscall(SYS_keyctl, KEYCTL_DESCRIBE, serial, description, sizeof description), "KEYCTL_DESCRIBE");
  return Object().set("serial", serial).set("description", description);
}

// forks N: how many children can live at the same time, at most N.
Json forks(Args args) {
  long wanted = number(arg(args, 0));
  std::vector<pid_t> children;
  int error = 0;
  for (long i = 0; i < wanted; i++) {
    pid_t child = ::fork();
    if (child == 0) {
      ::pause();
      ::_exit(0);
    }
    if (child < 0) {
      error = errno;
      break;
    }
    children.push_back(child);
  }
  for (pid_t child : children) ::kill(child, SIGKILL);
  for (pid_t child : children) ::waitpid(child, nullptr, 0);
  return Object().set("alive", children.size()).set("errno", error == 0 ? Json() : Json(errno_name(error)));
}

// run PROGRAM ARG...: its exit status and what it printed (standard output and error together).
Json run_program(Args args) {
  arg(args, 0);
  int pipe[2];
  check(::pipe2(pipe, O_CLOEXEC), "pipe2");
  pid_t child = static_cast<pid_t>(check(::fork(), "fork"));
  if (child == 0) {
    ::dup2(pipe[1], 1);
    ::dup2(pipe[1], 2);
    std::vector<char*> words;
    for (const std::string& word : args) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execvp(words[0], words.data());
    ::_exit(127);
  }
  ::close(pipe[1]);
  std::string output;
  char buffer[4096];
  for (ssize_t got; (got = ::read(pipe[0], buffer, sizeof buffer)) > 0;) output.append(buffer, got);
  ::close(pipe[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  Object result;
  result.set("output", output);
  if (WIFSIGNALED(status)) return result.set("signal", WTERMSIG(status));
  return result.set("status", WEXITSTATUS(status));
}

constexpr Question kQuestions[] = {
    {"ids", "", ids},
    {"umask", "", umask_now},
    {"caps", "", caps},
    {"rlimits", "", rlimits},
    {"security", "", security},
    {"env", "", env},
    {"cwd", "", cwd},
    {"pids", "", pids},
    {"tty", "", tty},
    {"fds", "", fds},
    {"read-fd", "FD", read_fd},
    {"signals", "", signals},
    {"oom_score_adj", "", oom_score_adj},
    {"scheduler", "", scheduler},
    {"io_priority", "", io_priority},
    {"personality", "", personality_now},
    {"keyring", "", keyring},
    {"forks", "N", forks},
    {"run", "PROGRAM [ARG...]", run_program},
};

}  // namespace

std::span<const Question> process_questions() { return kQuestions; }

}  // namespace caisson::testinit
