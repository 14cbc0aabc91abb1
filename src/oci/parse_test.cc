#include "oci/parse.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "oci/document.h"

namespace caisson::oci {
namespace {

// A valid document with every namespace, to be spoilt in one place by each case.
Json valid() {
  return Json::parse(R"({
    "ociVersion": "1.0.2",
    "process": {"args": ["true"], "cwd": "/", "user": {"uid": 1, "gid": 2}},
    "root": {"path": "rootfs"},
    "linux": {
      "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
      "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
      "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "user"},
                     {"type": "cgroup"}, {"type": "time"}]
    }
  })");
}

std::string error_of(const std::string& text) {
  Result<Spec> spec = parse_spec(text);
  return spec.ok() ? "" : spec.error().message();
}

// Sets one member, by JSON pointer, to a value given as JSON.
std::string error_with(const char* pointer, const char* value) {
  Json json = valid();
  json[Json::json_pointer(pointer)] = Json::parse(value);
  return error_of(json.dump());
}

std::string error_without(const char* pointer) {
  Json json = valid();
  Json::json_pointer at(pointer);
  json[at.parent_pointer()].erase(at.back());
  return error_of(json.dump());
}

// The document without one of its namespaces, and with one member set.
std::string error_lacking(const char* type, const char* pointer, const char* value) {
  Json json = valid();
  Json& namespaces = json["linux"]["namespaces"];
  for (size_t i = 0; i < namespaces.size(); ++i)
    if (namespaces[i]["type"] == type) namespaces.erase(i--);
  if (std::string(type) != "user") json[Json::json_pointer(pointer)] = Json::parse(value);
  return error_of(json.dump());
}

TEST(ParseSpec, AcceptsTheValidDocument) { EXPECT_EQ(error_of(valid().dump()), ""); }

TEST(ParseSpec, AcceptsADocumentWithEveryMember) {
  std::ifstream file(CAISSON_SOURCE_DIR "/tests/fuzz/corpus/spec/everything.json");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  Result<Spec> spec = parse_spec(text);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  const Linux& config = spec->linux_;
  EXPECT_EQ(config.seccomp->syscalls[1].args[0].value_two, 2u);
  EXPECT_EQ(config.time_offsets.at("boottime").secs, -1);
  EXPECT_EQ(config.resources->block_io.throttle_write_iops[0].rate, 2u);
  EXPECT_EQ(config.resources->rdma.at("m").hca_objects, 2u);
  EXPECT_EQ(config.net_devices.at("eth1").name, "e");
  EXPECT_EQ(config.intel_rdt->schemata[0], "L3:0=f");
  EXPECT_EQ(config.memory_policy->flags[0], "MPOL_F_STATIC_NODES");
  EXPECT_EQ(spec->hooks.poststop.size(), 1u);
  EXPECT_EQ(spec->mounts[1].gid_mappings[0].size, 2u);
  EXPECT_EQ(spec->process.exec_cpu_affinity->final_, "0-1,3");
}

struct Case {
  const char* pointer;
  const char* value;
  const char* message;  // after "config.json: "; "" where the value is good
};

void expect_all(std::span<const Case> cases) {
  for (const Case& test : cases) {
    std::string expected = *test.message ? std::string("config.json: ") + test.message : "";
    EXPECT_EQ(error_with(test.pointer, test.value), expected) << test.pointer << " = " << test.value;
  }
}

