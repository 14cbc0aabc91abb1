// What /proc tells of descriptors and the machine, and folders that are removed while they are read.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"

namespace {

std::string text_of(const std::string& path) {
  const int fd = OK(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[8192];
  const ssize_t got = OK(read(fd, text, sizeof text));
  close(fd);
  return std::string(text, static_cast<size_t>(got));
}

std::string own_fd(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

bool has_line(const std::string& text, const std::string& line) { return ("\n" + text).find("\n" + line + "\n") != std::string::npos; }

}  // namespace

// systemd and glib learn whose a pidfd is from there.
TEST(proc, pidfd_tells_whose_it_is) {
  int gate[2];
  OK(pipe(gate));
  const pid_t child = start_child([&] {
    char byte;
    close(gate[1]);
    EQ(read(gate[0], &byte, 1), 0);
  });
  close(gate[0]);
  const int pidfd = static_cast<int>(OK(syscall(SYS_pidfd_open, child, 0)));
  const std::string info = "/proc/self/fdinfo/" + std::to_string(pidfd);
  CHECK(has_line(text_of(info), "Pid:\t" + std::to_string(child)));
  CHECK(text_of(info).find("\nNSpid:\t" + std::to_string(child)) != std::string::npos);
  close(gate[1]);
  EQ(wait_child(child), 0);
  CHECK(has_line(text_of(info), "Pid:\t-1"));
}

TEST(proc, stat_begins_with_all_cpus) {
  const std::string text = text_of("/proc/stat");
  CHECK(text.starts_with("cpu  "));
  CHECK(text.find("\ncpu0 ") != std::string::npos);
}

TEST(proc, a_file_without_a_name_is_deleted) {
  const int fd = open(".", O_TMPFILE | O_RDWR, 0600);
  if (fd < 0) skip_test("the file system has no files without a name");
  char name[256] = "";
  OK(readlink(own_fd(fd).c_str(), name, sizeof name - 1));
  CHECK(std::string(name).ends_with(" (deleted)"));
}

// Who has become somebody else still sees its own descriptors (proc_fd_permission), though /proc/self is root's then.
TEST(proc, own_descriptors_of_who_has_become_another) {
  OK(mkdir("folder", 0700));
  OK(chown("folder", 1, 1));
  EQ(in_child([] {
       const int fd = OK(open("folder", O_PATH | O_DIRECTORY));
       OK(setresuid(1, 1, 1));
       OK(chmod(own_fd(fd).c_str(), 0750));
       CHECK(text_of("/proc/self/fdinfo/" + std::to_string(fd)).starts_with("pos:"));
     }),
     0);
  struct stat stat;
  OK(::stat("folder", &stat));
  EQ(stat.st_mode & 0777, 0750);
}

TEST(folder, removed_while_it_is_read) {
  OK(mkdir("folder", 0700));
  OK(close(OK(open("folder/file", O_CREAT | O_WRONLY, 0600))));
  const int fd = OK(open("folder", O_RDONLY | O_DIRECTORY));
  char room[1024];
  CHECK(syscall(SYS_getdents64, fd, room, sizeof room) > 0);
  OK(unlink("folder/file"));
  OK(rmdir("folder"));
  FAILS(syscall(SYS_getdents64, fd, room, sizeof room), ENOENT);
}

TEST(folder, whose_name_is_too_long) {
  const std::string name(250, 'x');
  for (int i = 0; i < 20; ++i) {
    OK(mkdir(name.c_str(), 0700));
    OK(chdir(name.c_str()));
  }
  char room[8192];
  FAILS(syscall(SYS_getcwd, room, sizeof room), ENAMETOOLONG);
  for (int i = 0; i < 20; ++i) {
    OK(chdir(".."));
    OK(rmdir(name.c_str()));
  }
  FAILS(syscall(SYS_getcwd, room, 2), ERANGE);
}

// Who looks into a process's /proc/PID/fd does not share its descriptors: it keeps its record locks when it unshares them.
TEST(proc, looking_at_descriptors_is_not_sharing) {
  const pid_t self = getpid();
  const int fd = OK(open("locked", O_RDWR | O_CREAT, 0600));
  struct flock lock {};
  lock.l_type = F_WRLCK;
  OK(fcntl(fd, F_SETLK, &lock));
  const std::string folder = "/proc/" + std::to_string(self) + "/fd";
  const pid_t looker = start_child([&] {
    for (;;) {
      if (DIR* all = opendir(folder.c_str()); all != nullptr) {
        while (readdir(all) != nullptr) continue;
        closedir(all);
      }
    }
  });
  for (int i = 0; i < 3000; ++i) OK(unshare(CLONE_FILES));
  EQ(in_child([&] {
       struct flock asked {};
       asked.l_type = F_WRLCK;
       OK(fcntl(fd, F_GETLK, &asked));
       EQ(asked.l_type, F_WRLCK);
       EQ(asked.l_pid, self);
     }),
     0);
  OK(kill(looker, SIGKILL));
  EQ(wait_child(looker), 128 + SIGKILL);
}
