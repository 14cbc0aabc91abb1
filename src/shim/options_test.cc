#include "shim/options.h"

#include <gtest/gtest.h>

namespace caisson::shim {
namespace {

std::string pod(const std::string& namespaces, const std::string& annotations = "") {
  return R"({"ociVersion":"1.0.2","root":{"path":"r"},"process":{"args":["/pause"],"cwd":"/","user":{"uid":0,"gid":0}},"annotations":{)" +
         annotations + (annotations.empty() ? "" : ",") + R"("io.kubernetes.cri.container-type":"sandbox"},"linux":{"namespaces":[)" +
         namespaces + R"({"type":"mount"}]}})";
}
constexpr const char* kOwnNetwork = R"({"type":"network","path":"/var/run/netns/x"},)";

TEST(ShimOptions, BodyGoesBeforeTheDefaultFile) {
  containerd::RuntimeOptions options;
  options.set_config_body("isolation = \"namespace\"\n[microvm]\ndefault_memory_mib = 333\n");
  containerd::Any any;
  any.set_type_url("types.containerd.io/runtimeoptions.v1.Options");
  any.set_value(options.SerializeAsString());
  auto config = config_from_options(any);
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->isolation, "namespace");
  EXPECT_EQ(config->microvm.default_memory_mib, 333U);
  options.set_config_body("isolation = 3\n");
  any.set_value(options.SerializeAsString());
  config = config_from_options(any);
  ASSERT_FALSE(config.ok());
  EXPECT_NE(config.error().message().find("config_body:1: isolation"), std::string::npos) << config.error().message();
}

TEST(ShimOptions, IsolationByProgramThenAnnotationThenConfiguration) {
  sandbox::RuntimeConfig config;
  config.isolation = "namespace";
  const std::string annotation = R"("io.caisson.isolation":"microvm")";
  EXPECT_EQ(choose_isolation(config, "", pod(kOwnNetwork)).value(), "namespace");
  EXPECT_EQ(choose_isolation(config, "", pod(kOwnNetwork, annotation)).value(), "microvm");
  EXPECT_EQ(choose_isolation(config, "namespace", pod(kOwnNetwork, annotation)).value(), "namespace");
  auto wrong = choose_isolation(config, "", pod(kOwnNetwork, R"("io.caisson.isolation":"moon")"));
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message().find("\"moon\""), std::string::npos);
}

TEST(ShimOptions, TheNodesNetworkIsNotForVirtualMachines) {
  sandbox::RuntimeConfig config;
  config.isolation = "microvm";
  auto refused = choose_isolation(config, "", pod(""));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ENOTSUP);
  EXPECT_NE(refused.error().message().find("hostNetwork"), std::string::npos);
  config.host_network = "namespace";
  EXPECT_EQ(choose_isolation(config, "", pod("")).value(), "namespace");
  EXPECT_EQ(choose_isolation(config, "", pod(kOwnNetwork)).value(), "microvm");
}

}  // namespace
}  // namespace caisson::shim