TEST(ParseSpec, Top) {
  static const Case kCases[] = {
      {"/ociVersion", "\"1.3.0\"", ""},
      {"/ociVersion", "\"1.0.0-rc5-dev\"", ""},
      {"/ociVersion", "\"1.99.0\"", ""},
      {"/ociVersion", "\"2.0.0\"", "ociVersion: must be a version 1.x of the runtime specification, is \"2.0.0\""},
      {"/ociVersion", "\"0.5.0\"", "ociVersion: must be a version 1.x of the runtime specification, is \"0.5.0\""},
      {"/ociVersion", "\"1.0\"", "ociVersion: must be a version like \"1.0.2\", is \"1.0\""},
      {"/ociVersion", "1", "ociVersion: must be a string, is 1"},
      {"/ociVersion", "null", "ociVersion: must be given"},
      {"/root", "\"rootfs\"", "root: must be an object, is \"rootfs\""},
      {"/root", "{}", "root.path: must be given"},
      {"/root/path", "\"\"", "root.path: must not be empty"},
      {"/root/readonly", "\"yes\"", "root.readonly: must be true or false, is \"yes\""},
      {"/hostname", "[]", "hostname: must be a string, is an array"},
      {"/hostname", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "hostname: must have at most 64 bytes"},
      {"/annotations", "{\"a\": 1}", "annotations.a: must be a string, is 1"},
      {"/annotations", "{\"\": \"x\"}", "annotations: a key must not be empty"},
      {"/annotations", "{\"io.caisson.isolation\": \"vm\"}",
       "annotations[\"io.caisson.isolation\"]: must be auto, microvm, appkernel or namespace, is \"vm\""},
      {"/annotations", "{\"io.caisson.isolation\": \"microvm\"}", ""},
      {"/unknownMember", "{\"deep\": [1]}", ""},
  };
  expect_all(kCases);
  EXPECT_EQ(error_without("/ociVersion"), "config.json: ociVersion: must be given");
  EXPECT_EQ(error_without("/root"), "config.json: root: must be given");
  EXPECT_EQ(error_without("/linux"), "");
  EXPECT_EQ(error_without("/process"), "");
  EXPECT_EQ(error_lacking("uts", "/hostname", "\"x\""), "config.json: hostname: needs a namespace of type uts in linux.namespaces");
  EXPECT_EQ(error_lacking("uts", "/domainname", "\"x\""), "config.json: domainname: needs a namespace of type uts in linux.namespaces");
}

