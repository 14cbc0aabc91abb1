#include "cli/state.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/files.h"

namespace caisson::cli {
namespace {

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/caisson-store-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    root_ = folder;
  }
  void TearDown() override { ASSERT_TRUE(host::remove_tree(root_).ok()); }

  std::string root_;
};

ContainerState example() {
  ContainerState state;
  state.id = "a";
  state.bundle = "/b";
  state.rootfs = "/b/rootfs";
  state.isolation = "namespace";
  state.created = "2026-01-02T03:04:05.000000006Z";
  state.owner = 1000;
  state.terminal = true;
  state.complete = true;
  state.annotations = {{"key", "val\"ue"}};
  state.process = {.pid = 42, .start_time = 4242};
  state.holder = true;
  return state;
}

TEST(ContainerId, Table) {
  for (const std::string& good :
       {std::string("a"), std::string("A-b_c.d+9"), std::string("..."), std::string("-x"), std::string(1024, 'x')})
    EXPECT_TRUE(check_container_id(good).ok()) << good;
  for (const std::string& bad : std::vector<std::string>{"", ".", "..", "a/b", "a b", "a\n", "\xc3\xa4", "a:b", std::string(1025, 'x')})
    EXPECT_FALSE(check_container_id(bad).ok()) << bad;
}

TEST(ContainerState, SurvivesItsText) {
  ContainerState state = example();
  Result<ContainerState> read = state_from_text(state_to_text(state));
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(state_to_text(*read), state_to_text(state));
  EXPECT_EQ(read->annotations.at("key"), "val\"ue");
  EXPECT_EQ(read->process.start_time, 4242u);
}

TEST(ContainerState, RefusesWhatIsBroken) {
  std::string text = state_to_text(example());
  for (size_t length = 0; length + 2 < text.size(); ++length) EXPECT_FALSE(state_from_text(text.substr(0, length)).ok()) << length;
  EXPECT_FALSE(state_from_text("[]").ok());
  EXPECT_FALSE(state_from_text("{\"id\":1}").ok());
}

TEST_F(StoreTest, MakesAFolderOnce) {
  Store store(root_ + "/deep/root");
  ASSERT_TRUE(store.make_folder("a").ok());
  Result<std::string> again = store.make_folder("a");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), EEXIST);
  EXPECT_NE(again.error().message().find("container with given ID already exists"), std::string::npos);
  EXPECT_FALSE(store.make_folder("../a").ok());
}

TEST_F(StoreTest, LoadsWhatItSaved) {
  Store store(root_);
  ASSERT_TRUE(store.make_folder("a").ok());
  // A folder without its state: create was killed.
  Result<ContainerState> none = store.load("a");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message().find("delete --force a"), std::string::npos);
  ASSERT_TRUE(store.save(example()).ok());
  Result<ContainerState> state = store.load("a");
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(state->bundle, "/b");
  Result<ContainerState> missing = store.load("b");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code(), ENOENT);
  EXPECT_NE(missing.error().message().find("container does not exist"), std::string::npos);
}

TEST_F(StoreTest, ListsFoldersOnly) {
  Store store(root_);
  ASSERT_TRUE(store.make_folder("b").ok());
  ASSERT_TRUE(store.make_folder("a").ok());
  ASSERT_TRUE(host::write_file_atomic(root_ + "/file", "x").ok());
  Result<std::vector<std::string>> ids = store.ids();
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(*ids, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(Store(root_ + "/absent").ids()->empty());
}

TEST(UserName, FromPasswd) {
  EXPECT_EQ(user_name(0), "root");
  EXPECT_EQ(user_name(3999999999u), "3999999999");
}

}  // namespace
}  // namespace caisson::cli
