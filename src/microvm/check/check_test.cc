#include "microvm/check.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "host/files.h"
#include "microvm/check/memory.h"
#include "microvm/check/namespace_proof.h"

namespace caisson::microvm {
namespace {

class MemoryTest : public testing::Test {
 protected:
  MemoryTest() {
    char name[] = "/tmp/caisson-check-XXXXXX";
    folder = mkdtemp(name);
    file = folder + "/lib/check.json";
  }
  ~MemoryTest() override { (void)host::remove_tree(folder); }
  std::string folder, file;
  CheckReport report{
      .rows = {{.what = "microvm (qemu, kvm)", .ok = false, .required = false, .detail = "a \"reason\"\xff", .remedy = "a remedy"}},
      .namespace_ok = true,
      .tcg_ok = true,
      .auto_isolation = "namespace"};
};

TEST_F(MemoryTest, AReportIsRemembered) {
  EXPECT_FALSE(remembered_report(file));
  ASSERT_TRUE(remember_report(report, file).ok());
  auto found = remembered_report(file);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->auto_isolation, "namespace");
  EXPECT_TRUE(found->namespace_ok && found->tcg_ok);
  EXPECT_FALSE(found->kvm_ok);
  ASSERT_EQ(found->rows.size(), 1u);
  EXPECT_EQ(found->rows[0].remedy, "a remedy");
}

TEST_F(MemoryTest, AnotherBootKernelOrVersionMakesItWorthless) {
  ASSERT_TRUE(remember_report(report, file).ok());
  for (const char* key : {"version", "kernel", "kernel_version", "boot_id"}) {
    nlohmann::json json = nlohmann::json::parse(*host::read_file(file));
    json["circumstances"][key] = "another";
    ASSERT_TRUE(host::write_file_atomic(folder + "/other.json", json.dump()).ok());
    EXPECT_FALSE(remembered_report(folder + "/other.json")) << key;
  }
}

TEST_F(MemoryTest, RubbishIsNoReport) {
  for (const char* text : {"", "{", "[]", "{\"circumstances\":1,\"report\":2}", "null"}) {
    ASSERT_TRUE(host::write_file_atomic(folder + "/bad.json", text).ok());
    EXPECT_FALSE(remembered_report(folder + "/bad.json")) << text;
  }
}

TEST(Report, IsJsonWhateverIsInIt) {
  CheckReport report{.rows = {{.what = "x", .ok = true, .detail = "\xff\x01"}}};
  const nlohmann::json json = nlohmann::json::parse(report_to_json(report), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_TRUE(json["rows"][0]["ok"].get<bool>());
}

TEST(NamespaceProof, HoldsHere) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  auto proved = prove_namespaces();
  EXPECT_TRUE(proved.ok()) << proved.error().message();
  auto cgroups = prove_cgroups();
  ASSERT_TRUE(cgroups.ok()) << cgroups.error().message();
  EXPECT_TRUE(cgroups->starts_with("version "));
}

}  // namespace
}  // namespace caisson::microvm
