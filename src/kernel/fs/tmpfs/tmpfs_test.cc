#include "kernel/fs/tmpfs/tmpfs.h"

#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>

#include "kernel/fs/common/test_kernel.h"

namespace caisson::kernel {
namespace {

class TmpfsTest : public TestKernel {
 protected:
  Inode& root() { return *container.root.inode(); }
  uint32_t links(std::string_view path) { return walk(*task, AT_FDCWD, path)->inode()->stat()->stx_nlink; }
};

TEST_F(TmpfsTest, Options) {
  Result<Tmpfs::Options> options = Tmpfs::parse("size=1m,mode=0700,uid=5,gid=6,nr_inodes=2k");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->bytes, 1u << 20);
  EXPECT_EQ(options->mode, 0700u);
  EXPECT_EQ(options->uid, 5u);
  EXPECT_EQ(options->inodes, 2048u);
  for (const char* bad : {"size=", "size=1q", "size=99999999999999999999", "mode=9", "nonsense", "size=-1"})
    EXPECT_FALSE(Tmpfs::parse(bad)) << bad;
}

TEST_F(TmpfsTest, NamesAndLinks) {
  ASSERT_TRUE(root().make(*task, "a", S_IFDIR | 0755, 0));
  ASSERT_TRUE(write(open("/a/f", O_CREAT | O_RDWR), "content"));
  EXPECT_EQ(content("/a/f"), "content");
  EXPECT_EQ(links("/a"), 2u);
  const InodeRef folder = walk(*task, AT_FDCWD, "/a")->inode();
  const InodeRef file = walk(*task, AT_FDCWD, "/a/f")->inode();
  ASSERT_TRUE(folder->link(*task, "g", file));
  EXPECT_EQ(links("/a/g"), 2u);
  EXPECT_EQ(folder->link(*task, "g", file).error(), Errno(EEXIST));
  EXPECT_EQ(root().remove_folder(*task, "a").error(), Errno(ENOTEMPTY));
  EXPECT_EQ(folder->unlink(*task, "nothing").error(), Errno(ENOENT));
  EXPECT_EQ(root().unlink(*task, "a").error(), Errno(EISDIR));
  EXPECT_EQ(folder->remove_folder(*task, "f").error(), Errno(ENOTDIR));
  ASSERT_TRUE(folder->unlink(*task, "f"));
  ASSERT_TRUE(folder->unlink(*task, "g"));
  ASSERT_TRUE(root().remove_folder(*task, "a"));
  EXPECT_EQ(folder->make(*task, "late", S_IFREG | 0644, 0).error(), Errno(ENOENT)) << "nothing is made in a folder that is gone";
}

TEST_F(TmpfsTest, Rename) {
  for (const char* name : {"d1", "d2"}) ASSERT_TRUE(root().make(*task, name, S_IFDIR | 0755, 0));
  ASSERT_TRUE(root().make(*task, "f", S_IFREG | 0644, 0));
  const InodeRef d1 = walk(*task, AT_FDCWD, "/d1")->inode(), d2 = walk(*task, AT_FDCWD, "/d2")->inode();
  EXPECT_EQ(root().rename(*task, "f", root(), "d1", 0).error(), Errno(EISDIR));
  EXPECT_EQ(root().rename(*task, "d1", root(), "f", 0).error(), Errno(ENOTDIR));
  EXPECT_EQ(root().rename(*task, "f", root(), "d1", RENAME_NOREPLACE).error(), Errno(EEXIST));
  const uint32_t before = root().stat()->stx_nlink;
  ASSERT_TRUE(root().rename(*task, "d1", *d2, "inner", 0));
  EXPECT_EQ(root().stat()->stx_nlink, before - 1);
  EXPECT_EQ(d2->stat()->stx_nlink, 3u);
  ASSERT_TRUE(root().rename(*task, "f", *d2, "inner", RENAME_EXCHANGE));
  EXPECT_EQ(d2->stat()->stx_nlink, 2u);
  EXPECT_TRUE(S_ISDIR(root().lookup(*task, "f").value()->type()));
  ASSERT_TRUE(d1->make(*task, "x", S_IFREG | 0644, 0));
  EXPECT_EQ(root().rename(*task, "d2", root(), "f", 0).error(), Errno(ENOTEMPTY));
  EXPECT_EQ(root().rename(*task, "f", root(), "g", RENAME_WHITEOUT).error(), Errno(EINVAL));
}

TEST_F(TmpfsTest, AListingGoesOnWhileNamesComeAndGo) {
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(root().make(*task, "f" + std::to_string(i), S_IFREG | 0644, 0));
  const FileRef folder = open("/", O_RDONLY | O_DIRECTORY);
  int64_t position = 0;
  std::vector<std::string> seen;
  while (true) {
    size_t now = 0;
    ASSERT_TRUE(folder->read_dir(*task, position, [&](const DirEntry& entry) {
      if (now == 7) return false;
      seen.emplace_back(entry.name);
      ++now;
      return true;
    }));
    if (now == 0) break;
    // As `rm -r` does: what was listed is removed at once.
    for (size_t i = seen.size() - now; i < seen.size(); ++i)
      if (seen[i].starts_with('f')) {
        ASSERT_TRUE(root().unlink(*task, seen[i]));
      }
  }
  EXPECT_EQ(seen.size(), 1002u);
  EXPECT_EQ(names("/"), (std::vector<std::string>{".", ".."}));
}

TEST_F(TmpfsTest, AVeryDeepTreeIsFreedWithoutRecursion) {
  const auto fs = Tmpfs::create({.bytes = 1 << 20});
  InodeRef at = *fs->root();
  for (int depth = 0; depth < 200'000; ++depth) at = *at->make(*task, "d", S_IFDIR | 0755, 0);
  at.reset();
  // The same for dentries, which own their parents.
  auto dentry = std::make_shared<Dentry>("", nullptr, nullptr);
  for (int depth = 0; depth < 200'000; ++depth) dentry = std::make_shared<Dentry>("d", dentry, nullptr);
}

TEST_F(TmpfsTest, InodesAreCounted) {
  const auto fs = Tmpfs::create({.bytes = 1 << 20, .inodes = 4});
  const InodeRef top = *fs->root();
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(top->make(*task, name, S_IFREG | 0644, 0));
  EXPECT_EQ(top->make(*task, "d", S_IFREG | 0644, 0).error(), Errno(ENOSPC));
  ASSERT_TRUE(top->unlink(*task, "a"));
  EXPECT_TRUE(top->make(*task, "d", S_IFREG | 0644, 0));
  EXPECT_EQ(fs->stat_fs()->f_ffree, 0u);
}

TEST_F(TmpfsTest, ExtendedAttributes) {
  const InodeRef file = *root().make(*task, "f", S_IFREG | 0644, 0);
  ASSERT_TRUE(file->set_xattr(*task, "user.a", "1", XATTR_CREATE));
  EXPECT_EQ(file->set_xattr(*task, "user.a", "1", XATTR_CREATE).error(), Errno(EEXIST));
  EXPECT_EQ(file->set_xattr(*task, "user.b", "1", XATTR_REPLACE).error(), Errno(ENODATA));
  EXPECT_EQ(file->set_xattr(*task, "other.b", "1", 0).error(), Errno(EOPNOTSUPP));
  EXPECT_EQ(file->set_xattr(*task, "user.big", std::string(70000, 'x'), 0).error(), Errno(ENOSPC));
  EXPECT_EQ(*file->get_xattr(*task, "user.a"), "1");
  EXPECT_EQ(*file->list_xattr(*task), std::string("user.a\0", 7));
}

TEST_F(TmpfsTest, OwnersAndSetIdBits) {
  auto user = std::make_shared<Credentials>();
  user->uid = user->euid = user->fsuid = user->suid = 1000;
  user->gid = user->egid = user->fsgid = user->sgid = 1000;
  const InodeRef file = *root().make(*task, "f", S_IFREG | 06755, 0);
  Attributes owner;
  owner.mask = STATX_UID;
  owner.uid = 1000;
  ASSERT_TRUE(file->set_attributes(*task, owner));
  EXPECT_EQ(file->stat()->stx_mode & 07777, 0755);
  task->creds = user;
  EXPECT_EQ(file->set_attributes(*task,
                                 [] {
                                   Attributes a;
                                   a.mask = STATX_UID;
                                   a.uid = 0;
                                   return a;
                                 }())
                .error(),
            Errno(EPERM));
  Attributes mode;
  mode.mask = STATX_MODE;
  mode.mode = 04700;
  ASSERT_TRUE(file->set_attributes(*task, mode));
  ASSERT_TRUE(write(open("/f", O_RDWR), "x"));
  EXPECT_EQ(file->stat()->stx_mode & 07777, 0700) << "writing takes the set-id bit away";
  EXPECT_FALSE(open_path(*task, AT_FDCWD, "/new", O_CREAT | O_RDWR, 0644));
}

TEST_F(TmpfsTest, MountsComeGoAndMove) {
  ASSERT_TRUE(mount_in_container(*task, "/m", "tmpfs", "t", "size=1m,nosuid"));
  ASSERT_TRUE(write(open("/m/inside", O_CREAT | O_RDWR), "x"));
  ASSERT_TRUE(mount_in_container(*task, "/m/n", "tmpfs", "t", ""));
  MountTable& mounts = *container.mounts;
  {
    const Path m = *walk(*task, AT_FDCWD, "/m");
    EXPECT_EQ(mounts.remove(m.mount).error(), Errno(EBUSY)) << "something is mounted on it";
    const Path n = *walk(*task, AT_FDCWD, "/m/n");
    EXPECT_EQ(mounts.move(m.mount, n).error(), Errno(ELOOP));
  }
  ASSERT_TRUE(root().make(*task, "elsewhere", S_IFDIR | 0755, 0));
  {
    const Path m = *walk(*task, AT_FDCWD, "/m");
    const Path target = *walk(*task, AT_FDCWD, "/elsewhere");
    ASSERT_TRUE(mounts.move(m.mount, target));
  }
  EXPECT_EQ(content("/elsewhere/inside"), "x");
  EXPECT_EQ(walk(*task, AT_FDCWD, "/m/inside").error(), Errno(ENOENT));
  const FileRef kept = open("/elsewhere/inside", O_RDONLY);
  {
    const Path there = *walk(*task, AT_FDCWD, "/elsewhere");
    ASSERT_TRUE(mounts.remove(there.mount, true));
  }
  EXPECT_EQ(mounts.all().size(), 1u);
  EXPECT_EQ(read(kept), "x") << "a file that is open outlives its mount";
  EXPECT_EQ(walk(*task, AT_FDCWD, "/elsewhere/inside").error(), Errno(ENOENT));
}

TEST_F(TmpfsTest, TheUsualMounts) {
  ASSERT_TRUE(mount_usual(*task));
  EXPECT_EQ(content("/dev/zero").size(), 1u << 20);
  EXPECT_EQ(content("/dev/null"), "");
  EXPECT_EQ(write(open("/dev/full", O_WRONLY), "x").error(), Errno(ENOSPC));
  EXPECT_EQ(open_path(*task, AT_FDCWD, "/dev/tty", O_RDWR, 0).error(), Errno(ENXIO));
  EXPECT_NE(content("/proc/meminfo").find("MemTotal:"), std::string::npos);
  EXPECT_NE(content("/proc/filesystems").find("tmpfs"), std::string::npos);
  EXPECT_EQ(content("/proc/sys/kernel/osrelease"), std::string(kKernelRelease) + "\n");
  EXPECT_EQ(content("/sys/fs/cgroup/pids.max"), "max\n");
  EXPECT_NE(content("/sys/devices/system/cpu/online"), "");
  ASSERT_TRUE(write(open("/proc/sys/kernel/hostname", O_WRONLY), "renamed\n"));
  EXPECT_EQ(container.uts->host(), "renamed");
  EXPECT_EQ(open_path(*task, AT_FDCWD, "/proc/version", O_WRONLY, 0).error(), Errno(EACCES));
  EXPECT_EQ(open_path(*task, AT_FDCWD, "/proc/new", O_CREAT | O_WRONLY, 0644).error(), Errno(EPERM));
  const auto all = names("/dev");
  for (const char* name : {"null", "ptmx", "fd", "pts", "shm"}) EXPECT_TRUE(std::find(all.begin(), all.end(), name) != all.end()) << name;
}

}  // namespace
}  // namespace caisson::kernel
