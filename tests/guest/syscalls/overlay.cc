// Overlays (Documentation/filesystems/overlayfs.rst): with layers in the folder that the test is given, and with layers on a tmpfs.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <set>
#include <string>

#include "harness.h"

namespace {

void put(const std::string& path, const std::string& text, mode_t mode = 0644) {
  const int fd = OK(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, mode));
  EQ(write(fd, text.data(), text.size()), text.size());
  OK(close(fd));
}

std::string get(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY);
  if (fd < 0) return std::string("error: ") + strerror(errno);
  char room[256];
  const ssize_t size = OK(read(fd, room, sizeof room));
  OK(close(fd));
  return std::string(room, static_cast<size_t>(size));
}

void folder(const std::string& path, mode_t mode = 0755) { OK(mkdir(path.c_str(), mode)); }

struct stat status(const std::string& path) {
  struct stat st;
  OK(lstat(path.c_str(), &st));
  return st;
}
bool there(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0;
}
bool whiteout(const std::string& path) {
  const struct stat st = status(path);
  return S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

// "a b c", sorted; each name once.
std::string names(const std::string& path) {
  DIR* dir = opendir(path.c_str());
  CHECK(dir != nullptr);
  std::multiset<std::string> all;
  while (const dirent* entry = readdir(dir))
    if (std::string(entry->d_name) != "." && std::string(entry->d_name) != "..") all.insert(entry->d_name);
  closedir(dir);
  std::string text;
  for (const std::string& name : all) text += (text.empty() ? "" : " ") + name;
  return text;
}

#define SAME(expression, wanted)                                                                                                           \
  do {                                                                                                                                     \
    const std::string same_found = (expression);                                                                                           \
    if (same_found != (wanted)) fail_check(__FILE__, __LINE__, #expression, "is '" + same_found + "', not '" + std::string(wanted) + "'"); \
  } while (0)

bool g_on_tmpfs = false;

// l2 (lower), l1 (above it), u, w, m: as they are before the mount.
void make_layers() {
  if (unshare(CLONE_NEWNS) == 0) (void)mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  if (g_on_tmpfs) {
    folder("t");
    if (mount("t", "t", "tmpfs", 0, "size=16m") != 0) skip_test("may not mount");
    OK(chdir("t"));
  }
  // The folder that a micro-VM shares with the node cannot be an upper layer, and an overlay neither.
  struct statfs here;
  OK(statfs(".", &here));
  for (const long unfit : {0x65735546L, 0x01021997L, 0x794c7630L})
    if (here.f_type == unfit) skip_test("no upper layer on this file system");
  for (const char* each : {"l1", "l2", "u", "w", "m"}) folder(each);
  put("l2/low", "from l2");
  put("l2/both", "of l2");
  put("l1/both", "of l1");
  folder("l2/d");
  folder("l1/d");
  folder("l2/d/deep");
  put("l2/d/deep/file", "deep", 0640);
  put("l2/d/x", "x2");
  put("l1/d/y", "y1");
  folder("l2/plain");
  put("l2/plain/file", "p");
}

void mount_overlay(const char* options = "lowerdir=l1:l2,upperdir=u,workdir=w") {
  if (mount("overlay", "m", "overlay", 0, options) == 0) return;
  const int error = errno;
  if (error == EPERM || error == ENODEV) skip_test("may not mount overlays");
  fail_check(__FILE__, __LINE__, "mount", strerror(error));
}

void done() {
  OK(umount2("m", MNT_DETACH));
  if (!g_on_tmpfs) return;
  OK(chdir(".."));
  OK(umount2("t", MNT_DETACH));
  OK(rmdir("t"));
}

void merging() {
  make_layers();
  mount_overlay();
  SAME(names("m"), "both d low plain");
  SAME(names("m/d"), "deep x y");
  SAME(get("m/both"), "of l1");
  SAME(get("m/low"), "from l2");
  SAME(get("m/d/deep/file"), "deep");
  SAME(names("u"), "");  // reading copies nothing
  struct statfs fs;
  OK(statfs("m", &fs));
  EQ(fs.f_type, 0x794c7630);
  // Written to: its folders come, too, and what they were like stays.
  const struct stat before = status("m/d/deep/file"), folder_before = status("m/d/deep"), root = status("m");
  OK(chown("l2/d/deep", 0, 0));
  const int fd = OK(open("m/d/deep/file", O_WRONLY | O_APPEND));
  EQ(write(fd, "er", 2), 2);
  OK(close(fd));
  SAME(get("m/d/deep/file"), "deeper");
  SAME(get("u/d/deep/file"), "deeper");
  SAME(get("l2/d/deep/file"), "deep");
  const struct stat after = status("m/d/deep/file"), folder_after = status("m/d/deep");
  EQ(after.st_ino, before.st_ino);
  EQ(after.st_dev, before.st_dev);
  EQ(after.st_mode, S_IFREG | 0640);
  EQ(folder_after.st_ino, folder_before.st_ino);
  EQ(folder_after.st_dev, root.st_dev);
  EQ(folder_after.st_mtim.tv_nsec, folder_before.st_mtim.tv_nsec);
  EQ(status("m").st_ino, root.st_ino);
  SAME(names("m/d"), "deep x y");
  SAME(names("w/work"), "");
  done();
}

void changing() {
  make_layers();
  mount_overlay();
  // Truncated: nothing of it is needed.
  put("m/low", "new");
  SAME(get("m/low"), "new");
  SAME(get("l2/low"), "from l2");
  // Attributes alone.
  OK(chmod("m/both", 0600));
  EQ(status("m/both").st_mode, S_IFREG | 0600);
  EQ(status("l1/both").st_mode, S_IFREG | 0644);
  SAME(get("m/both"), "of l1");
  const timespec times[2] = {{100, 5}, {200, 6}};
  OK(utimensat(AT_FDCWD, "m/d/x", times, 0));
  EQ(status("m/d/x").st_mtim.tv_sec, 200);
  EQ(status("m/d/x").st_atim.tv_sec, 100);
  OK(chown("m/d/y", 7, 8));
  EQ(status("m/d/y").st_uid, 7);
  EQ(status("u/d/y").st_gid, 8);
  SAME(get("m/d/y"), "y1");
  OK(truncate("m/d/y", 1));
  SAME(get("m/d/y"), "y");
  // What is open for reading sees what others write.
  const int reader = OK(open("m/plain/file", O_RDONLY));
  put("m/plain/file", "changed");
  char room[16];
  EQ(pread(reader, room, sizeof room, 0), 7);
  OK(close(reader));
  // New things.
  folder("m/new", 0750);
  put("m/new/file", "n");
  OK(symlink("new/file", "m/link"));
  OK(mkfifo("m/pipe", 0600));
  OK(link("m/new/file", "m/new/again"));
  EQ(status("m/new/again").st_nlink, 2);
  EQ(status("m/new/again").st_ino, status("m/new/file").st_ino);
  SAME(get("m/link"), "n");
  EQ(status("u/new").st_mode, S_IFDIR | 0750);
  FAILS(mkdir("m/d", 0755), EEXIST);
  FAILS(open("m/both", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
  // A lower file gets another name: it is copied up.
  OK(link("m/d/deep/file", "m/hard"));
  SAME(get("u/hard"), "deep");
  EQ(status("m/hard").st_nlink, 2);
  SAME(names("m"), "both d hard link low new pipe plain");
  done();
}

void removing() {
  make_layers();
  mount_overlay();
  OK(unlink("m/low"));
  CHECK(!there("m/low"));
  CHECK(whiteout("u/low"));
  CHECK(there("l2/low"));
  SAME(names("m"), "both d plain");
  FAILS(rmdir("m/plain"), ENOTEMPTY);
  OK(unlink("m/plain/file"));
  SAME(names("m/plain"), "");
  OK(rmdir("m/plain"));
  CHECK(whiteout("u/plain"));
  FAILS(open("m/plain/file", O_RDONLY), ENOENT);
  // What comes again hides what was there.
  folder("m/plain");
  SAME(names("m/plain"), "");
  put("m/low", "again");
  SAME(get("m/low"), "again");
  put("m/plain/one", "1");
  SAME(names("m/plain"), "one");
  OK(unlink("m/plain/one"));
  OK(rmdir("m/plain"));
  CHECK(!there("m/plain"));
  SAME(names("m"), "both d low");
  // Only above: nothing stays.
  put("m/only", "");
  OK(unlink("m/only"));
  CHECK(!there("u/only"));
  // Open files live on.
  const int fd = OK(open("m/both", O_RDONLY));
  OK(unlink("m/both"));
  char room[16];
  EQ(read(fd, room, sizeof room), 5);
  OK(close(fd));
  OK(mkdir("m/both", 0755));
  OK(rmdir("m/both"));
  // The same after the next mount.
  OK(umount("m"));
  mount_overlay();
  SAME(names("m"), "d low");
  done();
}

void renaming() {
  make_layers();
  mount_overlay();
  OK(rename("m/low", "m/moved"));
  SAME(get("m/moved"), "from l2");
  CHECK(!there("m/low"));
  CHECK(whiteout("u/low"));
  // Folders with a lower part do not move.
  FAILS(rename("m/d", "m/e"), EXDEV);
  FAILS(rename("m/plain", "m/e"), EXDEV);
  folder("m/own");
  put("m/own/f", "own");
  OK(rename("m/own", "m/mine"));
  SAME(get("m/mine/f"), "own");
  CHECK(!there("u/own"));
  // Over a name that was hidden, over a lower file, over an empty lower folder.
  OK(rename("m/mine", "m/low"));
  SAME(names("m/low"), "f");
  OK(rename("m/moved", "m/both"));
  SAME(get("m/both"), "from l2");
  OK(unlink("m/plain/file"));
  folder("m/fresh");
  put("m/fresh/g", "g");
  OK(rename("m/fresh", "m/plain"));
  SAME(names("m/plain"), "g");
  FAILS(rename("m/low", "m/plain"), ENOTEMPTY);
  FAILS(rename("m/both", "m/plain"), EISDIR);
  FAILS(rename("m/low", "m/both"), ENOTDIR);
  FAILS(syscall(SYS_renameat2, AT_FDCWD, "m/both", AT_FDCWD, "m/low", RENAME_NOREPLACE), EEXIST);
  OK(syscall(SYS_renameat2, AT_FDCWD, "m/both", AT_FDCWD, "m/low", RENAME_EXCHANGE));
  SAME(get("m/low"), "from l2");
  SAME(get("m/both/f"), "own");
  OK(rename("m/d/x", "m/d/deep/x"));
  SAME(get("m/d/deep/x"), "x2");
  SAME(names("m"), "both d low plain");
  OK(umount("m"));
  mount_overlay();
  SAME(names("m"), "both d low plain");
  SAME(names("m/both"), "f");
  SAME(names("m/plain"), "g");
  SAME(names("m/d"), "deep y");
  SAME(names("w/work"), "");
  done();
}

void read_only_layers() {
  make_layers();
  mount_overlay("lowerdir=l1:l2");
  SAME(names("m"), "both d low plain");
  FAILS(open("m/low", O_WRONLY), EROFS);
  FAILS(unlink("m/low"), EROFS);
  FAILS(mkdir("m/e", 0755), EROFS);
  FAILS(chmod("m/low", 0600), EROFS);
  OK(umount("m"));
  FAILS(mount("overlay", "m", "overlay", 0, "lowerdir=l1,upperdir=u"), EINVAL);
  FAILS(mount("overlay", "m", "overlay", 0, "lowerdir=l1,upperdir=u,workdir=u/w"), ENOENT);
  FAILS(mount("overlay", "m", "overlay", 0, "lowerdir=none,upperdir=u,workdir=w"), ENOENT);
  FAILS(mount("overlay", "m", "overlay", 0, "lowerdir=l1,upperdir=u,workdir=w,nonsense"), EINVAL);
  // Whiteouts and opaque folders of lower layers count, too.
  if (mknod("l1/low", S_IFCHR, 0) == 0) {
    mount_overlay("lowerdir=l1:l2");
    CHECK(!there("m/low"));
    SAME(names("m"), "both d plain");
    OK(umount("m"));
    OK(unlink("l1/low"));
  }
  if (setxattr("l1/d", "user.overlay.opaque", "y", 1, 0) == 0) {
    mount_overlay("lowerdir=l1:l2,userxattr");
    SAME(names("m/d"), "y");
    FAILS(getxattr("m/d", "user.overlay.opaque", nullptr, 0), ENODATA);
    OK(umount("m"));
  }
  mount_overlay();
  done();
}

void mapping() {
  make_layers();
  mount_overlay();
  const int fd = OK(open("m/low", O_RDWR));
  auto* memory = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  CHECK(memory != MAP_FAILED);
  EQ(memcmp(memory, "from l2", 7), 0);
  memory[0] = 'F';
  OK(msync(memory, 4096, MS_SYNC));
  SAME(get("m/low"), "From l2");
  SAME(get("l2/low"), "from l2");
  OK(munmap(memory, 4096));
  OK(ftruncate(fd, 2));
  SAME(get("u/low"), "Fr");
  OK(close(fd));
  // Attributes come along.
  if (setxattr("l2/both", "user.a", "b", 1, 0) == 0 && setxattr("l1/both", "user.a", "c", 1, 0) == 0) {
    char room[4];
    EQ(getxattr("m/both", "user.a", room, 4), 1);
    EQ(room[0], 'c');
    OK(setxattr("m/both", "user.two", "d", 1, 0));
    EQ(getxattr("u/both", "user.a", room, 4), 1);
    FAILS(getxattr("l1/both", "user.two", room, 4), ENODATA);
    OK(removexattr("m/both", "user.a"));
    FAILS(getxattr("m/both", "user.a", room, 4), ENODATA);
    EQ(getxattr("l1/both", "user.a", room, 4), 1);
  }
  done();
}

void watching() {
  make_layers();
  mount_overlay();
  const int fd = OK(inotify_init1(IN_NONBLOCK));
  OK(inotify_add_watch(fd, "m", IN_CREATE | IN_DELETE | IN_MODIFY));
  put("m/low", "other");
  OK(unlink("m/both"));
  alignas(inotify_event) char room[4096];
  const ssize_t got = OK(read(fd, room, sizeof room));
  std::string seen;
  for (ssize_t at = 0; at < got;) {
    const auto* event = reinterpret_cast<const inotify_event*>(room + at);
    seen += std::to_string(event->mask) + event->name + " ";
    at += static_cast<ssize_t>(sizeof *event + event->len);
  }
  SAME(seen, "2low 512both ");
  OK(close(fd));
  done();
}

void stacking() {
  make_layers();
  mount_overlay();
  put("m/top", "t");
  for (const char* each : {"u2", "w2", "m2", "u3", "w3", "m3"}) folder(each);
  // An overlay can be a lower layer, but not of one that is a lower layer itself.
  OK(mount("overlay", "m2", "overlay", 0, "lowerdir=m,upperdir=u2,workdir=w2"));
  SAME(get("m2/top"), "t");
  put("m2/low", "two");
  SAME(get("m2/low"), "two");
  SAME(get("m/low"), "from l2");
  FAILS(mount("overlay", "m3", "overlay", 0, "lowerdir=m2,upperdir=u3,workdir=w3"), EINVAL);
  OK(umount("m2"));
  done();
}

void with_tmpfs(void (*body)()) {
  g_on_tmpfs = true;
  body();
}

}  // namespace

#define BOTH(name, body)          \
  TEST(overlay, name) { body(); } \
  TEST(overlay, name##_tmpfs) { with_tmpfs(body); }

BOTH(merging, merging)
BOTH(changing, changing)
BOTH(removing, removing)
BOTH(renaming, renaming)
BOTH(read_only, read_only_layers)
BOTH(mapping, mapping)
BOTH(watching, watching)
BOTH(stacking, stacking)

namespace {

// In a folder that everybody may write to and that is sticky, as /tmp is: what each user may do with others' files.
void check_sticky_folder(const std::string& at) {
  folder(at, 0777);
  OK(chmod(at.c_str(), 01777));
  folder(at + "/elsewhere", 0777);
  OK(chmod((at + "/elsewhere").c_str(), 0777));
  put(at + "/of_root", "root");
  OK(chmod((at + "/of_root").c_str(), 0666));
  put(at + "/set", "root", 04755);
  OK(chmod((at + "/set").c_str(), 04777));
  folder(at + "/folder");
  folder(at + "/elsewhere/of_root");
  EQ(in_child([&] {
       OK(setresgid(1000, 1000, 1000));
       OK(setresuid(1000, 1000, 1000));
       put(at + "/of_user", "user");
       FAILS(unlink((at + "/of_root").c_str()), EPERM);
       FAILS(rmdir((at + "/folder").c_str()), EPERM);
       FAILS(rename((at + "/of_root").c_str(), (at + "/taken").c_str()), EPERM);
       FAILS(rename((at + "/of_user").c_str(), (at + "/of_root").c_str()), EPERM);
       FAILS(renameat2(AT_FDCWD, (at + "/of_user").c_str(), AT_FDCWD, (at + "/of_root").c_str(), RENAME_EXCHANGE), EPERM);
       // Its ".." would change.
       folder(at + "/mine");
       FAILS(rename((at + "/elsewhere/of_root").c_str(), (at + "/mine/of_root").c_str()), EACCES);
       OK(rename((at + "/elsewhere/of_root").c_str(), (at + "/elsewhere/renamed").c_str()));
       OK(link((at + "/of_root").c_str(), (at + "/another").c_str()));
       FAILS(link((at + "/set").c_str(), (at + "/set2").c_str()), EPERM);
       OK(rename((at + "/of_user").c_str(), (at + "/still_of_user").c_str()));
       OK(unlink((at + "/still_of_user").c_str()));
     }),
     0);
  OK(unlink((at + "/of_root").c_str()));
}

}  // namespace

TEST(overlay, sticky_folders) {
  OK(chmod(".", 0755));
  g_on_tmpfs = true;
  make_layers();
  mount_overlay();
  check_sticky_folder("../of_the_test");
  check_sticky_folder("of_the_tmpfs");
  check_sticky_folder("m/of_the_overlay");
  done();
}
