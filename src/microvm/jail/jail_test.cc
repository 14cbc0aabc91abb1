#include "microvm/jail/jail.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "host/files.h"
#include "host/process.h"
#include "microvm/jail/jailed_process.h"
#include "microvm/share.h"

namespace caisson::microvm {
namespace {

struct Outcome {
  std::string output;
  std::optional<int> status;
  std::string failure;
};

class JailTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    loop = std::move(host::EventLoop::create()).value();
    share.emplace(std::move(Share::create()).value());
  }
  JailSpec spec(const std::string& probe) {
    JailSpec made;
    made.what = "the probe";
    made.arguments = {CAISSON_TEST_INIT, "probe", probe};
    made.jail_namespace = share->namespace_fd();
    made.proc = true;
    made.uid = made.gid = 64055;
    made.syscalls = qemu_syscalls({.files = true});
    return made;
  }
  Outcome run(JailSpec jail) {
    Outcome outcome;
    auto process = JailedProcess::create(*loop, std::move(jail),
                                         {.failed =
                                              [&](const Error& error) {
                                                outcome.failure = error.message();
                                                loop->stop();
                                              },
                                          .ended =
                                              [&](int status) {
                                                outcome.status = status;
                                                loop->stop();
                                              }});
    if (!process) return {.failure = process.error().message()};
    EXPECT_TRUE((*process)->go().ok());
    EXPECT_TRUE(loop->run().ok());
    outcome.output = (*process)->output_tail();
    return outcome;
  }
  std::unique_ptr<host::EventLoop> loop;
  std::optional<Share> share;
};

TEST_F(JailTest, NothingOfTheHostIsThere) {
  UniqueFd mistake(open("/etc/passwd", O_RDONLY));  // not close-on-exec
  const Outcome outcome = run(spec("identity"));
  const std::string& out = outcome.output;
  EXPECT_EQ(outcome.status, 0) << outcome.failure;
  EXPECT_NE(out.find("uid=64055 gid=64055 pid=1 descriptors=0 passwd=0 sys=0 sysctl=0"), std::string::npos) << out;
  for (const char* set : {"CapInh:\t", "CapPrm:\t", "CapEff:\t", "CapBnd:\t", "CapAmb:\t"})
    EXPECT_NE(out.find(set + std::string(16, '0')), std::string::npos) << out;
  EXPECT_NE(out.find("NoNewPrivs:\t1"), std::string::npos) << out;
  EXPECT_NE(out.find("Seccomp:\t2"), std::string::npos) << out;
  EXPECT_NE(out.find("Groups:\t "), std::string::npos) << out;
}

TEST_F(JailTest, NamedDescriptorsAndCapabilitiesOnly) {
  JailSpec jail = spec("identity");
  UniqueFd passed(open("/dev/null", O_RDWR | O_CLOEXEC));
  jail.descriptors = {passed.get()};
  jail.capabilities = {CAP_CHOWN, CAP_SETFCAP};
  const Outcome outcome = run(std::move(jail));
  EXPECT_NE(outcome.output.find("descriptors=1"), std::string::npos) << outcome.output;
  for (const char* set : {"CapPrm:\t", "CapEff:\t", "CapBnd:\t", "CapAmb:\t"})
    EXPECT_NE(outcome.output.find(set + std::string("0000000080000001")), std::string::npos) << outcome.output;
}

TEST_F(JailTest, ItsRootCannotBeWritten) {
  JailSpec as_root = spec("write-library");
  as_root.uid = as_root.gid = 0;
  EXPECT_EQ(run(std::move(as_root)).output, "EROFS");
  JailSpec root = spec("write-root");
  root.uid = root.gid = 0;
  EXPECT_EQ(run(std::move(root)).output, "EROFS");
}