TEST(ParseSpec, Process) {
  static const Case kCases[] = {
      {"/process/args", "[]", "process.args: must have at least one entry, the program"},
      {"/process/args", "[\"\"]", "process.args: the program's name must not be empty"},
      {"/process/args", "[\"a\", 1]", "process.args[1]: must be a string, is 1"},
      {"/process/args", "[\"a\", null]", "process.args[1]: must be a string, is null"},
      {"/process/args", "\"true\"", "process.args: must be an array, is \"true\""},
      {"/process/cwd", "\"tmp\"", "process.cwd: must be absolute, is \"tmp\""},
      {"/process/cwd", "\"\"", "process.cwd: must be absolute, is \"\""},
      {"/process/user/uid", "\"root\"", "process.user.uid: must be a number from 0 to 4294967295, is \"root\""},
      {"/process/user/uid", "-1", "process.user.uid: must be a number from 0 to 4294967295, is -1"},
      {"/process/user/uid", "4294967296", "process.user.uid: must be a number from 0 to 4294967295, is 4294967296"},
      {"/process/user/uid", "1.5", "process.user.uid: must be a number from 0 to 4294967295, is 1.5"},
      {"/process/user/uid", "true", "process.user.uid: must be a number from 0 to 4294967295, is true"},
      {"/process/user/uid", "10", "process.user.uid: 10 is not mapped by linux.uidMappings"},
      {"/process/user/gid", "11", "process.user.gid: 11 is not mapped by linux.gidMappings"},
      {"/process/user/additionalGids", "[3, 10]", "process.user.additionalGids: 10 is not mapped by linux.gidMappings"},
      {"/process/user/additionalGids", "[3, {}]", "process.user.additionalGids[1]: must be a number from 0 to 4294967295, is an object"},
      {"/process/user/umask", "512", "process.user.umask: must be a number from 0 to 511, is 512"},
      {"/process/env", "[\"A=1\", \"B\"]", "process.env[1]: must be NAME=value, is \"B\""},
      {"/process/env", "[\"=1\"]", "process.env[0]: must be NAME=value, is \"=1\""},
      {"/process/env", "[\"A=\"]", ""},
      {"/process/terminal", "1", "process.terminal: must be true or false, is 1"},
      {"/process/consoleSize", "{\"height\": 1}", "process.consoleSize.width: must be given"},
      {"/process/capabilities", "{\"bounding\": [\"CAP_KILL\", \"CAP_NEWER\"]}", ""},
      {"/process/capabilities", "[\"CAP_KILL\"]", "process.capabilities: must be an object, is an array"},
      {"/process/rlimits", "[{\"type\": \"RLIMIT_FOO\", \"soft\": 1, \"hard\": 1}]", nullptr},
      {"/process/rlimits", "[{\"type\": \"RLIMIT_AS\", \"soft\": 2, \"hard\": 1}]",
       "process.rlimits[0].soft: must be at most the hard limit, 1, is 2"},
      {"/process/rlimits", "[{\"type\": \"RLIMIT_AS\", \"soft\": 2}]", "process.rlimits[0].hard: must be given"},
      {"/process/rlimits", "[{\"type\": \"RLIMIT_AS\", \"soft\": 2, \"hard\": 18446744073709551615}]", ""},
      {"/process/rlimits", "[{\"type\": \"RLIMIT_AS\", \"soft\": 1, \"hard\": 1}, {\"type\": \"RLIMIT_AS\", \"soft\": 1, \"hard\": 1}]",
       "process.rlimits[1].type: must be given once, is \"RLIMIT_AS\""},
      {"/process/oomScoreAdj", "1001", "process.oomScoreAdj: must be a number from -1000 to 1000, is 1001"},
      {"/process/scheduler", "{}", "process.scheduler.policy: must be given"},
      {"/process/scheduler", "{\"policy\": \"SCHED_ISO\"}",
       "process.scheduler.policy: must be SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE or SCHED_DEADLINE, is \"SCHED_ISO\""},
      {"/process/scheduler", "{\"policy\": \"SCHED_OTHER\", \"nice\": 20}",
       "process.scheduler.nice: must be a number from -20 to 19, is 20"},
      {"/process/scheduler", "{\"policy\": \"SCHED_OTHER\", \"priority\": 1}",
       "process.scheduler.priority: goes with the policies SCHED_FIFO and SCHED_RR only"},
      {"/process/scheduler", "{\"policy\": \"SCHED_FIFO\"}",
       "process.scheduler.priority: must be a number from 1 to 99 with the policies SCHED_FIFO and SCHED_RR"},
      {"/process/scheduler", "{\"policy\": \"SCHED_BATCH\", \"runtime\": 5}",
       "process.scheduler.runtime: goes with the policy SCHED_DEADLINE only"},
      {"/process/scheduler", "{\"policy\": \"SCHED_DEADLINE\", \"runtime\": 5, \"deadline\": 6, \"period\": 7}", ""},
      {"/process/ioPriority", "{\"class\": \"IOPRIO_CLASS_BE\", \"priority\": 8}",
       "process.ioPriority.priority: must be a number from 0 to 7, is 8"},
      {"/process/ioPriority", "{\"class\": \"BE\"}",
       "process.ioPriority.class: must be IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE, is \"BE\""},
      {"/process/execCPUAffinity", "{\"initial\": \"0-\"}",
       "process.execCPUAffinity.initial: must be a list of CPUs like \"0-3,7\", is \"0-\""},
      {"/process/execCPUAffinity", "{\"initial\": \"0-3,7\", \"final\": \"1\"}", ""},
  };
  for (const Case& test : kCases)
    if (test.message) expect_all({&test, 1});
  EXPECT_NE(error_with("/process/rlimits", "[{\"type\": \"RLIMIT_FOO\", \"soft\": 1, \"hard\": 1}]").find("is \"RLIMIT_FOO\""),
            std::string::npos);
  EXPECT_EQ(error_without("/process/args"), "config.json: process.args: must be given");
  EXPECT_EQ(error_without("/process/cwd"), "config.json: process.cwd: must be given");
}

