// process of config.json: who runs, with what rights and limits.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "container/container_fixture.h"
#include "host/files.h"

namespace caisson::container::testing {
namespace {

class ProcessTest : public ContainerTest {
 protected:
  std::string error_of(const oci::Spec& spec) {
    auto ended = run(spec);
    return ended ? "no error" : ended.error().message();
  }
};

TEST_F(ProcessTest, UserGroupsUmaskHome) {
  oci::Spec spec = shell_spec("id -u; id -g; id -G; umask; echo $HOME; pwd; touch /tmp/x; stat -c '%u:%g %a' /tmp/x");
  spec.process.user = {.uid = 1000, .gid = 1001, .umask = 027, .additional_gids = {5, 77}};
  spec.process.cwd = "/made/by/runtime";
  ASSERT_EQ(chmod((rootfs() + "/tmp").c_str(), 01777), 0);
  EXPECT_EQ(output_of(spec), "1000\n1001\n1001 5 77\n0027\n/tmp\n/made/by/runtime\n1000:1001 640\n");
}

TEST_F(ProcessTest, DefaultUmaskAndEnvironment) {
  oci::Spec spec = shell_spec("umask; env");
  spec.process.env = {"PATH=/bin", "A=b c", "HOME=/elsewhere"};
  const std::string out = output_of(spec);
  EXPECT_EQ(out.substr(0, 5), "0022\n");
  EXPECT_NE(out.find("A=b c\n"), std::string::npos);
  EXPECT_NE(out.find("HOME=/elsewhere\n"), std::string::npos);
  EXPECT_EQ(out.find("CAISSON"), std::string::npos) << "the runtime's own environment must not go in";
}

TEST_F(ProcessTest, CapabilitySets) {
  oci::Spec spec = shell_spec("grep Cap /proc/self/status");
  spec.process.capabilities = oci::Capabilities{.bounding = {"CAP_CHOWN", "CAP_KILL", "CAP_SETUID"},
                                                .effective = {"CAP_KILL"},
                                                .inheritable = {"CAP_KILL"},
                                                .permitted = {"CAP_KILL", "CAP_CHOWN"},
                                                .ambient = {"CAP_KILL"}};
  spec.process.user = {.uid = 1000, .gid = 1000};
  // After execve(2) by a user who is not root only the ambient set is left (capabilities(7)).
  EXPECT_EQ(output_of(spec),
            "CapInh:\t0000000000000020\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000020\nCapBnd:\t00000000000000a1\nCapAmb:"
            "\t0000000000000020\n");
}

TEST_F(ProcessTest, NoCapabilitiesMeansNone) {
  oci::Spec spec = shell_spec("grep Cap /proc/self/status | cut -f2 | sort -u 2>/dev/null || true");
  spec.process.capabilities.reset();
  EXPECT_EQ(output_of(spec), "0000000000000000\n");
}

TEST_F(ProcessTest, UnknownCapabilityIsLeftOut) {
  oci::Spec spec = shell_spec("grep CapEff /proc/self/status");
  spec.process.capabilities =
      oci::Capabilities{.bounding = {"CAP_KILL", "CAP_FLYING"}, .effective = {"CAP_KILL", "CAP_FLYING"}, .permitted = {"CAP_KILL"}};
  EXPECT_EQ(output_of(spec), "CapEff:\t0000000000000020\n");
}

TEST_F(ProcessTest, NoNewPrivileges) {
  oci::Spec spec = shell_spec("grep NoNewPrivs /proc/self/status");
  spec.process.no_new_privileges = true;
  EXPECT_EQ(output_of(spec), "NoNewPrivs:\t1\n");
  spec.process.no_new_privileges = false;
  EXPECT_EQ(output_of(spec), "NoNewPrivs:\t0\n");
}

TEST_F(ProcessTest, Rlimits) {
  oci::Spec spec = shell_spec("ulimit -n; ulimit -c; ulimit -Hn");
  spec.process.rlimits = {{"RLIMIT_NOFILE", 123, 456}, {"RLIMIT_CORE", 0, 0}};
  EXPECT_EQ(output_of(spec), "123\n0\n456\n");
  spec.process.rlimits = {{"RLIMIT_NOFILE", 10, 20}, {"RLIMIT_WEIGHT", 0, 0}};
  EXPECT_NE(error_of(spec).find("process.rlimits[1]"), std::string::npos);
}

TEST_F(ProcessTest, OomScoreSchedulerAndIoPriority) {
  oci::Spec spec = shell_spec("cat /proc/self/oom_score_adj; cut -d' ' -f19,41 /proc/self/stat");
  spec.process.oom_score_adj = 500;
  spec.process.scheduler = oci::Scheduler{.policy = "SCHED_BATCH", .nice = 7};
  spec.process.io_priority = oci::IoPriority{.class_name = "IOPRIO_CLASS_BE", .priority = 6};
  EXPECT_EQ(output_of(spec), "500\n7 3\n");
}

TEST_F(ProcessTest, LoweringTheOomScoreWithoutTheRightIsNoError) {
  oci::Spec spec = shell_spec("true");
  spec.process.oom_score_adj = -999;
  EXPECT_TRUE(run(spec).ok());
}

TEST_F(ProcessTest, ProgramErrorsComeWithCreate) {
  oci::Spec spec = shell_spec("");
  spec.process.args = {"nonesuch"};
  auto created = create(spec);
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().message(), "process.args[0]: exec: \"nonesuch\": executable file not found in $PATH");
  EXPECT_EQ(created.error().code(), ENOENT);
  spec.process.args = {"/not/there"};
  EXPECT_EQ(error_of(spec), "process.args[0]: exec: \"/not/there\": stat /not/there: no such file or directory");
  ASSERT_TRUE(host::write_file_atomic(rootfs() + "/bin/plain", "text", 0644).ok());
  spec.process.args = {"plain"};
  EXPECT_EQ(error_of(spec), "process.args[0]: exec: \"plain\": permission denied");
  spec.process.args = {"/bin"};
  EXPECT_NE(error_of(spec).find("permission denied"), std::string::npos);
  spec.process.args = {"/bin/sh"};
  spec.process.cwd = "/etc/passwd";
  EXPECT_EQ(error_of(spec), "process.cwd: cannot enter /etc/passwd: Not a directory");
}

TEST_F(ProcessTest, BrokenProgramIsStartsError) {
  ASSERT_TRUE(host::write_file_atomic(rootfs() + "/bin/broken", "not a program", 0755).ok());
  oci::Spec spec = shell_spec("");
  spec.process.args = {"/bin/broken"};
  ASSERT_TRUE(create(spec).ok());
  auto started = start(spec);
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().code(), ENOEXEC);
  EXPECT_EQ(started.error().message(), "process.args[0]: exec /bin/broken: Exec format error");
}

