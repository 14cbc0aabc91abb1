#include "kernel/fs/overlay/overlay.h"

#include <thread>

#include "kernel/fs/common/test_kernel.h"

namespace caisson::kernel {
namespace {

class Overlay : public TestKernel {
 protected:
  void SetUp() override {
    TestKernel::SetUp();
    for (const char* name : {"l1", "l2", "u", "w", "m"}) folder(name);
    put("l2/low", "of l2");
    put("l1/both", "of l1");
    put("l2/both", "of l2");
    folder("l2/d");
    put("l2/d/file", "deep");
  }
  void folder(const std::string& path) {
    const LastName last = *walk_to_last(*task, AT_FDCWD, path);
    ASSERT_TRUE(last.folder.inode()->make(*task, last.name, S_IFDIR | 0755, 0));
  }
  void put(const std::string& path, std::string_view text) {
    const FileRef file = open(path, O_CREAT | O_WRONLY | O_TRUNC);
    ASSERT_TRUE(write(file, text));
  }
  Result<MountRef> mount(const std::string& options = "lowerdir=/l1:/l2,upperdir=/u,workdir=/w", const char* at = "/m") {
    return mount_in_container(*task, at, "overlay", "overlay", options);
  }
  Result<void> unlink(const std::string& path) {
    const LastName last = TRY(walk_to_last(*task, AT_FDCWD, path));
    const InodeRef in = last.folder.inode();
    TRY(in->unlink(*task, last.name));
    last.folder.dentry->forget(last.name);
    return {};
  }
  std::vector<std::string> listed(std::string_view path) {
    std::vector<std::string> all = names(path);
    std::erase_if(all, [](const std::string& name) { return name == "." || name == ".."; });
    std::sort(all.begin(), all.end());
    return all;
  }
};

using Names = std::vector<std::string>;

TEST_F(Overlay, MergesAndCopiesUp) {
  ASSERT_TRUE(mount());
  EXPECT_EQ(listed("m"), (Names{"both", "d", "low"}));
  EXPECT_EQ(content("m/both"), "of l1");
  const uint64_t before = walk(*task, AT_FDCWD, "m/d/file")->inode()->stat()->stx_ino;
  put("m/d/file", "new");
  EXPECT_EQ(content("u/d/file"), "new");
  EXPECT_EQ(content("l2/d/file"), "deep");
  EXPECT_EQ(walk(*task, AT_FDCWD, "m/d/file")->inode()->stat()->stx_ino, before);
  EXPECT_EQ(listed("w/work"), Names{});
}

TEST_F(Overlay, WhiteoutsHide) {
  ASSERT_TRUE(mount());
  ASSERT_TRUE(unlink("m/low"));
  EXPECT_EQ(listed("m"), (Names{"both", "d"}));
  const struct statx whiteout = *walk(*task, AT_FDCWD, "u/low")->inode()->stat();
  EXPECT_TRUE(S_ISCHR(whiteout.stx_mode));
  EXPECT_EQ(whiteout.stx_rdev_major, 0U);
  folder("m/low");
  EXPECT_EQ(listed("m/low"), Names{});
}

TEST_F(Overlay, RefusesWhatCannotBe) {
  EXPECT_EQ(mount("upperdir=/u,workdir=/w").error(), Errno(EINVAL));
  EXPECT_EQ(mount("lowerdir=/l1,upperdir=/u").error(), Errno(EINVAL));
  EXPECT_EQ(mount("lowerdir=/l1,upperdir=/u,workdir=/u").error(), Errno(EINVAL));
  EXPECT_EQ(mount("lowerdir=/none,upperdir=/u,workdir=/w").error(), Errno(ENOENT));
  EXPECT_EQ(mount("lowerdir=/l1,upperdir=/u,workdir=/w,redirect_dir=on").error(), Errno(EINVAL));
  std::string many = "lowerdir=/l1";
  for (int i = 0; i < 600; ++i) many += ":/l1";
  EXPECT_EQ(mount(many).error(), Errno(EINVAL));
  ASSERT_TRUE(mount());
  EXPECT_EQ(mount().error(), Errno(EBUSY));
}

TEST_F(Overlay, DeepFoldersAreBroughtUpAndReleasedWithoutRecursion) {
  std::string path = "l2/d";
  for (int i = 0; i < 1500; ++i) folder(path += "/x");
  put(path + "/end", "there");
  ASSERT_TRUE(mount("lowerdir=/l2,upperdir=/u,workdir=/w"));
  path = "m" + path.substr(2);
  put(path + "/end", "changed");
  EXPECT_EQ(content("u" + path.substr(1) + "/end"), "changed");
}

TEST_F(Overlay, OneCopyWhoeverBringsItUp) {
  ASSERT_TRUE(mount());
  const InodeRef inode = walk(*task, AT_FDCWD, "m/d/file")->inode();
  auto* file = dynamic_cast<OverlayInode*>(inode.get());
  ASSERT_NE(file, nullptr);
  std::vector<std::thread> threads;
  std::array<InodeRef, 4> copies;
  for (InodeRef& copy : copies) threads.emplace_back([&] { copy = *file->copy_up(); });
  for (std::thread& thread : threads) thread.join();
  for (const InodeRef& copy : copies) EXPECT_EQ(copy, copies[0]);
  EXPECT_EQ(listed("w/work"), Names{});
}

TEST_F(Overlay, LayersThatChangeBelow) {
  ASSERT_TRUE(mount());
  const FileRef reader = open("m/low", O_RDONLY);
  put("m/both", "mine");
  ASSERT_TRUE(unlink("u/both"));
  ASSERT_TRUE(unlink("l2/low"));
  EXPECT_EQ(read(reader), "of l2");
  EXPECT_FALSE(open_path(*task, AT_FDCWD, "m/d/none", O_RDONLY, 0));
  (void)unlink("m/both");
  (void)unlink("m/low");
  (void)listed("m");
}

}  // namespace
}  // namespace caisson::kernel