TEST(ParseSpec, MountsAndHooks) {
  static const Case kCases[] = {
      {"/mounts", "[{\"type\": \"proc\"}]", "mounts[0].destination: must be given"},
      {"/mounts", "[{\"destination\": \"\"}]", "mounts[0].destination: must not be empty"},
      {"/mounts", "[{\"destination\": \"/a\", \"type\": \"tmpfs\"}, {\"destination\": \"/b\"}]",
       "mounts[1].type: must be given where options have neither bind nor rbind"},
      {"/mounts", "[{\"destination\": \"/a\", \"options\": [\"rbind\"]}]", "mounts[0].source: must be given for a bind mount"},
      {"/mounts", "[{\"destination\": \"/a\", \"source\": \"/b\", \"options\": [\"bind\", \"ro\"]}]", ""},
      {"/mounts", "[{\"destination\": \"/a\", \"type\": \"tmpfs\", \"options\": \"ro\"}]",
       "mounts[0].options: must be an array, is \"ro\""},
      {"/mounts", "[{\"destination\": \"/a\", \"type\": \"tmpfs\", \"uidMappings\": [{\"containerID\": 0, \"hostID\": 0, \"size\": 1}]}]",
       "mounts[0]: uidMappings and gidMappings must be given together"},
      {"/mounts", "{}", "mounts: must be an array, is an object"},
      {"/hooks", "{\"prestart\": [{\"path\": \"ls\"}]}", "hooks.prestart[0].path: must be absolute, is \"ls\""},
      {"/hooks", "{\"poststop\": [{\"path\": \"/ls\"}, {}]}", "hooks.poststop[1].path: must be given"},
      {"/hooks", "{\"createRuntime\": [{\"path\": \"/ls\", \"timeout\": 0}]}",
       "hooks.createRuntime[0].timeout: must be a number from 1 to 2147483647, is 0"},
      {"/hooks", "{\"startContainer\": [{\"path\": \"/ls\", \"args\": [\"ls\"], \"env\": [\"A=1\"], \"timeout\": 3}]}", ""},
  };
  expect_all(kCases);
  EXPECT_EQ(error_lacking("user", "", ""), "config.json: linux.uidMappings: needs a namespace of type user in linux.namespaces");
}

TEST(ParseSpec, RelativeDestinationIsBelowRoot) {
  Json json = valid();
  json["mounts"] = Json::parse("[{\"destination\": \"proc\", \"type\": \"proc\"}]");
  Result<Spec> spec = parse_spec(json.dump());
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_EQ(spec->mounts[0].destination, "/proc");
}