TEST_F(ProcessTest, LabelsThatTheKernelDoesNotHave) {
  oci::Spec spec = shell_spec("true");
  if (access("/sys/module/apparmor/parameters/enabled", F_OK) != 0) {
    spec.process.apparmor_profile = "docker-default";
    EXPECT_NE(error_of(spec).find("process.apparmorProfile"), std::string::npos);
    spec.process.apparmor_profile.clear();
  }
  if (access("/sys/fs/selinux/enforce", F_OK) != 0) {
    spec.process.selinux_label = "system_u:system_r:container_t:s0";
    EXPECT_NE(error_of(spec).find("process.selinuxLabel"), std::string::npos);
    spec.process.selinux_label.clear();
    spec.linux_.mount_label = "system_u:object_r:container_file_t:s0";
    EXPECT_NE(error_of(spec).find("linux.mountLabel"), std::string::npos);
  }
}

TEST_F(ProcessTest, DescriptorsThatAreSeen) {
  // Only the standard streams and, while ls runs, its own.
  EXPECT_EQ(output_of(shell_spec("ls /proc/self/fd")), "0\n1\n2\n3\n");
  ASSERT_TRUE(host::write_file_atomic(bundle() + "/kept", "kept", 0644).ok());
  std::vector<UniqueFd> preserved;
  preserved.emplace_back(open((bundle() + "/kept").c_str(), O_RDONLY | O_CLOEXEC));
  preserved.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  auto ended = run(shell_spec("cat <&3; ls /proc/$$/fd; readlink /proc/$$/fd/4"), {}, std::move(preserved));
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "kept0\n1\n2\n3\n4\n/dev/null\n");
}

TEST_F(ProcessTest, StandardStreamsBelongToTheUser) {
  oci::Spec spec = shell_spec("echo again > /dev/stdout; echo too > /dev/stderr");
  spec.process.user = {.uid = 1000, .gid = 1000};
  auto ended = run(spec);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->status, 0);
  EXPECT_EQ(ended->out, "again\n");
  EXPECT_EQ(ended->err, "too\n");
}

