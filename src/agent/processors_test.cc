#include "agent/processors.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "host/files.h"

namespace caisson::agent {
namespace {

TEST(Processors, ThoseThatAreOffAreSwitchedOn) {
  const std::string folder = ::testing::TempDir() + "processors";
  std::filesystem::remove_all(folder);
  const auto make = [&](const std::string& name, const char* online) {
    std::filesystem::create_directories(folder + "/" + name);
    if (online != nullptr) {
      EXPECT_TRUE(host::write_file_atomic(folder + "/" + name + "/online", online, 0600).ok());
    }
  };
  make("cpu0", nullptr);  // the first one cannot be switched off
  make("cpu1", "1\n");
  make("cpu2", "0\n");
  make("cpu13", "0\n");
  make("cpufreq", "0\n");
  EXPECT_EQ(switch_on_processors(folder), 2);
  EXPECT_EQ(*host::read_file(folder + "/cpu2/online", 16), "1\n") << "as sysfs takes it: written over, not cut";
  EXPECT_EQ(*host::read_file(folder + "/cpufreq/online", 16), "0\n");
  std::filesystem::remove_all(folder);
  EXPECT_EQ(switch_on_processors(folder), 0);
}

}  // namespace
}  // namespace caisson::agent
