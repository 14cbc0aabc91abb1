// Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2), fsconfig(2), fsmount(2), fspick(2).
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "harness.h"

namespace {

void own_mounts() {
  OK(unshare(CLONE_NEWNS));
  OK(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
}

void make_folder(const char* path) {
  if (mkdir(path, 0755) != 0) EQ(errno, EEXIST);
}

void make_file(const char* path) { close(static_cast<int>(OK(open(path, O_CREAT | O_WRONLY, 0644)))); }

bool exists(const char* path) { return access(path, F_OK) == 0; }

int fs_open(const char* type) { return static_cast<int>(OK(fsopen(type, FSOPEN_CLOEXEC))); }

// A tmpfs that is mounted nowhere.
int tmpfs_tree(unsigned attributes = 0) {
  const int context = fs_open("tmpfs");
  OK(fsconfig(context, FSCONFIG_SET_STRING, "source", "mine", 0));
  OK(fsconfig(context, FSCONFIG_SET_STRING, "mode", "0700", 0));
  OK(fsconfig(context, FSCONFIG_SET_STRING, "size", "1m", 0));
  OK(fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0));
  const int tree = static_cast<int>(OK(fsmount(context, FSMOUNT_CLOEXEC, attributes)));
  FAILS(fsmount(context, 0, 0), EBUSY);
  FAILS(fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), EBUSY);
  close(context);
  return tree;
}

unsigned long flags_of(const char* path) {
  struct statvfs found;
  OK(statvfs(path, &found));
  return found.f_flag;
}

}  // namespace

TEST(mount_api, new_file_system) {
  own_mounts();
  make_folder("place");
  const int tree = tmpfs_tree(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
  // What is attached nowhere can be used by its descriptor.
  OK(mkdirat(tree, "inside", 0755));
  EQ(fcntl(tree, F_GETFL) & O_PATH, O_PATH);
  OK(move_mount(tree, "", AT_FDCWD, "place", MOVE_MOUNT_F_EMPTY_PATH));
  CHECK(exists("place/inside"));
  struct stat found;
  OK(stat("place", &found));
  EQ(found.st_mode & 07777, 0700);
  struct statfs fs;
  OK(statfs("place", &fs));
  EQ(fs.f_type, 0x01021994);
  EQ(fs.f_blocks * fs.f_bsize, 1 << 20);
  EQ(flags_of("place") & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RDONLY), ST_NOSUID | ST_NODEV);
  close(tree);
  CHECK(exists("place/inside"));
  OK(umount("place"));
  CHECK(!exists("place/inside"));
}

TEST(mount_api, contexts_refuse) {
  own_mounts();
  FAILS(fsopen("no-such-type", 0), ENODEV);
  FAILS(fsopen("tmpfs", 0x100), EINVAL);
  FAILS(fsopen(nullptr, 0), EFAULT);
  FAILS(fsconfig(-1, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), EINVAL);
  FAILS(fsconfig(999, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), EBADF);
  FAILS(fsmount(999, 0, 0), EBADF);
  int pipes[2];
  OK(pipe(pipes));
  FAILS(fsconfig(pipes[0], FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), EINVAL);
  const int context = fs_open("tmpfs");
  FAILS(fsconfig(context, FSCONFIG_SET_STRING, "source", nullptr, 0), EINVAL);
  FAILS(fsconfig(context, FSCONFIG_SET_FLAG, "ro", "x", 0), EINVAL);
  FAILS(fsconfig(context, 99, nullptr, nullptr, 0), EOPNOTSUPP);
  OK(fsconfig(context, FSCONFIG_SET_STRING, "source", "one", 0));
  FAILS(fsconfig(context, FSCONFIG_SET_STRING, "source", "two", 0), EINVAL);
  FAILS(fsconfig(context, FSCONFIG_SET_STRING, "size", "many", 0), EINVAL);
  FAILS(fsmount(context, 0, 0), EINVAL);
  OK(fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0));
  FAILS(fsmount(context, 2, 0), EINVAL);
  FAILS(fsmount(context, 0, 0x40000000), EINVAL);
  OK(fsmount(context, 0, MOUNT_ATTR_NOATIME));
}

