#include "kernel/task/namespaces.h"

#include <gtest/gtest.h>

#include "kernel/task/credentials.h"

namespace caisson::kernel {
namespace {

using Ids = UserNamespace::Ids;

// Of a container that has a user namespace of the host.
TEST(UserNamespaces, TheInitialOneHasTheHostsMap) {
  UserNamespace& first = *UserNamespace::initial();
  EXPECT_EQ(first.to_kernel(Ids::Users, 4'000'000'000u), 4'000'000'000u);
  first.adopt(Ids::Users, {{0, 100'000, 65'536}});
  EXPECT_EQ(first.to_kernel(Ids::Users, 5), 5u);
  EXPECT_EQ(first.to_kernel(Ids::Users, 65'536), std::nullopt);
  EXPECT_EQ(first.to_kernel(Ids::Groups, 65'536), 65'536u);
  ASSERT_EQ(first.map(Ids::Users).size(), 1u);
  EXPECT_EQ(first.map(Ids::Users)[0].outside, 100'000u);
  first.adopt(Ids::Users, {{0, 0, UINT32_MAX}});
}

TEST(Namespaces, NumbersAreDifferentOnEachLevel) {
  const auto outer = std::make_shared<PidNamespace>();
  const TaskIdRef first = *TaskId::create(outer);
  const auto inner = *PidNamespace::create(outer, UserNamespace::initial());
  TaskIdRef init = *TaskId::create(inner);
  EXPECT_EQ(first->number(), 1);
  EXPECT_EQ(init->number(), 1);
  EXPECT_EQ(init->in(*outer), 2);
  EXPECT_EQ(first->in(*inner), 0) << "from inside nobody outside is seen";
  EXPECT_EQ(init->in(PidNamespace()), 0);
  EXPECT_TRUE(inner->is_within(*outer));
  EXPECT_FALSE(outer->is_within(*inner));
}

TEST(Namespaces, ANumberInUseIsNotGivenAgain) {
  const auto pids = std::make_shared<PidNamespace>();
  std::vector<TaskIdRef> all;
  for (int i = 0; i < 1000; ++i) all.push_back(*TaskId::create(pids));
  std::set<pid_t> numbers;
  for (const TaskIdRef& each : all) numbers.insert(each->number());
  EXPECT_EQ(numbers.size(), all.size());
}

TEST(Namespaces, NestingEnds) {
  auto pids = std::make_shared<PidNamespace>();
  int depth = 0;
  for (;; ++depth) {
    auto next = PidNamespace::create(pids, UserNamespace::initial());
    if (!next) break;
    pids = *std::move(next);
  }
  EXPECT_EQ(depth, kDeepestNamespace);
  auto user = UserNamespace::initial();
  for (depth = 0;; ++depth) {
    auto next = UserNamespace::create(user, 0, 0);
    if (!next) break;
    user = *std::move(next);
  }
  EXPECT_EQ(depth, kDeepestNamespace);
}

TEST(Namespaces, IdsAreTranslated) {
  const auto user = *UserNamespace::create(UserNamespace::initial(), 1000, 1000);
  EXPECT_EQ(user->shown(Ids::Users, 1000), kOverflowId) << "without a map nobody has a name";
  ASSERT_TRUE(user->set_map(Ids::Users, {{0, 1000, 1}, {1, 100000, 10}}));
  EXPECT_EQ(user->set_map(Ids::Users, {{0, 0, 1}}).error(), Errno(EPERM)) << "once only";
  EXPECT_EQ(user->to_kernel(Ids::Users, 0), 1000u);
  EXPECT_EQ(user->to_kernel(Ids::Users, 10), 100009u);
  EXPECT_EQ(user->to_kernel(Ids::Users, 11), std::nullopt);
  EXPECT_EQ(user->from_kernel(Ids::Users, 100009), 10u);
  EXPECT_EQ(user->from_kernel(Ids::Users, 100010), std::nullopt);
  EXPECT_EQ(user->from_kernel(Ids::Groups, 1000), std::nullopt);
  ASSERT_TRUE(user->allow_set_groups(false));
  EXPECT_EQ(user->allow_set_groups(true).error(), Errno(EPERM));
}

TEST(Namespaces, CapabilitiesEndWhereTheNamespaceEnds) {
  const auto outer = *UserNamespace::create(UserNamespace::initial(), 1000, 1000);
  const auto inner = *UserNamespace::create(outer, 5, 5);
  Credentials creds;
  creds.euid = 7;
  creds.effective = kAllCapabilities;
  creds.user = outer;
  EXPECT_FALSE(creds.has(kCapSysAdmin)) << "nothing towards the whole kernel";
  EXPECT_TRUE(creds.has_own(kCapSysAdmin));
  EXPECT_TRUE(creds.has_in(*outer, kCapSysAdmin));
  EXPECT_TRUE(creds.has_in(*inner, kCapSysAdmin)) << "what is nested in it is its own";
  EXPECT_FALSE(creds.has_in(*UserNamespace::initial(), kCapSysAdmin));
  EXPECT_FALSE(creds.has_over(kCapChown, 1000, 1000)) << "a file of nobody that it knows";
  ASSERT_TRUE(outer->set_map(Ids::Users, {{0, 1000, 1}}));
  ASSERT_TRUE(outer->set_map(Ids::Groups, {{0, 1000, 1}}));
  EXPECT_TRUE(creds.has_over(kCapChown, 1000, 1000));
  EXPECT_FALSE(creds.has_over(kCapChown, 0, 1000));
  // Who has made one has everything in it, without any capability of its own.
  Credentials maker;
  maker.euid = 1000;
  EXPECT_TRUE(maker.has_in(*outer, kCapSysAdmin));
  maker.euid = 1001;
  EXPECT_FALSE(maker.has_in(*outer, kCapSysAdmin));
}

}  // namespace
}  // namespace caisson::kernel
