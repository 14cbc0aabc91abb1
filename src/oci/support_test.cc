#include "oci/support.h"

#include <gtest/gtest.h>

#include "base/doc_table.h"
#include "oci/document.h"
#include "oci/parse.h"

namespace caisson::oci {
namespace {

Json base() { return Json::parse(default_spec_json(false, 0, 0)); }

std::vector<std::string> warnings_of(const Json& json, const char* isolation) {
  Result<Adapted> adapted = adapt_config(json.dump(), isolation);
  EXPECT_TRUE(adapted.ok()) << adapted.error().message();
  return adapted.ok() ? adapted->warnings : std::vector<std::string>();
}

TEST(Support, DefaultSpecIsHonouredByAll) {
  for (const char* isolation : {"namespace", "microvm"}) EXPECT_EQ(warnings_of(base(), isolation), std::vector<std::string>()) << isolation;
}

TEST(Support, IgnoredMembersAreNamedAndTakenOut) {
  Json json = base();
  json["process"]["apparmorProfile"] = "p";
  json["linux"]["resources"]["memory"] = {{"limit", 1 << 20}, {"swappiness", 5}};
  json["linux"]["resources"]["cpu"] = {{"cpus", "0"}, {"mems", "0"}, {"shares", 5}};
  json["linux"]["namespaces"] = Json::parse(
      R"([{"type":"network","path":"/n"},{"type":"ipc","path":"/i"},{"type":"uts"},{"type":"mount"},{"type":"pid"},{"type":"cgroup"}])");
  EXPECT_EQ(warnings_of(json, "namespace"), std::vector<std::string>());

  Result<Adapted> adapted = adapt_config(json.dump(), "microvm");
  ASSERT_TRUE(adapted.ok()) << adapted.error().message();
  ASSERT_EQ(adapted->warnings.size(), 4u);
  EXPECT_EQ(adapted->warnings[0],
            "config.json: process.apparmorProfile: ignored with microvm isolation: the guest's kernel has no AppArmor; the guest itself is "
            "the wall");
  EXPECT_TRUE(adapted->warnings[1].starts_with("config.json: linux.namespaces[].path of ipc, uts (ipc): ignored")) << adapted->warnings[1];

  Json expected = json;
  expected["process"].erase("apparmorProfile");
  expected["linux"]["resources"]["memory"].erase("swappiness");
  expected["linux"]["resources"]["cpu"] = {{"shares", 5}};
  EXPECT_EQ(Json::parse(adapted->json), expected);
}

TEST(Support, RefusedMembersAreNamed) {
  struct {
    const char* pointer;
    const char* value;
    const char* start;
  } const kCases[] = {
      {"/hooks", R"({"createContainer":[{"path":"/x"}]})", "config.json: hooks.createContainer: not possible with microvm isolation: "},
      {"/linux/netDevices", R"({"eth0":{}})", "config.json: linux.netDevices: not possible with microvm isolation: "},
      {"/linux/namespaces/0/path", "\"/proc/1/ns/pid\"",
       "config.json: linux.namespaces[].path of other types (pid): not possible with microvm"},
      {"/linux/intelRdt", "{}", "config.json: linux.intelRdt: not possible with microvm isolation: "},
      {"/linux/seccomp",
       R"({"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/l","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]})",
       "config.json: linux.seccomp: SCMP_ACT_NOTIFY, listenerPath, listenerMetadata: not possible with microvm isolation: "},
  };
  for (const auto& test : kCases) {
    Json json = base();
    json[Json::json_pointer(test.pointer)] = Json::parse(test.value);
    Result<Adapted> adapted = adapt_config(json.dump(), "microvm");
    ASSERT_FALSE(adapted.ok()) << test.pointer;
    EXPECT_EQ(adapted.error().code(), ENOTSUP);
    EXPECT_TRUE(adapted.error().message().starts_with(test.start)) << adapted.error().message();
    bool rdt = std::string(test.pointer) == "/linux/intelRdt";
    EXPECT_EQ(adapt_config(json.dump(), "namespace").ok(), !rdt) << test.pointer;
  }
}