TEST(mount_api, messages) {
  own_mounts();
  const int context = fs_open("tmpfs");
  char text[256];
  FAILS(read(context, text, sizeof text), ENODATA);
  FAILS(fsconfig(context, FSCONFIG_SET_STRING, "nonsense", "1", 0), EINVAL);
  const ssize_t size = OK(read(context, text, sizeof text));
  CHECK(size > 2);
  EQ(text[0], 'e');
  EQ(text[1], ' ');
}

TEST(mount_api, copies_of_trees) {
  own_mounts();
  for (const char* path : {"from", "to", "bare"}) make_folder(path);
  OK(mount("top", "from", "tmpfs", 0, nullptr));
  make_folder("from/below");
  OK(mount("below", "from/below", "tmpfs", 0, nullptr));
  make_file("from/below/file");
  const int whole = static_cast<int>(OK(open_tree(AT_FDCWD, "from", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)));
  const int bare = static_cast<int>(OK(open_tree(AT_FDCWD, "from", OPEN_TREE_CLONE)));
  EQ(fcntl(whole, F_GETFD), FD_CLOEXEC);
  EQ(fcntl(bare, F_GETFD), 0);
  EQ(faccessat(whole, "below/file", F_OK, 0), 0);
  FAILS(faccessat(bare, "below/file", F_OK, 0), ENOENT);
  OK(move_mount(whole, "", AT_FDCWD, "to", MOVE_MOUNT_F_EMPTY_PATH));
  CHECK(exists("to/below/file"));
  OK(move_mount(bare, "", AT_FDCWD, "bare", MOVE_MOUNT_F_EMPTY_PATH));
  CHECK(exists("bare/below") && !exists("bare/below/file"));
  // It is attached now: by the same descriptor it moves.
  make_folder("other");
  OK(move_mount(bare, "", AT_FDCWD, "other", MOVE_MOUNT_F_EMPTY_PATH));
  CHECK(exists("other/below") && !exists("bare/below"));
  // What was never attached goes with its descriptor.
  const int lost = static_cast<int>(OK(open_tree(AT_FDCWD, "from", OPEN_TREE_CLONE)));
  close(lost);
  OK(umount2("to", MNT_DETACH));
  CHECK(exists("from/below/file"));
}

TEST(mount_api, open_tree_without_copy) {
  own_mounts();
  make_folder("plain");
  make_file("plain/file");
  const int fd = static_cast<int>(OK(open_tree(AT_FDCWD, "plain", OPEN_TREE_CLOEXEC)));
  EQ(faccessat(fd, "file", F_OK, 0), 0);
  FAILS(open_tree(AT_FDCWD, "plain", AT_RECURSIVE), EINVAL);
  FAILS(open_tree(AT_FDCWD, "plain", 0x40), EINVAL);
  FAILS(open_tree(AT_FDCWD, "missing", 0), ENOENT);
  FAILS(move_mount(fd, "", AT_FDCWD, "plain", MOVE_MOUNT_F_EMPTY_PATH), EINVAL);
  FAILS(move_mount(fd, "", AT_FDCWD, "plain", 0x1000), EINVAL);
}

TEST(mount_api, files_and_folders) {
  own_mounts();
  make_folder("folder");
  make_file("file");
  make_file("target");
  const int tree = static_cast<int>(OK(open_tree(AT_FDCWD, "file", OPEN_TREE_CLONE)));
  FAILS(move_mount(tree, "", AT_FDCWD, "folder", MOVE_MOUNT_F_EMPTY_PATH), EINVAL);
  OK(move_mount(tree, "", AT_FDCWD, "target", MOVE_MOUNT_F_EMPTY_PATH));
  struct stat one, two;
  OK(stat("file", &one));
  OK(stat("target", &two));
  EQ(one.st_ino, two.st_ino);
}

