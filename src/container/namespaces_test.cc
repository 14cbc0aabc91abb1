// linux.namespaces, id mappings, time offsets, sysctl, hooks, hostname.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>

#include "container/container_fixture.h"
#include "container/sysctl.h"
#include "host/files.h"
#include "host/process.h"

namespace caisson::container::testing {
namespace {

class NamespacesTest : public ContainerTest {
 protected:
  std::string error_of(const oci::Spec& spec) {
    auto ended = run(spec);
    return ended ? "no error" : ended.error().message();
  }
  static void set_path(oci::Spec& spec, const std::string& type, const std::string& path) {
    for (oci::Namespace& ns : spec.linux_.namespaces)
      if (ns.type == type) {
        ns.path = path;
        return;
      }
    spec.linux_.namespaces.push_back({type, path});
  }
  static void remove(oci::Spec& spec, const std::string& type) {
    std::erase_if(spec.linux_.namespaces, [&](const oci::Namespace& ns) { return ns.type == type; });
  }
  // A root file system that ids of a user namespace may use.
  oci::Spec user_spec(const std::string& command) {
    oci::Spec spec = shell_spec(command);
    spec.linux_.namespaces.push_back({"user", ""});
    spec.linux_.uid_mappings = spec.linux_.gid_mappings = {{0, 100000, 65536}};
    chown_tree(rootfs(), 100000);
    return spec;
  }
  static void chown_tree(const std::string& path, uid_t uid) {
    const std::string command = fmt::format("chown -hR {}:{} {}", uid, uid, path);
    ASSERT_EQ(system(command.c_str()), 0);
  }
};

TEST_F(NamespacesTest, AllFreshOnesDifferFromTheHosts) {
  oci::Spec spec = shell_spec("for n in mnt net ipc uts pid cgroup time; do readlink /proc/self/ns/$n; done");
  spec.linux_.namespaces.push_back({"time", ""});
  const std::string out = output_of(spec);
  for (const char* name : {"mnt", "net", "ipc", "uts", "pid", "cgroup", "time"}) {
    char target[64] = {};
    ASSERT_GT(readlink(fmt::format("/proc/self/ns/{}", name).c_str(), target, sizeof target - 1), 0);
    EXPECT_NE(out.find(std::string(name) + ":["), std::string::npos) << out;
    EXPECT_EQ(out.find(target), std::string::npos) << target << " is the host's";
  }
}

TEST_F(NamespacesTest, WithoutNamespacesTheHostsAreUsed) {
  oci::Spec spec = shell_spec("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done");
  for (const char* type : {"network", "ipc", "uts", "pid", "cgroup"}) remove(spec, type);
  spec.hostname.clear();
  std::string expected;
  for (const char* name : {"net", "ipc", "uts", "pid"}) {
    char target[64] = {};
    ASSERT_GT(readlink(fmt::format("/proc/self/ns/{}", name).c_str(), target, sizeof target - 1), 0);
    expected += target + std::string("\n");
  }
  // A mount of a new sysfs needs a network namespace of one's own only where there is a user namespace.
  EXPECT_EQ(output_of(spec), expected);
}

TEST_F(NamespacesTest, HostnameDomainnameAndLoopback) {
  oci::Spec spec =
      shell_spec("hostname; cat /proc/sys/kernel/domainname; ip -o addr show lo | grep -c 127.0.0.1; ip link show lo | grep -c UP");
  spec.hostname = "chamber";
  spec.domainname = "example.org";
  EXPECT_EQ(output_of(spec), "chamber\nexample.org\n1\n1\n");
}

TEST_F(NamespacesTest, TimeOffsets) {
  oci::Spec spec = shell_spec("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
  spec.linux_.namespaces.push_back({"time", ""});
  spec.linux_.time_offsets = {{"boottime", {1000000, 0}}, {"monotonic", {500, 7}}};
  const std::string out = output_of(spec);
  EXPECT_GT(std::stol(out), 1000000);
  EXPECT_NE(out.find("500         7"), std::string::npos) << out;
  spec = shell_spec("sleep 100");
  spec.linux_.namespaces.push_back({"time", ""});
  spec.linux_.time_offsets = {{"boottime", {1000000, 0}}};
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  auto executed = exec(spec, shell_process(spec, "cut -d. -f1 /proc/uptime"));
  ASSERT_TRUE(executed.ok()) << executed.error().message();
  EXPECT_GT(std::stol(executed->out), 1000000);
  ASSERT_TRUE(destroy(&spec).ok());
  // The runtime itself has not moved: the next container is in ordinary time.
  oci::Spec plain = shell_spec("cut -d. -f1 /proc/uptime");
  EXPECT_LT(std::stol(output_of(plain)), 1000000) << "or this machine has been up for eleven days";
}

TEST_F(NamespacesTest, JoinsByPath) {
  // Another "pod": a process with namespaces of its own.
  host::Cloned holder = host::clone_process(CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID).value();
  if (holder.pid == 0) {
    sethostname("holder", 6);
    while (true) ::pause();
  }
  oci::Spec spec = shell_spec("for n in net uts ipc pid; do readlink /proc/self/ns/$n; done; hostname; echo $$");
  spec.hostname.clear();
  std::string expected;
  for (const auto& [type, file] :
       std::vector<std::pair<std::string, std::string>>{{"network", "net"}, {"uts", "uts"}, {"ipc", "ipc"}, {"pid", "pid"}}) {
    const std::string path = fmt::format("/proc/{}/ns/{}", holder.pid, file);
    set_path(spec, type, path);
    char target[64] = {};
    ASSERT_GT(readlink(path.c_str(), target, sizeof target - 1), 0);
    expected += target + std::string("\n");
  }
  for (int round = 0; round < 100; ++round) {
    auto name = host::read_file(fmt::format("/proc/{}/stat", holder.pid));
    if (name && name->find(" S ") != std::string::npos) break;
    usleep(1000);
  }
  EXPECT_EQ(output_of(spec), expected + "holder\n2\n");
  ASSERT_TRUE(host::send_signal(holder.pidfd.get(), SIGKILL).ok());
  waitpid(holder.pid, nullptr, 0);
}

TEST_F(NamespacesTest, WrongPathsAreRefusedByName) {
  oci::Spec spec = shell_spec("true");
  set_path(spec, "network", "/proc/self/ns/uts");
  EXPECT_EQ(error_of(spec), "linux.namespaces: /proc/self/ns/uts is a uts namespace, not a network namespace");
  set_path(spec, "network", "/etc/hostname");
  EXPECT_EQ(error_of(spec), "linux.namespaces: /etc/hostname is not a namespace");
  set_path(spec, "network", "/not/there");
  EXPECT_EQ(error_of(spec), "linux.namespaces: cannot open the network namespace /not/there: No such file or directory");
  const std::string fifo = bundle() + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  set_path(spec, "network", fifo);
  EXPECT_EQ(error_of(spec), "linux.namespaces: " + fifo + " is not a namespace");
}

TEST_F(NamespacesTest, Sysctls) {
  oci::Spec spec = shell_spec("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni /proc/sys/kernel/domainname");
  spec.linux_.sysctl = {{"net.ipv4.ip_forward", "1"}, {"kernel.shmmni", "77"}, {"kernel.domainname", "here"}};
  EXPECT_EQ(output_of(spec), "1\n77\nhere\n");
  spec.linux_.sysctl = {{"net.ipv4.nonesuch", "1"}};
  EXPECT_EQ(error_of(spec), "linux.sysctl: cannot open net.ipv4.nonesuch: No such file or directory");
  spec.linux_.sysctl = {{"net.ipv4.ip_forward", "1"}};
  set_path(spec, "network", "/proc/self/ns/net");
  EXPECT_NE(error_of(spec).find("is the host's"), std::string::npos);
  // In a guest the namespace that the agent is in is the sandbox's: nobody else's parameters change.
  EXPECT_TRUE(check_sysctls(spec, true).ok());
  spec.linux_.sysctl = {{"kernel.shmmni", "77"}};
  set_path(spec, "ipc", "/proc/self/ns/ipc");
  EXPECT_FALSE(check_sysctls(spec, true).ok());
}

TEST_F(NamespacesTest, NetDevicesMoveWithTheirAddresses) {
  const std::string name = fmt::format("ct{}", getpid());
  if (system(fmt::format("ip link add {0} type veth peer name {0}p && ip addr add 10.99.0.7/24 dev {0}", name).c_str()) != 0)
    GTEST_SKIP() << "cannot make a veth pair here";
  oci::Spec spec =
      shell_spec("ip -o addr show dev inside | grep -c 10.99.0.7/24; ip link show inside | grep -c ,UP; ls /sys/class/net | sort");
  spec.linux_.net_devices = {{name, {"inside"}}};
  EXPECT_EQ(output_of(spec), "1\n1\ninside\nlo\n");
  // The pair goes with the container's namespace, soon after its last process.
  for (int round = 0; round < 200 && access(("/sys/class/net/" + name + "p").c_str(), F_OK) == 0; ++round) usleep(10000);
  EXPECT_NE(access(("/sys/class/net/" + name).c_str(), F_OK), 0);
  EXPECT_EQ(error_of(spec), "linux.netDevices: network interface " + name + " does not exist");
  set_path(spec, "network", "/proc/self/ns/net");
  spec.linux_.net_devices = {{"lo", {}}};
  EXPECT_NE(error_of(spec).find("is the host's"), std::string::npos);
}

TEST_F(NamespacesTest, UserNamespace) {
  oci::Spec spec = user_spec(
      "id -u; cat /proc/self/uid_map | tr -s ' '; touch /tmp/new; stat -c %u /dev/null /etc/passwd; echo > /dev/null; ls /sys/class/net; "
      "cat /hostfile 2>&1; ulimit -n; cat /proc/self/oom_score_adj; echo x > /tmp/new; grep CapEff /proc/self/status");
  const std::string secret = bundle() + "/closed/file";
  ASSERT_TRUE(host::mkdir_p(bundle() + "/closed").ok());
  ASSERT_TRUE(host::write_file_atomic(secret, "bound\n", 0644).ok());
  ASSERT_EQ(chmod((bundle() + "/closed").c_str(), 0700), 0);
  // Only the host's root gets through that folder: the creator has to open the source.
  spec.mounts.push_back({.destination = "/hostfile", .type = "bind", .source = secret, .options = {"bind", "ro"}});
  spec.process.rlimits = {{"RLIMIT_NOFILE", 64, 64}, {"RLIMIT_CORE", 0, 0}};
  spec.process.oom_score_adj = 700;
  const std::string out = output_of(spec);
  EXPECT_EQ(out.substr(0, out.find("CapEff")), "0\n 0 100000 65536\n65534\n0\nlo\nbound\n64\n700\n") << out;
  struct stat info;
  ASSERT_EQ(stat((rootfs() + "/tmp/new").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 100000u);
}

TEST_F(NamespacesTest, UserNamespaceExecAndTerminal) {
  oci::Spec spec = user_spec("sleep 100");
  ASSERT_EQ(chmod(bundle().c_str(), 0700), 0);  // nor may the mapped root look up the root file system's own path
  auto created = create(spec);
  ASSERT_TRUE(created.ok()) << created.error().message();
  ASSERT_TRUE(start(spec).ok());
  oci::Process process = shell_process(spec, "id -u; tty; stat -c %u /dev/pts/0; cat /proc/self/uid_map | tr -s ' '");
  process.terminal = true;
  process.user = {.uid = 12, .gid = 12};
  auto ended = exec(spec, process);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "12\r\n/dev/pts/0\r\n12\r\n 0 100000 65536\r\n");
}

TEST_F(NamespacesTest, UserNamespaceWithHostNetworkGetsTheHostsSys) {
  oci::Spec spec = user_spec("grep ' /sys ' /proc/mounts | cut -d, -f1; readlink /proc/self/ns/net");
  remove(spec, "network");
  const std::string out = output_of(spec);
  EXPECT_NE(out.find("sysfs ro"), std::string::npos) << out;
}

TEST_F(NamespacesTest, JoinsAUserNamespaceByPath) {
  // As a pod's second container does: user, network and uts from the first, the rest its own.
  const host::Cloned holder = host::clone_process(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWUTS).value();
  if (holder.pid == 0) {
    while (true) ::pause();
  }
  ASSERT_TRUE(host::write_file(fmt::format("/proc/{}/uid_map", holder.pid), "0 100000 65536").ok());
  ASSERT_TRUE(host::write_file(fmt::format("/proc/{}/gid_map", holder.pid), "0 100000 65536").ok());
  oci::Spec spec = user_spec("id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net; echo $$; hostname; ls /sys/class/net");
  set_path(spec, "user", fmt::format("/proc/{}/ns/user", holder.pid));
  set_path(spec, "network", fmt::format("/proc/{}/ns/net", holder.pid));
  set_path(spec, "uts", fmt::format("/proc/{}/ns/uts", holder.pid));
  spec.linux_.uid_mappings.clear();
  spec.linux_.gid_mappings.clear();
  spec.hostname = "shared";
  std::string expected = "0\n";
  for (const char* name : {"user", "net"}) {
    char target[64] = {};
    ASSERT_GT(readlink(fmt::format("/proc/{}/ns/{}", holder.pid, name).c_str(), target, sizeof target - 1), 0);
    expected += target + std::string("\n");
  }
  EXPECT_EQ(output_of(spec), expected + "1\nshared\nlo\n");
  ASSERT_TRUE(host::send_signal(holder.pidfd.get(), SIGKILL).ok());
}

TEST_F(NamespacesTest, ImpossibleMapIsAnError) {
  oci::Spec spec = user_spec("true");
  spec.linux_.uid_mappings = {{1, 100000, 10}};
  EXPECT_NE(error_of(spec).find("is 0 mapped?"), std::string::npos);
}

TEST_F(NamespacesTest, HooksInOrderAndInTheirNamespaces) {
  const std::string log = bundle() + "/log";
  auto hook = [&](const std::string& name) {
    return std::vector<oci::Hook>{{.path = "/bin/sh",
                                   .args = {"sh", "-c",
                                            fmt::format("echo {} $(readlink /proc/self/ns/uts) $(cat | grep -o '\"status\": *\"[a-z]*\"' | "
                                                        "tr -d ' ') $(test -e {}/dev/null && echo mounted) >> {}",
                                                        name, rootfs(), log)},
                                   .env = {"PATH=/bin:/usr/bin"}}};
  };
  oci::Spec spec = shell_spec("readlink /proc/self/ns/uts; cat /startlog");
  spec.hooks.prestart = hook("prestart");
  spec.hooks.create_runtime = hook("createRuntime");
  spec.hooks.create_container = hook("createContainer");
  spec.hooks.start_container = {{.path = "/bin/sh", .args = {"sh", "-c", "echo started by $$ > /startlog"}, .env = {"PATH=/bin"}}};
  spec.hooks.poststart = hook("poststart");
  spec.hooks.poststop = hook("poststop");
  auto ended = run(spec);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  const std::string inner = ended->out.substr(0, ended->out.find('\n'));
  EXPECT_NE(ended->out.find("started by"), std::string::npos);
  const std::string text = host::read_file(log).value();
  char own[64] = {};
  ASSERT_GT(readlink("/proc/self/ns/uts", own, sizeof own - 1), 0);
  EXPECT_EQ(text,
            fmt::format("prestart {0} \"status\":\"creating\"\ncreateRuntime {0} \"status\":\"creating\"\ncreateContainer {1} "
                        "\"status\":\"creating\" mounted\npoststart {0} \"status\":\"running\"\npoststop {0} \"status\":\"stopped\"\n",
                        own, inner));
}

TEST_F(NamespacesTest, FailingHooksAreErrorsAndLeaveNothing) {
  const std::vector<oci::Hook> failing = {{.path = "/bin/sh", .args = {"sh", "-c", "echo because >&2; exit 3"}}};
  for (auto member : {&oci::Hooks::prestart, &oci::Hooks::create_runtime, &oci::Hooks::create_container, &oci::Hooks::start_container,
                      &oci::Hooks::poststart}) {
    oci::Spec spec = shell_spec("sleep 100");
    spec.hooks.*member = failing;
    auto ended = run(spec);
    ASSERT_FALSE(ended.ok());
    EXPECT_NE(ended.error().message().find("because"), std::string::npos) << ended.error().message();
    EXPECT_NE(access(("/sys/fs/cgroup/memory" + spec.linux_.cgroups_path).c_str(), F_OK), 0);
  }
  oci::Spec spec = shell_spec("true");
  spec.hooks.poststop = failing;
  EXPECT_TRUE(run(spec).ok()) << "a failing poststop hook is a warning";
}

TEST_F(NamespacesTest, SeccompListenerReachesItsAgent) {
  const std::string path = bundle() + "/agent.sock";
  UniqueFd listening(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{.sun_family = AF_UNIX};
  strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(bind(listening.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listening.get(), 4), 0);
  oci::Spec spec = shell_spec("sleep 100");
  spec.linux_.seccomp = oci::Seccomp{
      .default_action = "SCMP_ACT_ALLOW", .listener_path = path, .syscalls = {{.names = {"mkdir"}, .action = "SCMP_ACT_NOTIFY"}}};
  for (const bool no_new_privileges : {true, false}) {
    spec.process.no_new_privileges = no_new_privileges;
    auto created = create(spec);
    ASSERT_TRUE(created.ok()) << created.error().message();
    const UniqueFd connection(accept(listening.get(), nullptr, nullptr));
    std::vector<UniqueFd> fds;
    std::string state(16 << 10, '\0');
    auto size = host::recv_with_fds(connection.get(), state.data(), state.size(), fds);
    ASSERT_TRUE(size.ok());
    ASSERT_EQ(fds.size(), 1u);
    EXPECT_NE(state.find(fmt::format("\"pid\":{}", record().pid)), std::string::npos) << state.substr(0, *size);
    ASSERT_TRUE(start(spec).ok());
    ASSERT_TRUE(destroy(&spec).ok());
  }
}

}  // namespace
}  // namespace caisson::container::testing