TEST(ParseSpec, Linux) {
  static const Case kCases[] = {
      {"/linux/namespaces", "[{\"type\": \"net\"}]",
       "linux.namespaces[0].type: must be cgroup, ipc, mount, network, pid, time, user or uts, is \"net\""},
      {"/linux/namespaces/0/path", "\"proc/1/ns/pid\"", "linux.namespaces[0].path: must be absolute, is \"proc/1/ns/pid\""},
      {"/linux/namespaces/1/type", "\"pid\"", "linux.namespaces[1].type: must be given once, is \"pid\""},
      {"/linux/uidMappings", "[]", "linux.uidMappings: must be given for a new user namespace"},
      {"/linux/uidMappings", "[{\"containerID\": 0, \"hostID\": 0, \"size\": 0}]",
       "linux.uidMappings[0].size: must be a number from 1 to 4294967295, is 0"},
      {"/linux/gidMappings",
       "[{\"containerID\": 1, \"hostID\": 0, \"size\": 4294967295}, {\"containerID\": 0, \"hostID\": 4294967295, \"size\": 2}]",
       "linux.gidMappings[1].size: reaches beyond the last id, 4294967295, is 2"},
      {"/linux/devices", "[{\"path\": \"dev/x\", \"type\": \"c\"}]", "linux.devices[0].path: must be absolute, is \"dev/x\""},
      {"/linux/devices", "[{\"path\": \"/dev/x\", \"type\": \"d\"}]", "linux.devices[0].type: must be b, c, p or u, is \"d\""},
      {"/linux/devices", "[{\"path\": \"/dev/x\", \"type\": \"c\", \"major\": 1}]", "linux.devices[0].minor: must be given"},
      {"/linux/devices", "[{\"path\": \"/dev/x\", \"type\": \"c\", \"major\": 4096, \"minor\": 0}]",
       "linux.devices[0].major: must be a number from 0 to 4095, is 4096"},
      {"/linux/devices", "[{\"path\": \"/dev/x\", \"type\": \"p\"}]", ""},
      {"/linux/netDevices", "{\"eth0\": {\"name\": \"a/b\"}}",
       "linux.netDevices.eth0.name: must be the name of a network interface, is \"a/b\""},
      {"/linux/netDevices", "{\"eth 0\": {}}", "linux.netDevices[\"eth 0\"]: must be the name of a network interface"},
      {"/linux/netDevices", "{\"eth0\": {\"name\": \"x\"}, \"eth1\": {\"name\": \"x\"}}",
       "linux.netDevices: two interfaces would be named x"},
      {"/linux/netDevices", "{\"eth0\": {}}", ""},
      {"/linux/rootfsPropagation", "\"share\"",
       "linux.rootfsPropagation: must be shared, slave, private, unbindable, rshared, rslave, rprivate or runbindable, is \"share\""},
      {"/linux/maskedPaths", "[\"/a\", \"b\"]", "linux.maskedPaths[1]: must be absolute, is \"b\""},
      {"/linux/readonlyPaths", "[\"b\"]", "linux.readonlyPaths[0]: must be absolute, is \"b\""},
      {"/linux/cgroupsPath", "\"/a/../b\"", "linux.cgroupsPath: must not contain \"..\", is \"/a/../b\""},
      {"/linux/cgroupsPath", "\"a.slice:caisson:x..y\"", ""},
      {"/linux/personality", "{\"domain\": \"BSD\"}", "linux.personality.domain: must be LINUX or LINUX32, is \"BSD\""},
      {"/linux/personality", "{\"domain\": \"LINUX\", \"flags\": [\"X\"]}",
       "linux.personality.flags: must be empty: the specification defines no flags"},
      {"/linux/timeOffsets", "{\"realtime\": {}}",
       "linux.timeOffsets.realtime: is no clock that a time namespace has; must be boottime or monotonic"},
      {"/linux/timeOffsets", "{\"boottime\": {\"secs\": -5, \"nanosecs\": 1000000000}}",
       "linux.timeOffsets.boottime.nanosecs: must be a number from 0 to 999999999, is 1000000000"},
      {"/linux/intelRdt", "{\"closID\": \"../x\"}", "linux.intelRdt.closID: must be the name of a folder, is \"../x\""},
      {"/linux/memoryPolicy", "{\"mode\": \"MPOL_FIRST\"}", nullptr},
      {"/linux/memoryPolicy", "{\"mode\": \"MPOL_BIND\", \"nodes\": \"x\"}",
       "linux.memoryPolicy.nodes: must be a list of memory nodes like \"0-1\", is \"x\""},
      {"/linux/memoryPolicy", "{\"mode\": \"MPOL_BIND\", \"nodes\": \"0-1\", \"flags\": [\"MPOL_F_STATIC_NODES\"]}", ""},
      {"/linux/sysctl", "{\"kernel.hostname\": \"x\"}", "linux.sysctl[\"kernel.hostname\"]: is set by the member hostname"},
      {"/linux/sysctl", "{\"vm.swappiness\": \"1\"}",
       "linux.sysctl[\"vm.swappiness\"]: belongs to no namespace: it would change the whole node"},
      {"/linux/sysctl", "{\"net.ipv4.ip_forward\": 1}", "linux.sysctl[\"net.ipv4.ip_forward\"]: must be a string, is 1"},
      {"/linux/sysctl", "{\"net.../../kernel/x\": \"1\"}", "linux.sysctl[\"net.../../kernel/x\"]: is not the name of a kernel parameter"},
      {"/linux/sysctl", "{\"net/../kernel/core_pattern\": \"1\"}",
       "linux.sysctl[\"net/../kernel/core_pattern\"]: is not the name of a kernel parameter"},
      {"/linux/sysctl",
       "{\"net/ipv4/conf/eth0.1/rp_filter\": \"1\", \"kernel.shmmax\": \"1\", \"fs.mqueue.msg_max\": \"1\", \"kernel.domainname\": \"a\"}",
       ""},
  };
  for (const Case& test : kCases)
    if (test.message) expect_all({&test, 1});
  EXPECT_EQ(error_lacking("ipc", "/linux/sysctl", "{\"kernel.sem\": \"1\"}"),
            "config.json: linux.sysctl[\"kernel.sem\"]: needs a namespace of type ipc in linux.namespaces");
  EXPECT_EQ(error_lacking("network", "/linux/sysctl", "{\"net.a.b\": \"1\"}"),
            "config.json: linux.sysctl[\"net.a.b\"]: needs a namespace of type network in linux.namespaces");
  EXPECT_EQ(error_lacking("time", "/linux/timeOffsets", "{\"boottime\": {\"secs\": 1}}"),
            "config.json: linux.timeOffsets: needs a namespace of type time in linux.namespaces");
  EXPECT_EQ(error_lacking("mount", "/linux/maskedPaths", "[\"/a\"]"),
            "config.json: linux.maskedPaths: needs a namespace of type mount in linux.namespaces");
  EXPECT_EQ(error_lacking("network", "/linux/netDevices", "{\"eth0\": {}}"),
            "config.json: linux.netDevices: needs a namespace of type network in linux.namespaces");
}