TEST(mount_api, attributes) {
  own_mounts();
  make_folder("place");
  OK(mount("top", "place", "tmpfs", 0, nullptr));
  make_folder("place/below");
  OK(mount("below", "place/below", "tmpfs", 0, nullptr));
  mount_attr wanted{};
  wanted.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC;
  OK(mount_setattr(AT_FDCWD, "place", 0, &wanted, sizeof wanted));
  EQ(flags_of("place") & (ST_RDONLY | ST_NOEXEC), ST_RDONLY | ST_NOEXEC);
  EQ(flags_of("place/below") & (ST_RDONLY | ST_NOEXEC), 0);
  FAILS(mkdir("place/no", 0755), EROFS);
  OK(mount_setattr(AT_FDCWD, "place", AT_RECURSIVE, &wanted, sizeof wanted));
  EQ(flags_of("place/below") & (ST_RDONLY | ST_NOEXEC), ST_RDONLY | ST_NOEXEC);
  wanted = {};
  wanted.attr_clr = MOUNT_ATTR_RDONLY | MOUNT_ATTR__ATIME;
  wanted.attr_set = MOUNT_ATTR_NOATIME;
  wanted.propagation = MS_SHARED;
  OK(mount_setattr(AT_FDCWD, "place", AT_RECURSIVE, &wanted, sizeof wanted));
  EQ(flags_of("place") & (ST_RDONLY | ST_NOEXEC | ST_NOATIME), ST_NOEXEC | ST_NOATIME);
  make_folder("place/yes");

  wanted = {};
  wanted.attr_set = MOUNT_ATTR_STRICTATIME;
  FAILS(mount_setattr(AT_FDCWD, "place", 0, &wanted, sizeof wanted), EINVAL);
  wanted.attr_set = 1ULL << 40;
  FAILS(mount_setattr(AT_FDCWD, "place", 0, &wanted, sizeof wanted), EINVAL);
  wanted = {};
  wanted.attr_set = MOUNT_ATTR_RDONLY;
  FAILS(mount_setattr(AT_FDCWD, "place/yes", 0, &wanted, sizeof wanted), EINVAL);
  FAILS(mount_setattr(AT_FDCWD, "place", 0, &wanted, 8), EINVAL);
  FAILS(mount_setattr(AT_FDCWD, "place", 0, &wanted, 8192), E2BIG);
  struct {
    mount_attr known;
    uint64_t more;
  } longer{wanted, 1};
  FAILS(mount_setattr(AT_FDCWD, "place", 0, &longer.known, sizeof longer), E2BIG);
  wanted.propagation = MS_SHARED | MS_PRIVATE;
  FAILS(mount_setattr(AT_FDCWD, "place", 0, &wanted, sizeof wanted), EINVAL);
}

TEST(mount_api, attributes_of_a_detached_tree) {
  own_mounts();
  make_folder("place");
  const int tree = tmpfs_tree();
  mount_attr wanted{};
  wanted.attr_set = MOUNT_ATTR_RDONLY;
  OK(mount_setattr(tree, "", AT_EMPTY_PATH, &wanted, sizeof wanted));
  OK(move_mount(tree, "", AT_FDCWD, "place", MOVE_MOUNT_F_EMPTY_PATH));
  FAILS(mkdir("place/no", 0755), EROFS);
}

TEST(mount_api, reconfigure) {
  own_mounts();
  make_folder("place");
  OK(mount("top", "place", "tmpfs", 0, "size=1m"));
  const int context = static_cast<int>(OK(fspick(AT_FDCWD, "place", FSPICK_CLOEXEC)));
  OK(fsconfig(context, FSCONFIG_SET_STRING, "size", "2m", 0));
  OK(fsconfig(context, FSCONFIG_SET_FLAG, "ro", nullptr, 0));
  OK(fsconfig(context, FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0));
  struct statfs fs;
  OK(statfs("place", &fs));
  EQ(fs.f_blocks * fs.f_bsize, 2 << 20);
  FAILS(mkdir("place/no", 0755), EROFS);
  make_folder("plain");
  FAILS(fspick(AT_FDCWD, "plain", 0), EINVAL);
  FAILS(fspick(AT_FDCWD, "place", 0x100), EINVAL);
}