TEST_F(ProcessTest, SignalsAreAsANewProgramExpects) {
  oci::Spec spec = shell_spec("");
  spec.process.args = {"grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"};  // no shell, which would change them
  EXPECT_EQ(output_of(spec), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_F(ProcessTest, SessionIsItsOwn) {
  // Fields 5 and 6: process group and session.
  EXPECT_EQ(output_of(shell_spec("exec cut -d' ' -f1,5,6 /proc/1/stat")), "1 1 1\n");
}

TEST_F(ProcessTest, SeccompWithAndWithoutNoNewPrivileges) {
  oci::Spec spec = shell_spec("grep -E 'Seccomp:' /proc/self/status; mkdir /tmp/d 2>&1; true");
  spec.linux_.seccomp = oci::Seccomp{.default_action = "SCMP_ACT_ALLOW",
                                     .architectures = {"SCMP_ARCH_X86_64"},
                                     .syscalls = {{.names = {"mkdir", "mkdirat"}, .action = "SCMP_ACT_ERRNO", .errno_ret = EUSERS}}};
  for (const bool no_new_privileges : {true, false}) {
    spec.process.no_new_privileges = no_new_privileges;
    const std::string out = output_of(spec);
    EXPECT_NE(out.find("Seccomp:\t2\n"), std::string::npos) << out;
    EXPECT_NE(out.find("Too many users"), std::string::npos) << out;
  }
}

TEST_F(ProcessTest, Personality) {
  oci::Spec spec = shell_spec("cat /proc/self/personality; busybox uname -m");
  spec.linux_.personality = oci::Personality{.domain = "LINUX32"};
  const std::string out = output_of(spec);
  EXPECT_NE(out.find("i686"), std::string::npos) << out;
}

TEST_F(ProcessTest, Terminal) {
  oci::Spec spec = shell_spec(
      "tty; stty size; test -c /dev/console && stat -c %u /dev/console; echo ok > /dev/tty; ls -l /proc/self/fd/0 | grep -c pts");
  spec.process.terminal = true;
  spec.process.console_size = oci::ConsoleSize{.height = 33, .width = 99};
  spec.process.user = {.uid = 1000, .gid = 1000};
  EXPECT_EQ(output_of(spec), "/dev/pts/0\r\n33 99\r\n1000\r\nok\r\n1\r\n");
}

TEST_F(ProcessTest, TerminalWithoutDevptsOfItsOwn) {
  oci::Spec spec = shell_spec("echo here; test -t 0 && echo terminal");
  std::erase_if(spec.mounts, [](const oci::Mount& mount) { return mount.destination == "/dev/pts"; });
  spec.process.terminal = true;
  EXPECT_EQ(output_of(spec), "here\r\nterminal\r\n");
}

TEST_F(ProcessTest, ExecHasItsOwnProcessObject) {
  const oci::Spec spec = shell_spec("sleep 100");
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  oci::Process process =
      shell_process(spec, "id -u; umask; grep CapEff /proc/self/status; ulimit -n; pwd; echo $X; cat /proc/self/oom_score_adj");
  process.user = {.uid = 1000, .gid = 1000, .umask = 077};
  process.cwd = "/tmp";
  process.env.push_back("X=y");
  process.rlimits = {{"RLIMIT_NOFILE", 99, 99}};
  process.oom_score_adj = 300;
  auto ended = exec(spec, process);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "1000\n0077\nCapEff:\t0000000000000000\n99\n/tmp\ny\n300\n");
}

TEST_F(ProcessTest, ExecCpuAffinity) {
  const oci::Spec spec = shell_spec("sleep 100");
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  oci::Process process = shell_process(spec, "grep Cpus_allowed_list /proc/self/status");
  for (const auto& [list, expected] : std::vector<std::pair<std::string, std::string>>{{"0", "0"}, {"0-0", "0"}, {"0-1:1/2", "0"}}) {
    process.exec_cpu_affinity = oci::ExecCpuAffinity{.initial = "", .final_ = list};
    auto ended = exec(spec, process);
    ASSERT_TRUE(ended.ok()) << ended.error().message();
    EXPECT_EQ(ended->out, "Cpus_allowed_list:\t" + expected + "\n");
  }
  for (const char* list : {"x", "1-", "3-1", "0,", "0-1:", "0-1:1/0", "99999"}) {
    process.exec_cpu_affinity = oci::ExecCpuAffinity{.initial = list, .final_ = ""};
    auto ended = exec(spec, process);
    ASSERT_FALSE(ended.ok()) << list;
    EXPECT_NE(ended.error().message().find("process.execCPUAffinity.initial"), std::string::npos) << ended.error().message();
  }
}

TEST_F(ProcessTest, ExecWithTerminal) {
  const oci::Spec spec = shell_spec("sleep 100");
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  oci::Process process = shell_process(spec, "tty; stty size");
  process.terminal = true;
  process.console_size = oci::ConsoleSize{.height = 10, .width = 20};
  auto ended = exec(spec, process);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "/dev/pts/0\r\n10 20\r\n");
}