TEST(ParseSpec, Resources) {
  static const Case kCases[] = {
      {"/linux/resources", "{\"memory\": {\"limit\": -2}}",
       "linux.resources.memory.limit: must be a number from -1 to 9223372036854775807, is -2"},
      {"/linux/resources", "{\"memory\": {\"limit\": 1e6}}",
       "linux.resources.memory.limit: must be a number from -1 to 9223372036854775807, is 1000000.0"},
      {"/linux/resources", "{\"memory\": {\"limit\": 1000, \"swap\": 999}}",
       "linux.resources.memory.swap: is memory and swap together, so it must be at least memory.limit, 1000, is 999"},
      {"/linux/resources", "{\"memory\": {\"swappiness\": 101}}",
       "linux.resources.memory.swappiness: must be a number from 0 to 100, is 101"},
      {"/linux/resources", "{\"memory\": {\"swappiness\": 18446744073709551615}}", ""},
      {"/linux/resources", "{\"cpu\": {\"shares\": -1}}",
       "linux.resources.cpu.shares: must be a number from 0 to 18446744073709551615, is -1"},
      {"/linux/resources", "{\"cpu\": {\"cpus\": \"1-0\"}}", "linux.resources.cpu.cpus: must be a list of CPUs like \"0-3,7\", is \"1-0\""},
      {"/linux/resources", "{\"cpu\": {\"idle\": 2}}", "linux.resources.cpu.idle: must be a number from 0 to 1, is 2"},
      {"/linux/resources", "{\"pids\": {\"limit\": \"max\"}}", nullptr},
      {"/linux/resources", "{\"devices\": [{\"type\": \"x\"}]}", "linux.resources.devices[0].type: must be a, b or c, is \"x\""},
      {"/linux/resources", "{\"devices\": [{\"access\": \"rx\"}]}",
       "linux.resources.devices[0].access: must be made of the letters r, w and m, is \"rx\""},
      {"/linux/resources", "{\"devices\": [{\"allow\": true, \"major\": -1, \"minor\": -1}]}", ""},
      {"/linux/resources", "{\"blockIO\": {\"weight\": 1001}}", "linux.resources.blockIO.weight: must be a number from 0 to 1000, is 1001"},
      {"/linux/resources", "{\"blockIO\": {\"throttleReadBpsDevice\": [{\"major\": 8, \"minor\": 0}]}}",
       "linux.resources.blockIO.throttleReadBpsDevice[0].rate: must be given"},
      {"/linux/resources", "{\"blockIO\": {\"weightDevice\": [{\"major\": 8, \"minor\": 0}]}}",
       "linux.resources.blockIO.weightDevice[0]: must have weight or leafWeight"},
      {"/linux/resources", "{\"hugepageLimits\": [{\"pageSize\": \"2M\", \"limit\": 1}]}",
       "linux.resources.hugepageLimits[0].pageSize: must be a size like \"2MB\", is \"2M\""},
      {"/linux/resources", "{\"network\": {\"priorities\": [{\"name\": \"\", \"priority\": 1}]}}",
       "linux.resources.network.priorities[0].name: must not be empty"},
      {"/linux/resources", "{\"rdma\": {\"mlx5_1\": {}}}", "linux.resources.rdma.mlx5_1: must have hcaHandles or hcaObjects"},
      {"/linux/resources", "{\"unified\": {\"../x\": \"1\"}}", "linux.resources.unified: \"../x\" must be the name of a cgroup file"},
      {"/linux/resources", "{\"unified\": {\"memory.high\": \"max\"}}", ""},
      {"/linux/resources", "[]", "linux.resources: must be an object, is an array"},
  };
  for (const Case& test : kCases)
    if (test.message) expect_all({&test, 1});
}

