// Device nodes that a program makes (mknod(2)), on tmpfs and in an ordinary folder.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "harness.h"

namespace {

// Not everywhere: it takes a capability, and rules of a device cgroup.
void make_or_skip(const char* name, mode_t mode, dev_t device) {
  if (mknod(name, mode, device) == 0) return;
  if (errno == EPERM) skip_test("no device nodes can be made here");
  CHECK(!"mknod");
}

void use_nodes() {
  umask(0);
  make_or_skip("zero", S_IFCHR | 0640, makedev(1, 5));
  struct stat status {};
  OK(stat("zero", &status));
  CHECK(S_ISCHR(status.st_mode));
  EQ(status.st_mode & 07777, 0640);
  EQ(status.st_rdev, makedev(1, 5));
  EQ(status.st_size, 0);
  FAILS(mknod("zero", S_IFCHR | 0640, makedev(1, 5)), EEXIST);
  const int zero = OK(open("zero", O_RDWR));
  char bytes[4] = {1, 1, 1, 1};
  EQ(read(zero, bytes, 4), 4);
  EQ(bytes[0] | bytes[3], 0);
  EQ(write(zero, "x", 1), 1);
  OK(fstat(zero, &status));
  EQ(status.st_rdev, makedev(1, 5));
  close(zero);
  // Its attributes change as any file's, and it stays what it is.
  OK(chmod("zero", 0604));
  OK(chown("zero", 1000, 1001));
  OK(rename("zero", "renamed"));
  OK(link("renamed", "linked"));
  OK(stat("linked", &status));
  CHECK(S_ISCHR(status.st_mode));
  EQ(status.st_mode & 07777, 0604);
  EQ(status.st_uid, 1000);
  EQ(status.st_gid, 1001);
  EQ(status.st_nlink, 2);
  FAILS(setxattr("linked", "user.test", "x", 1, 0), EPERM);
  char names[256];
  for (ssize_t size = OK(listxattr("linked", names, sizeof names)), at = 0; at < size; at += static_cast<ssize_t>(strlen(names + at)) + 1)
    CHECK(strncmp(names + at, "user.", 5) != 0);
  FAILS(truncate("linked", 0), EINVAL);
  // Others have no right to it: 0604 of 1000:1001.
  EQ(in_child([] {
       OK(setgid(1001));
       OK(setuid(2000));
       FAILS(open("linked", O_RDONLY), EACCES);
     }),
     0);
  EQ(in_child([] {
       OK(setgid(5));
       OK(setuid(2000));
       close(OK(open("linked", O_RDONLY)));
       FAILS(open("linked", O_WRONLY), EACCES);
     }),
     0);
  make_or_skip("disk", S_IFBLK | 0600, makedev(240, 77));
  OK(stat("disk", &status));
  CHECK(S_ISBLK(status.st_mode));
  EQ(status.st_rdev, makedev(240, 77));
  // Numbers from 240 on are for experiments (Documentation/admin-guide/devices.txt): which of these depends on device rules.
  EQ(open("disk", O_RDONLY), -1);
  CHECK(errno == ENXIO || errno == EPERM || errno == ENODEV);
  OK(unlink("renamed"));
  OK(unlink("linked"));
  OK(unlink("disk"));
}

}  // namespace

TEST(devices, in_a_folder) { use_nodes(); }

TEST(devices, on_tmpfs) {
  OK(mkdir("m", 0755));
  if (mount("none", "m", "tmpfs", 0, "size=1m") != 0) skip_test("nothing can be mounted here");
  OK(chdir("m"));
  use_nodes();
  OK(chdir(".."));
  OK(umount("m"));
}

TEST(devices, fifos_obey_their_mode) {
  umask(0);
  OK(mkfifo("fifo", 0600));
  if (getuid() != 0) skip_test("only root can be somebody else");
  EQ(in_child([] {
       OK(setgid(1000));
       OK(setuid(1000));
       FAILS(open("fifo", O_RDONLY | O_NONBLOCK), EACCES);
     }),
     0);
  OK(unlink("fifo"));
}

TEST(devices, an_empty_sticky_file_is_a_file) {
  umask(0);
  close(OK(open("sticky", O_CREAT | O_WRONLY, 0600)));
  OK(chmod("sticky", 01600));
  struct stat status {};
  OK(stat("sticky", &status));
  CHECK(S_ISREG(status.st_mode));
  EQ(status.st_mode & 07777, 01600);
  OK(unlink("sticky"));
}
