#include <gtest/gtest.h>

#include "oci/document.h"
#include "oci/mount_options.h"
#include "oci/names.h"
#include "oci/parse.h"

namespace caisson::oci {
namespace {

TEST(ProcessJson, RoundTripKeepsEveryMember) {
  const char* text = R"({"terminal":true,"consoleSize":{"height":5,"width":6},"user":{"uid":1,"gid":2,"umask":18,"additionalGids":[3]},
    "args":["a","b"],"env":["A=1"],"cwd":"/x","capabilities":{"bounding":["CAP_KILL"],"ambient":["CAP_CHOWN"],"effective":["CAP_KILL"],
    "inheritable":["CAP_KILL"],"permitted":["CAP_KILL"]},"rlimits":[{"type":"RLIMIT_AS","hard":4,"soft":3}],"noNewPrivileges":true,
    "apparmorProfile":"p","oomScoreAdj":-5,"selinuxLabel":"l","scheduler":{"policy":"SCHED_FIFO","priority":3,"flags":["SCHED_FLAG_RESET_ON_FORK"]},
    "ioPriority":{"class":"IOPRIO_CLASS_BE","priority":4},"execCPUAffinity":{"initial":"0","final":"0-1"}})";
  Result<Process> process = parse_process(text);
  ASSERT_TRUE(process.ok()) << process.error().message();
  EXPECT_EQ(Json::parse(process_to_json(*process)), Json::parse(text));
}

TEST(ProcessJson, MinimalProcess) {
  Result<Process> process = parse_process("{\"args\": [\"a\"], \"cwd\": \"/\"}");
  ASSERT_TRUE(process.ok());
  EXPECT_EQ(process_to_json(*process), "{\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"a\"],\"cwd\":\"/\"}");
}

TEST(ProcessJson, NamesThatAreNotUtf8DoNotThrow) {
  Process process{.args = {"\xff"}, .cwd = "/"};
  EXPECT_NE(process_to_json(process), "");
}

TEST(StateJson, HasTheSpecificationsMembers) {
  Json json = Json::parse(state_to_json({.id = "c", .status = "running", .pid = 7, .bundle = "/b", .annotations = {{"k", "v"}}}));
  EXPECT_EQ(json, Json::parse(R"({"ociVersion":"1.3.0","id":"c","status":"running","pid":7,"bundle":"/b","annotations":{"k":"v"}})"));
}

TEST(DefaultSpec, IsValid) {
  for (bool rootless : {false, true}) {
    Result<Spec> spec = parse_spec(default_spec_json(rootless, 1000, 1001));
    ASSERT_TRUE(spec.ok()) << spec.error().message();
    EXPECT_EQ(spec->find_namespace("user") != nullptr, rootless);
    EXPECT_EQ(spec->find_namespace("network") != nullptr, !rootless);
    EXPECT_EQ(spec->process.args, std::vector<std::string>{"sh"});
    if (rootless) {
      EXPECT_EQ(spec->linux_.gid_mappings[0].host_id, 1001u);
    }
  }
}

TEST(Features, ListsWhatIsParsed) {
  Json json = Json::parse(features_json());
  EXPECT_EQ(json["ociVersionMin"], "1.0.0");
  EXPECT_EQ(json["ociVersionMax"], kSpecVersion);
  EXPECT_EQ(json["hooks"].size(), 6u);
  EXPECT_EQ(json["linux"]["capabilities"].size(), std::size(kCapabilities));
  EXPECT_EQ(json["mountOptions"].size(), std::size(kMountOptions));
  // Each version named must be accepted.
  for (const char* name : {"ociVersionMin", "ociVersionMax"}) {
    Json spec = {{"ociVersion", json[name]}, {"root", {{"path", "r"}}}};
    EXPECT_TRUE(parse_spec(spec.dump()).ok()) << name;
  }
}

TEST(Names, TablesAreComplete) {
  // linux/capability.h numbers capabilities without gaps.
  for (size_t i = 0; i < std::size(kCapabilities); ++i) EXPECT_EQ(kCapabilities[i].value, static_cast<int64_t>(i)) << kCapabilities[i].name;
  EXPECT_EQ(std::size(kCapabilities), static_cast<size_t>(CAP_LAST_CAP) + 1);
  EXPECT_EQ(std::size(kRlimits), static_cast<size_t>(RLIMIT_NLIMITS));
}

TEST(MountOptions, RowsAreDistinctAndSorted) {
  for (size_t i = 1; i < std::size(kMountOptions); ++i) EXPECT_LT(kMountOptions[i - 1].name, kMountOptions[i].name);
  EXPECT_EQ(find_mount_option("size=64k"), nullptr);
  for (const MountOption& option : kMountOptions) EXPECT_EQ(option.set & option.clear & ~uint64_t{MOUNT_ATTR__ATIME}, 0u) << option.name;
}

}  // namespace
}  // namespace caisson::oci