TEST(ParseSpec, Seccomp) {
  static const Case kCases[] = {
      {"/linux/seccomp", "{}", "linux.seccomp.defaultAction: must be given"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_NOTIFY\"}",
       "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default action"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"defaultErrnoRet\": 1}",
       "linux.seccomp.defaultErrnoRet: does not go with the action SCMP_ACT_ALLOW"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 4096}",
       "linux.seccomp.defaultErrnoRet: must be a number from 0 to 4095, is 4096"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [], \"action\": \"SCMP_ACT_ALLOW\"}]}",
       "linux.seccomp.syscalls[0].names: must have at least one system call"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"read\"]}]}",
       "linux.seccomp.syscalls[0].action: must be given"},
      {"/linux/seccomp",
       "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ERRNO\","
       "\"args\": [{\"index\": 6, \"value\": 1, \"op\": \"SCMP_CMP_EQ\"}]}]}",
       "linux.seccomp.syscalls[0].args[0].index: must be a number from 0 to 5, is 6"},
      {"/linux/seccomp",
       "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"mkdir\"], \"action\": \"SCMP_ACT_NOTIFY\"}]}",
       "linux.seccomp.listenerPath: must be given where the action SCMP_ACT_NOTIFY is used"},
      {"/linux/seccomp",
       "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"listenerPath\": \"/s\", \"syscalls\": [{\"names\": [\"write\"], \"action\": "
       "\"SCMP_ACT_NOTIFY\"}]}",
       "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY cannot be used for the system call write"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"listenerMetadata\": \"x\"}",
       "linux.seccomp.listenerMetadata: goes with listenerPath only"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": [\"LOG\"]}",
       "linux.seccomp.flags[0]: must be SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_FILTER_FLAG_TSYNC or "
       "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, is \"LOG\""},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_X86_64\", \"SCMP_ARCH_X32\"]}", ""},
  };
  expect_all(kCases);
}

