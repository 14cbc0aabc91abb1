#include "host/rooted_path.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "host/files.h"

namespace caisson::host {
namespace {

class RootedPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/caisson-rooted-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    ASSERT_TRUE(mkdir_p(top_ + "/outside").ok());
    ASSERT_TRUE(mkdir_p(top_ + "/root/a/b").ok());
    root_.reset(open((top_ + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  void TearDown() override { (void)remove_tree(top_); }

  void link(const char* target, const char* name) { ASSERT_EQ(symlinkat(target, root_.get(), name), 0); }
  std::string resolve(const std::string& path, Missing missing = Missing::Fail) {
    auto found = open_in_root(root_.get(), path, missing);
    if (!found) return std::string("error ") + strerrorname_np(found.error().code());
    // The descriptor and the path that is told are of the same file.
    struct stat by_fd, by_path;
    EXPECT_EQ(fstat(found->fd.get(), &by_fd), 0);
    EXPECT_EQ(lstat((top_ + "/root" + found->path).c_str(), &by_path), 0);
    EXPECT_EQ(by_fd.st_ino, by_path.st_ino) << path;
    return found->path;
  }
  bool outside_is_empty() const { return rmdir((top_ + "/outside").c_str()) == 0; }

  std::string top_;
  UniqueFd root_;
};

TEST_F(RootedPathTest, PlainPaths) {
  EXPECT_EQ(resolve("/a/b"), "/a/b");
  EXPECT_EQ(resolve("a//./b/"), "/a/b");
  EXPECT_EQ(resolve("/"), "/");
  EXPECT_EQ(resolve("/a/.."), "/");
  EXPECT_EQ(resolve("/a/missing"), "error ENOENT");
}

TEST_F(RootedPathTest, DotDotStaysInside) {
  EXPECT_EQ(resolve("/../../../a/b"), "/a/b");
  link("../../../../a", "up");
  EXPECT_EQ(resolve("/up/b"), "/a/b");
  link("../outside", "sideways");
  EXPECT_EQ(resolve("/sideways"), "error ENOENT");
  EXPECT_EQ(resolve("/sideways", Missing::MakeFolder), "/outside");
  EXPECT_TRUE(outside_is_empty());
}

TEST_F(RootedPathTest, AbsoluteLinksStartAtTheRoot) {
  link((top_ + "/outside").c_str(), "out");
  EXPECT_EQ(resolve("/out/x", Missing::MakeFolder), top_ + "/outside/x");
  EXPECT_TRUE(outside_is_empty());
  link("/a/b", "in");
  EXPECT_EQ(resolve("/in"), "/a/b");
}

TEST_F(RootedPathTest, LinksInTheMiddleAndAtTheEnd) {
  link("a", "one");
  link("one/b", "two");
  EXPECT_EQ(resolve("/two"), "/a/b");
  link("two/../c", "three");
  EXPECT_EQ(resolve("/three", Missing::MakeFile), "/a/c");
}

TEST_F(RootedPathTest, LoopsEnd) {
  link("loop", "loop");
  link("ping/x", "pong");
  link("pong/x", "ping");
  EXPECT_EQ(resolve("/loop"), "error ELOOP");
  EXPECT_EQ(resolve("/ping", Missing::MakeFolder), "error ELOOP");
}

TEST_F(RootedPathTest, MagicLinksAreText) {
  link("/proc/self/root/etc", "magic");
  EXPECT_EQ(resolve("/magic/passwd"), "error ENOENT");
  EXPECT_EQ(resolve("/magic", Missing::MakeFolder), "/proc/self/root/etc");
}

TEST_F(RootedPathTest, MakesFilesAndFolders) {
  EXPECT_EQ(resolve("/new/file", Missing::MakeFile), "/new/file");
  EXPECT_EQ(resolve("/new/folder/deep", Missing::MakeFolder), "/new/folder/deep");
  EXPECT_EQ(resolve("/new/file/below", Missing::MakeFolder), "error ENOTDIR");
  // What exists already is not made anew.
  EXPECT_EQ(resolve("/new/folder", Missing::MakeFile), "/new/folder");
}

TEST_F(RootedPathTest, ParentOfANode) {
  link("a", "one");
  auto parent = open_parent_in_root(root_.get(), "/one/new/null");
  ASSERT_TRUE(parent.ok()) << parent.error().message();
  EXPECT_EQ(parent->name, "null");
  EXPECT_EQ(resolve("/a/new"), "/a/new");
  EXPECT_FALSE(open_parent_in_root(root_.get(), "/").ok());
  EXPECT_FALSE(open_parent_in_root(root_.get(), "/a/..").ok());
  EXPECT_FALSE(open_parent_in_root(root_.get(), "").ok());
}

}  // namespace
}  // namespace caisson::host