TEST(mount_api, statx_tells_of_mounts) {
  own_mounts();
  make_folder("place");
  OK(mount("top", "place", "tmpfs", 0, nullptr));
  make_folder("place/below");
  struct statx root, below, outside;
  OK(statx(AT_FDCWD, "place", 0, STATX_BASIC_STATS | STATX_MNT_ID, &root));
  OK(statx(AT_FDCWD, "place/below", 0, STATX_MNT_ID, &below));
  OK(statx(AT_FDCWD, ".", 0, STATX_MNT_ID, &outside));
  CHECK((root.stx_mask & STATX_MNT_ID) != 0);
  CHECK((root.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0);
  CHECK((root.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0);
  CHECK((below.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0);
  EQ(root.stx_mnt_id, below.stx_mnt_id);
  CHECK(root.stx_mnt_id != outside.stx_mnt_id);
  int pipes[2];
  OK(pipe(pipes));
  OK(statx(pipes[0], "", AT_EMPTY_PATH, STATX_BASIC_STATS, &below));
}

TEST(mount_api, spreads_to_peers) {
  own_mounts();
  for (const char* path : {"shared", "peer"}) make_folder(path);
  OK(mount("top", "shared", "tmpfs", 0, nullptr));
  OK(mount("none", "shared", nullptr, MS_SHARED, nullptr));
  OK(mount("shared", "peer", nullptr, MS_BIND, nullptr));
  make_folder("shared/place");
  const int tree = tmpfs_tree();
  OK(mkdirat(tree, "inside", 0755));
  OK(move_mount(tree, "", AT_FDCWD, "shared/place", MOVE_MOUNT_F_EMPTY_PATH));
  CHECK(exists("shared/place/inside") && exists("peer/place/inside"));
}

TEST(mount_api, needs_the_right) {
  own_mounts();
  make_folder("place");
  EQ(in_child([] {
       OK(setuid(65534));
       FAILS(fsopen("tmpfs", 0), EPERM);
       FAILS(open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE), EPERM);
       mount_attr wanted{};
       wanted.attr_set = MOUNT_ATTR_RDONLY;
       FAILS(mount_setattr(AT_FDCWD, "place", 0, &wanted, sizeof wanted), EPERM);
       FAILS(fspick(AT_FDCWD, "/", 0), EPERM);
     }),
     0);
}

// proc(5), /proc/PID/mounts: poll(2) tells that something was mounted or unmounted.
TEST(mount_api, changes_are_told) {
  if (access("/proc/self/mountinfo", R_OK) != 0) skip_test("no /proc");
  own_mounts();
  make_folder("t");
  for (const char* name : {"/proc/self/mountinfo", "/proc/self/mounts"}) {
    const int file = OK(open(name, O_RDONLY));
    pollfd entry{file, POLLPRI, 0};
    EQ(poll(&entry, 1, 0), 0);
    const int edges = OK(epoll_create1(0));
    epoll_event wanted{EPOLLIN | EPOLLET, {}}, got{};
    OK(epoll_ctl(edges, EPOLL_CTL_ADD, file, &wanted));
    while (epoll_wait(edges, &got, 1, 0) > 0) continue;
    OK(mount("t", "t", "tmpfs", 0, nullptr));
    EQ(epoll_wait(edges, &got, 1, 5000), 1);
    EQ(epoll_wait(edges, &got, 1, 0), 0);
    OK(umount("t"));
    EQ(poll(&entry, 1, 5000), 1);
    EQ(entry.revents & (POLLPRI | POLLERR), POLLPRI | POLLERR);
    EQ(poll(&entry, 1, 0), 0);
    // Another namespace's changes are none.
    EQ(in_child([] {
         own_mounts();
         OK(mount("t", "t", "tmpfs", 0, nullptr));
       }),
       0);
    EQ(poll(&entry, 1, 0), 0);
    close(edges);
    close(file);
  }
}
