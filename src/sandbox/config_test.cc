#include "sandbox/config.h"

#include <gtest/gtest.h>

#include "base/doc_table.h"
#include "sandbox/config_keys.h"

namespace caisson::sandbox {
namespace {

std::string error_of(std::string_view toml) {
  Result<RuntimeConfig> config = parse_config(toml, "c.toml");
  return config.ok() ? "" : config.error().message();
}

TEST(Config, ReadsEveryKindOfKey) {
  Result<RuntimeConfig> config = parse_config(R"(
isolation = "microvm"
[microvm]
machine = "q35"
kernel = "/boot/vmlinux"
initrd = "/boot/initrd"
default_vcpus = 3
minimum_memory_mib = 0x100
jail = false
)",
                                              "c.toml");
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->isolation, "microvm");
  EXPECT_EQ(config->microvm.machine, "q35");
  EXPECT_EQ(config->microvm.initrd, "/boot/initrd");
  EXPECT_EQ(config->microvm.default_vcpus, 3u);
  EXPECT_EQ(config->microvm.minimum_memory_mib, 256u);
  EXPECT_FALSE(config->microvm.jail);
  EXPECT_EQ(config->microvm.accel, "auto");
}

TEST(Config, DefaultsAreValid) {
  EXPECT_EQ(error_of(""), "");
  Result<RuntimeConfig> again = config_from_json(config_to_json(RuntimeConfig{}));
  ASSERT_TRUE(again.ok()) << again.error().message();
}

TEST(Config, ErrorsNameFileLineAndKey) {
  struct {
    const char* toml;
    const char* message;
  } const kCases[] = {
      {"isolation = \"vm\"", "c.toml:1: isolation: must be auto, microvm, appkernel or namespace, is \"vm\""},
      {"isolation = 1", "c.toml:1: isolation: must be a string, is 1"},
      {"\n[microvm]\ndefault_vcpus = \"two\"", "c.toml:3: microvm.default_vcpus: must be a number from 1 to 1024, is \"two\""},
      {"[microvm]\ndefault_vcpus = -1", "c.toml:2: microvm.default_vcpus: must be a number from 1 to 1024, is -1"},
      {"[microvm]\ndefault_vcpus = 4294967297", "c.toml:2: microvm.default_vcpus: must be a number from 1 to 1024, is 4294967297"},
      {"[microvm]\ndefault_vcpus = 1.5", "c.toml:2: microvm.default_vcpus: must be a number from 1 to 1024, is 1.5"},
      {"[microvm]\njail = \"no\"", "c.toml:2: microvm.jail: must be true or false, is \"no\""},
      {"[microvm]\njail = [false]", "c.toml:2: microvm.jail: must be true or false, is an array"},
      {"[microvm]\nkernel = \"vmlinux\"", "c.toml:2: microvm.kernel: must be an absolute path, is \"vmlinux\""},
      {"[microvm]\nmachin = \"q35\"", "c.toml:2: microvm.machin: unknown key; did you mean microvm.machine?"},
      {"default_vcpus = 2", "c.toml:1: default_vcpus: unknown key; did you mean microvm.default_vcpus?"},
      {"[micro_vm]\njail = true", "c.toml:1: micro_vm: unknown key; did you mean [microvm]?"},
      {"[something.else]", "c.toml:1: something: unknown key"},
      {"microvm = 3", "c.toml:1: microvm: must be a table, is 3"},
      {"[microvm]\ninitrd = \"/x\"", "c.toml: microvm.initrd: goes with microvm.kernel only"},
      {"[microvm]\nmax_vcpus = 1\ndefault_vcpus = 2", "c.toml: microvm.max_vcpus: must be 0 or at least microvm.default_vcpus, 2, is 1"},
  };
  for (const auto& test : kCases) EXPECT_EQ(error_of(test.toml), test.message) << test.toml;
  EXPECT_TRUE(error_of("isolation = \"auto").starts_with("c.toml:1: not valid TOML: ")) << error_of("isolation = \"auto");
  EXPECT_TRUE(error_of("a = 1\na = 2").starts_with("c.toml:")) << error_of("a = 1\na = 2");
}

TEST(Config, JsonRoundTripKeepsEveryKey) {
  RuntimeConfig config;
  config.isolation = "microvm";
  config.microvm.kernel = "/k\xc3\xa9rnel";
  config.microvm.initrd = "/i";
  config.microvm.jail = false;
  config.microvm.default_memory_mib = 12345;
  config.microvm.boot_timeout_seconds = 7;
  std::string json = config_to_json(config);
  Result<RuntimeConfig> again = config_from_json(json);
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(config_to_json(*again), json);
  EXPECT_EQ(again->microvm.kernel, config.microvm.kernel);
  EXPECT_FALSE(again->microvm.jail);
}

TEST(Config, JsonErrors) {
  auto error = [](std::string_view json) {
    Result<RuntimeConfig> config = config_from_json(json);
    return config.ok() ? std::string() : config.error().message();
  };
  EXPECT_EQ(error("{\"isolation\": 3}"), "configuration: isolation: must be a string, is 3");
  EXPECT_EQ(error("{\"microvm\": {\"default_vcpus\": 0}}"), "configuration: microvm.default_vcpus: must be a number from 1 to 1024, is 0");
  EXPECT_EQ(error("{\"microvm\": {\"jail\": 1}}"), "configuration: microvm.jail: must be true or false, is 1");
  EXPECT_NE(error("{"), "");
}

TEST(Config, MissingFiles) {
  Result<RuntimeConfig> config = load_config("/nonexistent/caisson.toml");
  ASSERT_FALSE(config.ok());
  EXPECT_NE(config.error().message().find("/nonexistent/caisson.toml"), std::string::npos) << config.error().message();
}

TEST(Config, DocumentationIsInStep) { expect_doc_table("configuration.md", "keys", config_markdown()); }

}  // namespace
}  // namespace caisson::sandbox
