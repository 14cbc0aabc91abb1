#include <sys/mount.h>

#include "kernel/fs/common/test_kernel.h"
#include "kernel/vfs/mount_tree.h"

namespace caisson::kernel {
namespace {

class MountsTest : public TestKernel {
 protected:
  MountTable& mounts() { return *container.mounts; }
  void folder(std::string_view name) { ASSERT_TRUE(container.root.inode()->make(*task, name, S_IFDIR | 0755, 0)); }
  Path at(std::string_view path) { return *walk(*task, AT_FDCWD, path); }
  MountRef mount(std::string_view path) { return *mount_in_container(*task, path, "tmpfs", "t", "size=1m"); }
  // Mounts of all tables: what has come must go.
  static size_t count() {
    std::lock_guard guard(mount_lock());
    return MountTree::count();
  }
};

TEST_F(MountsTest, PeersOfPeersHearOnceEach) {
  const size_t before = count();
  folder("a");
  ASSERT_TRUE(mounts().set_propagation(mount("/a"), MS_SHARED, false));
  ASSERT_TRUE(at("/a").inode()->make(*task, "x", S_IFDIR | 0755, 0));
  for (const char* name : {"b", "c", "d"}) {
    folder(name);
    ASSERT_TRUE(mounts().bind(at("/a"), at(std::string("/") + name), false));
  }
  // A chain: c is a slave of a and b, and shared with e; e hears, a does not.
  ASSERT_TRUE(mounts().set_propagation(at("/c").mount, MS_SLAVE, false));
  ASSERT_TRUE(mounts().set_propagation(at("/c").mount, MS_SHARED, false));
  folder("e");
  ASSERT_TRUE(mounts().bind(at("/c"), at("/e"), false));
  const size_t at_rest = count();
  const MountRef top = mount("/a/x");
  EXPECT_EQ(count() - at_rest, 5u);
  EXPECT_NE(MountTable::propagation(top).shared, 0u);
  EXPECT_EQ(MountTable::propagation(at("/b/x").mount).shared, MountTable::propagation(top).shared);
  EXPECT_EQ(MountTable::propagation(at("/e/x").mount).master, MountTable::propagation(top).shared);
  EXPECT_EQ(MountTable::propagation(at("/e/x").mount).shared, MountTable::propagation(at("/c/x").mount).shared);
  {
    const Path below = at("/e/x");
    ASSERT_TRUE(mounts().remove(below.mount, true));
  }
  EXPECT_EQ(count() - at_rest, 3u) << "c and e have lost it, their masters have not";
  ASSERT_TRUE(mounts().remove(top, true));
  EXPECT_EQ(count(), at_rest);
  for (const char* name : {"/e", "/d", "/c", "/b", "/a"}) ASSERT_TRUE(mounts().remove(at(name).mount, true));
  EXPECT_EQ(count(), before);
}

TEST_F(MountsTest, SlavesOfWhoLeavesFollowItsMaster) {
  for (const char* name : {"a", "b", "c"}) folder(name);
  ASSERT_TRUE(mounts().set_propagation(mount("/a"), MS_SHARED, false));
  ASSERT_TRUE(mounts().bind(at("/a"), at("/b"), false));
  ASSERT_TRUE(mounts().set_propagation(at("/b").mount, MS_SLAVE, false));
  ASSERT_TRUE(mounts().set_propagation(at("/b").mount, MS_SHARED, false));
  ASSERT_TRUE(mounts().bind(at("/b"), at("/c"), false));
  ASSERT_TRUE(mounts().set_propagation(at("/c").mount, MS_SLAVE, false));
  ASSERT_TRUE(mounts().set_propagation(at("/b").mount, MS_PRIVATE, false));
  EXPECT_EQ(MountTable::propagation(at("/c").mount).master, MountTable::propagation(at("/a").mount).shared);
}

TEST_F(MountsTest, ALessPrivilegedCopyIsLocked) {
  folder("a");
  mount("/a");
  ASSERT_TRUE(mounts().set_propagation(at("/a").mount, MS_SHARED, false));
  ASSERT_TRUE(mounts().set_flags(at("/a").mount, MS_RDONLY | MS_NOSUID));
  const auto user = *UserNamespace::create(UserNamespace::initial(), 1000, 1000);
  Path root = container.root, place = at("/a");
  const auto copied = *mounts().copy(user, {&root, &place});
  EXPECT_NE(root.mount, container.root.mount);
  EXPECT_EQ(root.mount->table(), copied.get());
  EXPECT_EQ(MountTable::propagation(place.mount).shared, 0u);
  EXPECT_EQ(MountTable::propagation(place.mount).master, MountTable::propagation(at("/a").mount).shared);
  EXPECT_EQ(copied->remove(place.mount, true).error(), Errno(EINVAL)) << "it may hide something";
  EXPECT_EQ(copied->set_flags(place.mount, MS_NOSUID).error(), Errno(EPERM));
  EXPECT_TRUE(copied->set_flags(place.mount, MS_RDONLY | MS_NOSUID | MS_NOEXEC));
  EXPECT_EQ(copied->bind(root, root, false).error(), Errno(EINVAL)) << "what is hidden below would be seen";
  EXPECT_TRUE(copied->bind(root, root, true));
}

TEST_F(MountsTest, ThereIsAnEndToThem) {
  folder("a");
  ASSERT_TRUE(mounts().set_propagation(mount("/a"), MS_SHARED, false));
  ASSERT_TRUE(at("/a").inode()->make(*task, "x", S_IFDIR | 0755, 0));
  // Each bind of a shared mount into itself doubles what there is.
  Result<void> last;
  for (int i = 0; i < 100 && last.ok(); ++i) last = mounts().bind(at("/a"), at("/a/x"), true);
  EXPECT_EQ(last.error(), Errno(ENOSPC));
  EXPECT_LE(mounts().all().size(), MountTable::kMostMounts);
  ASSERT_TRUE(mounts().remove(MountTable::at({container.root.mount, container.root.dentry->cached("a")}), true));
  EXPECT_EQ(mounts().all().size(), 1u);
}

TEST_F(MountsTest, AnEndOfATableGivesAllBack) {
  const size_t before = count();
  folder("a");
  mount("/a");
  Path root = container.root;
  auto copied = *mounts().copy(UserNamespace::initial(), {&root});
  EXPECT_EQ(count(), before + 3);
  root = {};
  copied.reset();
  EXPECT_EQ(count(), before + 1);
}

}  // namespace
}  // namespace caisson::kernel