TEST_F(JailTest, SystemCallsThatAreNotListedFailOrKill) {
  EXPECT_EQ(run(spec("socket")).output, "ENOSYS");
  EXPECT_EQ(run(spec("fork")).output, "ENOSYS");
  const Outcome killed = run(spec("mount"));
  ASSERT_TRUE(killed.status.has_value());
  EXPECT_TRUE(WIFSIGNALED(*killed.status) && WTERMSIG(*killed.status) == SIGSYS) << killed.output;
}

TEST_F(JailTest, EveryTableLoads) {
  for (const SyscallTable& table : {qemu_syscalls({}), qemu_syscalls({.kvm = true}), qemu_syscalls({.files = true}),
                                    qemu_syscalls({.network = true}), virtiofsd_syscalls()}) {
    JailSpec jail = spec("identity");
    jail.syscalls = table;
    EXPECT_EQ(run(std::move(jail)).status, 0);
    for (const SyscallRow& row : table) EXPECT_FALSE(row.reason.empty()) << row.number;
  }
}

TEST_F(JailTest, FailuresOfTheChildAreTold) {
  JailSpec missing = spec("identity");
  missing.arguments[0] = "/no/such/program";
  EXPECT_NE(run(std::move(missing)).failure.find("cannot start the probe: cannot find /no/such/program"), std::string::npos);
  JailSpec not_a_program = spec("identity");
  not_a_program.arguments[0] = "/etc/passwd";
  EXPECT_NE(run(std::move(not_a_program)).failure.find("cannot execute /etc/passwd"), std::string::npos);
}

TEST_F(JailTest, ItDiesWithItsParent) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    auto own_loop = std::move(host::EventLoop::create()).value();
    std::unique_ptr<JailedProcess> process;
    auto made = JailedProcess::create(*own_loop, spec("sleep"),
                                      {.running =
                                           [&] {
                                             const pid_t pid = process->pid();
                                             (void)!write(pipe_fds[1], &pid, sizeof pid);
                                             raise(SIGKILL);
                                           },
                                       .failed = [](const Error&) { _exit(1); },
                                       .ended = [](int) { _exit(2); }});
    process = std::move(made).value();
    (void)process->go();
    (void)own_loop->run();
    _exit(3);
  }
  pid_t jailed = 0;
  ASSERT_EQ(read(pipe_fds[0], &jailed, sizeof jailed), static_cast<ssize_t>(sizeof jailed));
  waitpid(parent, nullptr, 0);
  auto pidfd = host::open_pidfd(jailed);
  EXPECT_TRUE(!pidfd || host::wait_for_end(pidfd->get(), std::chrono::seconds(5)));
}

TEST_F(JailTest, WithoutTheWordToGoNothingIsExecuted) {
  auto process = JailedProcess::create(*loop, spec("identity"), {});
  ASSERT_TRUE(process.ok());
  const pid_t pid = (*process)->pid();
  EXPECT_EQ(::kill(pid, 0), 0);
  process->reset();
  EXPECT_EQ(::kill(pid, 0), -1) << "killed and reaped";
}

TEST(JailUser, IsNeverRoot) {
  EXPECT_EQ(find_jail_user("root").uid, 64055u);
  EXPECT_FALSE(find_jail_user("no-such-user-here").exists);
  const JailUser nobody = find_jail_user("nobody");
  EXPECT_TRUE(nobody.exists);
  EXPECT_EQ(nobody.uid, 65534u);
}

TEST(LastLines, AreTheLastAndHarmless) {
  EXPECT_EQ(last_lines("a\nb\r\nc\n\n", 2), "b\nc");
  EXPECT_EQ(last_lines("one", 3), "one");
  EXPECT_EQ(last_lines("", 3), "");
  EXPECT_EQ(last_lines("x\x1b[2J", 1), "x\\x1b[2J");
  std::string text = "0123456789";
  append_bounded(text, "ab", 4);
  EXPECT_EQ(text, "89ab");
}

}  // namespace
}  // namespace caisson::microvm
