#include "shim/arguments.h"

#include <gtest/gtest.h>

namespace caisson::shim {
namespace {

TEST(ShimArguments, TakesWhatContainerdPasses) {
  auto arguments = parse_arguments({"-namespace", "k8s.io", "-address", "/run/containerd/containerd.sock", "-publish-binary",
                                    "/usr/bin/containerd", "-id", "abc", "-bundle", "/run/b", "-debug", "start"});
  ASSERT_TRUE(arguments.ok()) << arguments.error().message();
  EXPECT_EQ(arguments->namespace_, "k8s.io");
  EXPECT_EQ(arguments->id, "abc");
  EXPECT_EQ(arguments->bundle, "/run/b");
  EXPECT_TRUE(arguments->debug);
  EXPECT_EQ(arguments->command, "start");
}

TEST(ShimArguments, TakesJoinedValuesAndTwoDashes) {
  auto arguments = parse_arguments({"--id=x=y", "-debug=false", "delete"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_EQ(arguments->id, "x=y");
  EXPECT_FALSE(arguments->debug);
}

TEST(ShimArguments, NamesWhatItDoesNotKnow) {
  EXPECT_EQ(parse_arguments({"-frobnicate"}).error().message(), "unknown flag \"-frobnicate\"");
  EXPECT_EQ(parse_arguments({"-id"}).error().message(), "flag -id needs a value");
  EXPECT_EQ(parse_arguments({"start", "again"}).error().code(), EINVAL);
}

}  // namespace
}  // namespace caisson::shim