TEST_F(ProcessTest, ExecErrors) {
  const oci::Spec spec = shell_spec("sleep 100");
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  oci::Process process = spec.process;
  process.args = {"nonesuch"};
  auto ended = exec(spec, process);
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().message(), "process.args[0]: exec: \"nonesuch\": executable file not found in $PATH");
  process = shell_process(spec, "true");
  process.cwd = "/none";
  ended = exec(spec, process);
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().message(), "process.cwd: cannot enter /none: No such file or directory");
  process = shell_process(spec, "pwd");
  for (int fd = 3; fd < 20; ++fd) {
    process.cwd = fmt::format("/proc/self/fd/{}", fd);
    ended = exec(spec, process);
    if (ended)
      EXPECT_EQ(ended->out, "/\n") << "descriptor " << fd;
    else
      EXPECT_NE(ended.error().message().find("process.cwd"), std::string::npos) << ended.error().message();
  }
  ended = exec(spec, shell_process(spec, "true"), {.cgroup = "not/there"});
  ASSERT_FALSE(ended.ok());
  ended = exec(spec, shell_process(spec, "true"), {.cgroup = "../.."});
  ASSERT_FALSE(ended.ok());
}

TEST_F(ProcessTest, ExecIntoPausedOrEndedContainer) {
  const oci::Spec spec = shell_spec("sleep 100");
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  auto paused = pause(record());
  ASSERT_TRUE(paused.ok()) << paused.error().message();
  auto ended = exec(spec, shell_process(spec, "true"));
  ASSERT_FALSE(ended.ok());
  EXPECT_NE(ended.error().message().find("is paused"), std::string::npos);
  ASSERT_TRUE(resume(record()).ok());
  EXPECT_TRUE(exec(spec, shell_process(spec, "true")).ok());
  ASSERT_TRUE(pause(record()).ok());
  // SIGKILL of a paused container has to end it.
  ASSERT_TRUE(kill(record(), SIGKILL, false).ok());
  EXPECT_EQ(wait().status, 128 + SIGKILL);
  ended = exec(spec, shell_process(spec, "true"));
  ASSERT_FALSE(ended.ok());
  EXPECT_NE(ended.error().message().find("is not running"), std::string::npos);
  EXPECT_EQ(kill(record(), SIGTERM, false).error().code(), ESRCH);
}

TEST_F(ProcessTest, KillAllReachesEveryProcess) {
  oci::Spec spec = shell_spec("sleep 100 & sleep 100 & trap '' USR1; echo ready; wait; wait");
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  for (int round = 0; round < 100 && processes(record()).value().size() < 3; ++round) usleep(10000);
  EXPECT_EQ(processes(record()).value().size(), 3u);
  ASSERT_TRUE(kill(record(), SIGKILL, true).ok());
  EXPECT_EQ(wait().status, 128 + SIGKILL);
  EXPECT_EQ(kill(record(), SIGKILL, true).error().code(), ESRCH);
}

TEST_F(ProcessTest, ContainerWithoutPidNamespaceLeavesNothing) {
  oci::Spec spec = shell_spec("sleep 100 & sleep 100 & exit 0");
  std::erase_if(spec.linux_.namespaces, [](const oci::Namespace& ns) { return ns.type == "pid"; });
  ASSERT_TRUE(create(spec).ok());
  EXPECT_FALSE(record().owns_pid_namespace);
  ASSERT_TRUE(start(spec).ok());
  // wait() reads to the end of file, which the sleeps hold open.
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(record().pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(processes(record()).value().size(), 2u);
  ASSERT_TRUE(destroy(&spec).ok());
  EXPECT_TRUE(processes(record()).value().empty());
}

TEST_F(ProcessTest, ClosingTheStartSocketEndsInit) {
  const oci::Spec spec = shell_spec("true");
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(destroy(&spec).ok());
  EXPECT_EQ(::kill(record().pid, 0), -1);
}

TEST_F(ProcessTest, StartAfterInitDied) {
  const oci::Spec spec = shell_spec("true");
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(kill(record(), SIGKILL, false).ok());
  wait();
  auto started = start(spec);
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().message().find("its first process has ended"), std::string::npos) << started.error().message();
}

}  // namespace
}  // namespace caisson::container::testing
