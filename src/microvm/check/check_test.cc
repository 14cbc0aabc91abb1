#include "microvm/check.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "host/files.h"
#include "microvm/check/appkernel_needs.h"
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
      .appkernel_ok = true,
      .auto_isolation = "appkernel"};
};

TEST_F(MemoryTest, AReportIsRemembered) {
  EXPECT_FALSE(remembered_report(file));
  ASSERT_TRUE(remember_report(report, file).ok());
  auto found = remembered_report(file);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->auto_isolation, "appkernel");
  EXPECT_EQ(found->appkernel_ok, true);
  report.appkernel_ok.reset();
  ASSERT_TRUE(remember_report(report, file).ok());
  EXPECT_EQ(remembered_report(file)->appkernel_ok, std::nullopt);
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

TEST(Auto, TakesWhatHasBeenProvedAndNeverTheNodesKernel) {
  CheckReport report;
  report.kvm_ok = true;
  report.appkernel_ok = false;
  report.auto_isolation = "namespace";  // an older build's
  EXPECT_EQ(choose_auto(report).value(), "microvm");
  report.kvm_ok = false;
  report.appkernel_ok = true;
  EXPECT_EQ(choose_auto(report).value(), "appkernel");
  report.appkernel_ok = false;
  report.namespace_ok = true;
  report.rows = {{.what = "appkernel", .detail = "it is too old"}, {.what = "microvm (qemu, kvm)", .detail = "no such device"}};
  auto nothing = choose_auto(report);
  ASSERT_FALSE(nothing.ok());
  for (const char* part : {"it is too old", "no such device", "caisson check", "--isolation namespace"})
    EXPECT_NE(nothing.error().message().find(part), std::string::npos) << part << ": " << nothing.error().message();
}

TEST(Auto, WhereNothingHasBeenTriedTheNodeIsLookedAt) {
  auto chosen = choose_auto(CheckReport());
  EXPECT_EQ(chosen.ok(), check_appkernel_needs().ok());
  for (const char* release : {"5.12.0", "6.1.0-53-cloud-amd64", "10.0"}) EXPECT_TRUE(is_release_at_least(release, 5, 12)) << release;
  for (const char* release : {"5.11.99", "4.19", "5", "", "x.y", "5."}) EXPECT_FALSE(is_release_at_least(release, 5, 12)) << release;
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
