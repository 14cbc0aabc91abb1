#include "container/seccomp.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace caisson::container {
namespace {

oci::Seccomp profile(std::vector<oci::SeccompSyscall> rules, const char* default_action = "SCMP_ACT_ALLOW") {
  oci::Seccomp seccomp;
  seccomp.default_action = default_action;
  seccomp.syscalls = std::move(rules);
  return seccomp;
}

std::string failure(const oci::Seccomp& seccomp) {
  Result<SeccompFilter> filter = compile_seccomp(seccomp);
  return filter.ok() ? "" : filter.error().message();
}

// The wait status of a child that loads the filter and then runs body (its result is the exit status).
template <typename Body>
int status_under(const oci::Seccomp& seccomp, Body body) {
  Result<SeccompFilter> filter = compile_seccomp(seccomp);
  EXPECT_TRUE(filter.ok()) << filter.error().message();
  if (!filter.ok()) return -1;
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!load_seccomp(*filter).ok()) _exit(99);
    _exit(body());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

int exit_under(const oci::Seccomp& seccomp, int (*body)()) {
  int status = status_under(seccomp, body);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int errno_of_getppid() { return syscall(SYS_getppid) < 0 ? errno : 0; }

TEST(Seccomp, ErrnoWithDefaultAndGivenValues) {
  EXPECT_EQ(exit_under(profile({{{"getppid"}, "SCMP_ACT_ERRNO", std::nullopt, {}}}), errno_of_getppid), EPERM);
  EXPECT_EQ(exit_under(profile({{{"getppid"}, "SCMP_ACT_ERRNO", ENOENT, {}}}), errno_of_getppid), ENOENT);
  EXPECT_EQ(exit_under(profile({}), errno_of_getppid), 0);
}

TEST(Seccomp, DefaultErrnoRet) {
  // With the calls that AddressSanitizer makes at any time.
  oci::Seccomp seccomp = profile({{{"exit_group", "prctl", "exit", "rt_sigreturn", "mmap", "munmap", "mprotect", "madvise", "futex",
                                    "gettid", "getpid", "sched_yield", "sigaltstack", "rt_sigprocmask", "write"},
                                   "SCMP_ACT_ALLOW",
                                   std::nullopt,
                                   {}}},
                                 "SCMP_ACT_ERRNO");
  seccomp.default_errno_ret = ENOSYS;
  EXPECT_EQ(exit_under(seccomp, errno_of_getppid), ENOSYS);
}

TEST(Seccomp, KillsAndTraps) {
  auto call = [] { return errno_of_getppid(); };
  for (const char* action : {"SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"}) {
    int status = status_under(profile({{{"getppid"}, action, std::nullopt, {}}}), call);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << action << " " << status;
  }
}

TEST(Seccomp, LogAndTrace) {
  EXPECT_EQ(exit_under(profile({{{"getppid"}, "SCMP_ACT_LOG", std::nullopt, {}}}), errno_of_getppid), 0);
  EXPECT_EQ(exit_under(profile({{{"getppid"}, "SCMP_ACT_TRACE", 7, {}}}), errno_of_getppid), ENOSYS);  // without a tracer
}

// setpriority(which, who, value): arguments that do no harm.
int call_with(unsigned long value) { return syscall(SYS_getpriority, 0, 0, value) < 0 ? errno : 0; }

TEST(Seccomp, EveryOperator) {
  struct Case {
    const char* op;
    uint64_t value, value_two;
    int at_4, at_5, at_6;  // whether the rule matches
  };
  for (const Case& each : {Case{"SCMP_CMP_NE", 5, 0, 1, 0, 1},
                           {"SCMP_CMP_LT", 5, 0, 1, 0, 0},
                           {"SCMP_CMP_LE", 5, 0, 1, 1, 0},
                           {"SCMP_CMP_EQ", 5, 0, 0, 1, 0},
                           {"SCMP_CMP_GE", 5, 0, 0, 1, 1},
                           {"SCMP_CMP_GT", 5, 0, 0, 0, 1},
                           {"SCMP_CMP_MASKED_EQ", 1, 1, 0, 1, 0}}) {
    oci::Seccomp seccomp = profile({{{"getpriority"}, "SCMP_ACT_ERRNO", 77, {{2, each.value, each.value_two, each.op}}}});
    int status = status_under(seccomp, [] { return (call_with(4) == 77) | (call_with(5) == 77) << 1 | (call_with(6) == 77) << 2; });
    EXPECT_EQ(WEXITSTATUS(status), each.at_4 | each.at_5 << 1 | each.at_6 << 2) << each.op;
  }
}

TEST(Seccomp, SeveralArgumentsMustAllMatchButOneTwiceIsAnAlternative) {
  auto both = profile({{{"getpriority"}, "SCMP_ACT_ERRNO", 77, {{2, 5, 0, "SCMP_CMP_EQ"}, {1, 1, 0, "SCMP_CMP_EQ"}}}});
  EXPECT_EQ(WEXITSTATUS(status_under(both, [] { return call_with(5); })), 0);
  auto either = profile({{{"getpriority"}, "SCMP_ACT_ERRNO", 77, {{2, 5, 0, "SCMP_CMP_EQ"}, {2, 6, 0, "SCMP_CMP_EQ"}}}});
  EXPECT_EQ(WEXITSTATUS(status_under(either, [] { return (call_with(4) == 77) | (call_with(5) == 77) << 1 | (call_with(6) == 77) << 2; })),
            6);
}

TEST(Seccomp, UnknownNamesAreLeftOut) {
  EXPECT_EQ(exit_under(profile({{{"no_such_call", "getppid"}, "SCMP_ACT_ERRNO", 5, {}}}), errno_of_getppid), 5);
}

TEST(Seccomp, ErrorsNameTheMember) {
  EXPECT_NE(failure(profile({}, "SCMP_ACT_MAYBE")).find("linux.seccomp.defaultAction"), std::string::npos);
  EXPECT_NE(failure(profile({{{"read"}, "X", {}, {}}})).find("linux.seccomp.syscalls[0]"), std::string::npos);
  EXPECT_NE(failure(profile({{{"read"}, "SCMP_ACT_ERRNO", {}, {{0, 0, 0, "EQ"}}}})).find("linux.seccomp.syscalls[0].args[0].op"),
            std::string::npos);
  EXPECT_NE(
      failure(profile({{{"read"}, "SCMP_ACT_ERRNO", {}, {{6, 0, 0, "SCMP_CMP_EQ"}}}})).find("linux.seccomp.syscalls[0].args[0].index"),
      std::string::npos);
  EXPECT_NE(failure(profile({{{"read"}, "SCMP_ACT_ERRNO", 5000, {}}})).find("errnoRet"), std::string::npos);
  EXPECT_NE(failure(profile({{{"read"}, "SCMP_ACT_KILL", 5, {}}})).find("errnoRet"), std::string::npos);
  EXPECT_NE(failure(profile({{{}, "SCMP_ACT_ERRNO", {}, {}}})).find("linux.seccomp.syscalls[0].names"), std::string::npos);
  oci::Seccomp seccomp = profile({});
  seccomp.architectures = {"SCMP_ARCH_VAX"};
  EXPECT_NE(failure(seccomp).find("linux.seccomp.architectures[0]"), std::string::npos);
  seccomp = profile({});
  seccomp.flags = {"SECCOMP_FILTER_FLAG_X"};
  EXPECT_NE(failure(seccomp).find("linux.seccomp.flags[0]"), std::string::npos);
  seccomp = profile({{{"getppid"}, "SCMP_ACT_NOTIFY", {}, {}}});
  EXPECT_NE(failure(seccomp).find("linux.seccomp.listenerPath"), std::string::npos);
  seccomp = profile({{{"write"}, "SCMP_ACT_NOTIFY", {}, {}}});
  seccomp.listener_path = "/x";
  EXPECT_NE(failure(seccomp).find("write"), std::string::npos);
}

TEST(Seccomp, ArchitecturesAndFlags) {
  oci::Seccomp seccomp = profile({{{"getppid"}, "SCMP_ACT_ERRNO", 5, {}}});
  seccomp.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  seccomp.flags = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
                   "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  EXPECT_EQ(exit_under(seccomp, errno_of_getppid), 5);
  SeccompFilter filter = compile_seccomp(seccomp).value();
  EXPECT_EQ(filter.flags, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_TSYNC | 1u << 5);
  EXPECT_GT(filter.program.size(), compile_seccomp(profile({{{"getppid"}, "SCMP_ACT_ERRNO", 5, {}}}))->program.size());
}

// A whole round: filter with a listener, the agent's socket, the document and the descriptor, an answer.
TEST(Seccomp, NotifyReachesTheAgent) {
  std::string path = fmt::format("/tmp/caisson-seccomp-{}", getpid());
  UniqueFd server(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  unlink(path.c_str());
  ASSERT_EQ(bind(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(server.get(), 1), 0);

  oci::Seccomp seccomp = profile({{{"getppid"}, "SCMP_ACT_NOTIFY", {}, {}}});
  seccomp.listener_path = path;
  seccomp.listener_metadata = "for the agent";
  SeccompFilter filter = compile_seccomp(seccomp).value();
  EXPECT_TRUE(filter.wants_listener);
  oci::Spec spec;
  spec.annotations = {{"a", "b"}};
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    Result<UniqueFd> listener = load_seccomp(filter);
    if (!listener.ok() || !listener->valid()) _exit(99);
    if (!send_seccomp_listener(seccomp, listener->get(), getpid(), spec, "web", "/bundle").ok()) _exit(98);
    listener->reset();
    _exit(errno_of_getppid());
  }
  UniqueFd agent(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(agent.valid());
  char text[4096];
  iovec data{text, sizeof text};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = recvmsg(agent.get(), &message, MSG_CMSG_CLOEXEC);
  ASSERT_GT(got, 0);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  ASSERT_NE(header, nullptr);
  int descriptor = -1;
  memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  UniqueFd listener(descriptor);
  auto document = nlohmann::json::parse(text, text + got);
  EXPECT_EQ(document["fds"], nlohmann::json({"seccompFd"}));
  EXPECT_EQ(document["pid"], pid);
  EXPECT_EQ(document["metadata"], "for the agent");
  EXPECT_EQ(document["state"]["id"], "web");
  EXPECT_EQ(document["state"]["bundle"], "/bundle");
  EXPECT_EQ(document["state"]["annotations"]["a"], "b");
  seccomp_notif request{};
  ASSERT_EQ(ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_RECV, &request), 0);
  EXPECT_EQ(request.data.nr, SYS_getppid);
  seccomp_notif_resp response{};
  response.id = request.id;
  response.error = -EXDEV;
  ASSERT_EQ(ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &response), 0);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), EXDEV);
  unlink(path.c_str());
}

TEST(Seccomp, AnAgentThatIsNotThereIsNamed) {
  oci::Seccomp seccomp = profile({});
  seccomp.listener_path = "/no/such/agent.sock";
  Result<void> sent = send_seccomp_listener(seccomp, 0, 1, {}, "x", "/b");
  EXPECT_NE(sent.error().message().find("/no/such/agent.sock"), std::string::npos);
  seccomp.listener_path = std::string(200, 'x');
  EXPECT_EQ(send_seccomp_listener(seccomp, 0, 1, {}, "x", "/b").error().code(), EINVAL);
}

}  // namespace
}  // namespace caisson::container