// They were once ignored in silence.
TEST(Support, WhatTheApplicationKernelLacksIsNamed) {
  Json json = base();
  json["process"]["apparmorProfile"] = "confined";
  json["process"]["selinuxLabel"] = "system_u:system_r:container_t:s0";
  json["linux"]["personality"] = {{"domain", "LINUX32"}};
  json["linux"]["sysctl"] = {{"kernel.shmmax", "65536"}, {"net.ipv4.ip_forward", "1"}};
  json["linux"]["namespaces"].push_back({{"type", "time"}});
  json["linux"]["timeOffsets"] = {{"monotonic", {{"secs", 5}, {"nanosecs", 0}}}};
  json["linux"]["devices"] = Json::parse(
      R"([{"path":"/dev/null","type":"c","major":1,"minor":3},{"path":"/dev/fuse","type":"c","major":10,"minor":229},
        {"path":"/dev/sda","type":"b","major":8,"minor":0},{"path":"/pipe","type":"p"}])");
  Result<Adapted> adapted = adapt_config(json.dump(), "appkernel");
  ASSERT_TRUE(adapted.ok()) << adapted.error().message();
  std::string all;
  for (const std::string& warning : adapted->warnings) all += warning + "\n";
  for (const char* start : {"config.json: process.apparmorProfile: ignored with appkernel isolation: ",
                            "config.json: process.selinuxLabel: ignored", "config.json: linux.devices (/dev/fuse, /dev/sda): ignored"})
    EXPECT_NE(all.find(start), std::string::npos) << start << "\n" << all;
  EXPECT_EQ(all.find("sysctl"), std::string::npos) << all;
  const Json left = Json::parse(adapted->json);
  EXPECT_FALSE(left["process"].contains("apparmorProfile"));
  EXPECT_TRUE(left["linux"].contains("personality")) << "what it has stays";
  EXPECT_TRUE(left["linux"].contains("timeOffsets"));
  EXPECT_TRUE(adapt_config(json.dump(), "namespace")->warnings.empty());
}

TEST(Support, DevicesOfTheNodeAreNamed) {
  Json json = base();
  json["linux"]["devices"] =
      Json::parse(R"([{"path":"/dev/null","type":"c","major":1,"minor":3},{"path":"/dev/sda","type":"b","major":8,"minor":0},
        {"path":"/dev/ttyUSB0","type":"c","major":188,"minor":0}])");
  std::vector<std::string> warnings = warnings_of(json, "microvm");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_TRUE(warnings[0].starts_with("config.json: linux.devices (/dev/ttyUSB0): ignored")) << warnings[0];
}

TEST(Support, NamespacesOfTheNode) {
  Json json = base();
  json["linux"]["namespaces"] = Json::parse(R"([{"type":"mount"},{"type":"pid"},{"type":"uts"},{"type":"cgroup"}])");
  std::vector<std::string> warnings = warnings_of(json, "microvm");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("(network, ipc)"), std::string::npos) << warnings[0];
}

TEST(Support, ExecProcess) {
  Result<Adapted> adapted = adapt_process(R"({"args":["a"],"cwd":"/","selinuxLabel":"x","user":{"uid":1,"gid":2}})", "microvm");
  ASSERT_TRUE(adapted.ok()) << adapted.error().message();
  EXPECT_EQ(adapted->warnings.size(), 1u);
  EXPECT_EQ(Json::parse(adapted->json), Json::parse(R"({"args":["a"],"cwd":"/","user":{"uid":1,"gid":2}})"));
}

TEST(Support, DocumentationIsInStep) { expect_doc_table("config-json.md", "support", support_markdown()); }

}  // namespace
}  // namespace caisson::oci
