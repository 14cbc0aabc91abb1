// Names that are walked again and again, while what they stand for changes.
#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"

namespace {

void make_file(const std::string& name, const std::string& text) {
  const int fd = OK(open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644));
  EQ(write(fd, text.data(), text.size()), text.size());
  OK(close(fd));
}
std::string read_file(const std::string& name) {
  const int fd = OK(open(name.c_str(), O_RDONLY));
  char text[64];
  const ssize_t size = OK(read(fd, text, sizeof text));
  OK(close(fd));
  return {text, static_cast<size_t>(size)};
}
// Often enough for everything about it to be remembered.
ino_t number(const char* name) {
  struct stat info {};
  for (int i = 0; i < 3; ++i) OK(stat(name, &info));
  return info.st_ino;
}
bool missing(const char* name) {
  struct stat info {};
  return stat(name, &info) == -1 && errno == ENOENT;
}
void make_tree(const char* top) {
  const std::string name = top;
  OK(mkdir(name.c_str(), 0755));
  OK(mkdir((name + "/b").c_str(), 0755));
  OK(mkdir((name + "/b/c").c_str(), 0755));
  make_file(name + "/b/c/f", name);
}

}  // namespace

TEST(walk, folders_are_renamed) {
  make_tree("a");
  const ino_t before = number("a/b/c/f");
  OK(rename("a", "x"));
  CHECK(missing("a/b/c/f"));
  EQ(number("x/b/c/f"), before);
  make_tree("a");
  CHECK(number("a/b/c/f") != before);
  CHECK(read_file("a/b/c/f") == "a" && read_file("x/b/c/f") == "a");
  OK(syscall(SYS_renameat2, AT_FDCWD, "a/b", AT_FDCWD, "x/b", 2 /* RENAME_EXCHANGE */));
  EQ(number("a/b/c/f"), before);
  make_file("a/b/c/new", "made");
  CHECK(missing("x/b/c/new"));
  // Upwards from where the name has led.
  OK(chdir("a/b/c"));
  EQ(number("../../b/c/f"), before);
  char there[PATH_MAX];
  CHECK(getcwd(there, sizeof there) != nullptr);
  const std::string text = there;
  CHECK(text.ends_with("/a/b/c"));
}

TEST(walk, files_come_and_go) {
  make_tree("a");
  for (int i = 0; i < 5; ++i) {
    CHECK(missing("a/b/c/g"));
    make_file("a/b/c/g", "once more");
    CHECK(read_file("a/b/c/g") == "once more");
    OK(unlink("a/b/c/g"));
    CHECK(missing("a/b/c/g"));
    OK(symlink("f", "a/b/c/g"));
    CHECK(read_file("a/b/c/g") == "a");
    struct stat info {};
    OK(lstat("a/b/c/g", &info));
    CHECK(S_ISLNK(info.st_mode));
    FAILS(open("a/b/c/g", O_RDONLY | O_NOFOLLOW), ELOOP);
    OK(unlink("a/b/c/g"));
    OK(mkdir("a/b/c/g", 0755));
    make_file("a/b/c/g/h", "below");
    CHECK(read_file("a/b/c/g/h") == "below");
    FAILS(open("a/b/c/f/h", O_RDONLY), ENOTDIR);
    FAILS(open("a/b/c/f/", O_RDONLY), ENOTDIR);
    OK(unlink("a/b/c/g/h"));
    OK(rmdir("a/b/c/g"));
    CHECK(missing("a/b/c/g/h"));
  }
}

TEST(walk, a_folder_becomes_a_link) {
  make_tree("a");
  make_tree("z");
  CHECK(read_file("a/b/c/f") == "a" && read_file("z/b/c/f") == "z");
  OK(rename("a/b", "a/other"));
  OK(symlink("../z/b", "a/b"));
  CHECK(read_file("a/b/c/f") == "z" && read_file("a/other/c/f") == "a");
  FAILS(open("a/b", O_RDONLY | O_NOFOLLOW), ELOOP);
  OK(unlink("a/b"));
  OK(symlink("/nowhere", "a/b"));
  CHECK(missing("a/b/c/f"));
  OK(unlink("a/b"));
  OK(rename("a/other", "a/b"));
  CHECK(read_file("a/b/c/f") == "a");
}

TEST(walk, rights_are_those_of_who_walks) {
  if (geteuid() != 0) skip_test("not root");
  make_tree("a");
  OK(chmod("a/b", 0700));
  number("a/b/c/f");
  const pid_t child = OK(fork());
  if (child == 0) {
    struct stat info {};
    if (setgid(1000) != 0 || setuid(1000) != 0) _exit(2);
    const bool refused = stat("a/b/c/f", &info) == -1 && errno == EACCES;
    const bool unseen = stat("a/b/c/none", &info) == -1 && errno == EACCES;
    _exit(refused && unseen ? 0 : 1);
  }
  int status = 0;
  EQ(waitpid(child, &status, 0), child);
  EQ(status, 0);
  number("a/b/c/f");
}

TEST(walk, something_is_mounted_on_the_way) {
  make_tree("a");
  make_tree("z");
  number("a/b/c/f");
  if (mount("z/b", "a/b", nullptr, MS_BIND, nullptr) != 0) skip_test("no mounts here");
  CHECK(read_file("a/b/c/f") == "z");
  number("a/b/c/f");
  OK(umount("a/b"));
  CHECK(read_file("a/b/c/f") == "a");
  OK(mount("z/b/c/f", "a/b/c/f", nullptr, MS_BIND, nullptr));
  CHECK(read_file("a/b/c/f") == "z");
  OK(umount("a/b/c/f"));
  CHECK(read_file("a/b/c/f") == "a");
}