TEST(ParseSpec, KeepsWhatItReads) {
  Json json = valid();
  json["linux"]["resources"] = Json::parse(R"({"devices": [{"allow": false, "major": -1}], "memory": {"limit": 5, "swappiness": 60},
      "cpu": {"quota": -1}, "pids": {"limit": 7}, "network": {"classID": 9, "priorities": [{"name": "eth0", "priority": 4}]}})");
  json["linux"]["devices"] = Json::parse("[{\"path\": \"/dev/x\", \"type\": \"c\", \"major\": 1, \"minor\": 3, \"fileMode\": 8630}]");
  json["process"]["capabilities"] = Json::parse("{\"bounding\": [\"CAP_KILL\", \"CAP_NEWER\"]}");
  Result<Spec> spec = parse_spec(json.dump());
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  const Resources& resources = *spec->linux_.resources;
  EXPECT_FALSE(resources.devices[0].major.has_value());
  EXPECT_EQ(resources.devices[0].access, "rwm");
  EXPECT_EQ(resources.memory.limit, 5);
  EXPECT_FALSE(resources.memory.swap.has_value());
  EXPECT_EQ(resources.memory.swappiness, 60u);
  EXPECT_EQ(resources.cpu.quota, -1);
  EXPECT_EQ(resources.pids_limit, 7);
  EXPECT_EQ(resources.network.priorities.at("eth0"), 4u);
  EXPECT_EQ(spec->linux_.devices[0].file_mode, 0666u);
  EXPECT_EQ(spec->process.capabilities->bounding, std::vector<std::string>{"CAP_KILL"});
  EXPECT_EQ(spec->process.user.uid, 1u);
}

TEST(Sysctl, Path) {
  EXPECT_EQ(sysctl_path("kernel.shmmax"), "kernel/shmmax");
  EXPECT_EQ(sysctl_path("net.ipv4.conf.eth0/1.rp_filter"), "net/ipv4/conf/eth0.1/rp_filter");
  EXPECT_EQ(sysctl_path("net/ipv4/conf/eth0.1/rp_filter"), "net/ipv4/conf/eth0.1/rp_filter");
}

TEST(ParseResources, NamesItsOwnDocument) {
  Result<Resources> resources = parse_resources("{\"pids\": {\"limit\": \"x\"}}");
  ASSERT_FALSE(resources.ok());
  EXPECT_EQ(resources.error().message(),
            "resources: pids.limit: must be a number from -9223372036854775808 to 9223372036854775807, is \"x\"");
  EXPECT_TRUE(parse_resources("{}").ok());
}

class LoadBundle : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/caisson-oci-test-XXXXXX";
    ASSERT_NE(mkdtemp(pattern), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void write(const std::string& text) { std::ofstream(dir_ + "/config.json") << text; }
  std::string error() {
    Result<Spec> spec = load_bundle(dir_);
    return spec.ok() ? "" : spec.error().message();
  }
  std::string dir_;
};

TEST_F(LoadBundle, MakesPathsAbsolute) {
  Json json = valid();
  json["mounts"] = Json::parse(
      "[{\"destination\": \"/a\", \"source\": \"b\", \"options\": [\"bind\"]}, {\"destination\": \"/p\", \"type\": \"proc\", \"source\": "
      "\"proc\"}]");
  write(json.dump());
  std::string raw;
  Result<Spec> spec = load_bundle(dir_, &raw);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_EQ(spec->root.path, dir_ + "/rootfs");
  EXPECT_EQ(spec->mounts[0].source, dir_ + "/b");
  EXPECT_EQ(spec->mounts[1].source, "proc");
  EXPECT_EQ(raw, json.dump());
}

TEST_F(LoadBundle, RefusesWhatIsNoFile) {
  EXPECT_EQ(error(), "cannot open " + dir_ + "/config.json: No such file or directory");
  ASSERT_EQ(mkfifo((dir_ + "/config.json").c_str(), 0600), 0);
  EXPECT_EQ(error(), dir_ + "/config.json is not a regular file");
}

TEST_F(LoadBundle, RefusesParametersOfTheNodesNetwork) {
  Json json = valid();
  json["linux"]["namespaces"][1]["path"] = "/proc/self/ns/net";
  write(json.dump());
  EXPECT_EQ(error(), "");
  json["linux"]["sysctl"]["net.ipv4.ip_forward"] = "1";
  write(json.dump());
  EXPECT_EQ(
      error(),
      "config.json: linux.sysctl[\"net.ipv4.ip_forward\"]: the network namespace /proc/self/ns/net is the node's own, whose parameters a "
      "container may not set");
}

}  // namespace
}  // namespace caisson::oci
