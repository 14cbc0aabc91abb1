// inotify(7): on the folder that the test is given, which may be the host's, and on a tmpfs, which is the kernel's own.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <map>
#include <vector>

#include "harness.h"

namespace {

constexpr std::pair<uint32_t, const char*> kNames[] = {
    {IN_ACCESS, "ACCESS"},       {IN_MODIFY, "MODIFY"},   {IN_ATTRIB, "ATTRIB"},           {IN_CLOSE_WRITE, "CLOSE_WRITE"},
    {IN_CLOSE_NOWRITE, "CLOSE"}, {IN_OPEN, "OPEN"},       {IN_MOVED_FROM, "FROM"},         {IN_MOVED_TO, "TO"},
    {IN_CREATE, "CREATE"},       {IN_DELETE, "DELETE"},   {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
    {IN_UNMOUNT, "UNMOUNT"},     {IN_IGNORED, "IGNORED"}, {IN_Q_OVERFLOW, "OVERFLOW"},     {IN_ISDIR, "ISDIR"},
};

std::string text_of(uint32_t mask) {
  std::string text;
  for (const auto& [bit, name] : kNames)
    if ((mask & bit) != 0) text += (text.empty() ? "" : "|") + std::string(name);
  return text;
}

// All events that are there, as "1:CREATE|ISDIR name"; cookies as "#n", counted from 1.
std::string take(int fd) {
  std::string text;
  std::map<uint32_t, int> cookies;
  alignas(inotify_event) char room[8192];
  for (;;) {
    const ssize_t got = read(fd, room, sizeof room);
    if (got < 0 && errno == EAGAIN) return text;
    OK(got);
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(room + at);
      EQ(event->len % sizeof(inotify_event), 0);
      text += (text.empty() ? "" : ", ") + std::to_string(event->wd) + ":" + text_of(event->mask);
      if (event->len > 0) {
        text += " " + std::string(event->name);
        CHECK(event->len > strlen(event->name));
        for (size_t i = strlen(event->name); i < event->len; ++i) EQ(event->name[i], 0);
      }
      if (event->cookie != 0) text += "#" + std::to_string(cookies.emplace(event->cookie, cookies.size() + 1).first->second);
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
}

#define SEES(fd, wanted)                                                                                                 \
  do {                                                                                                                   \
    const std::string sees_found = take(fd);                                                                             \
    if (sees_found != (wanted)) fail_check(__FILE__, __LINE__, #fd, "saw '" + sees_found + "', not '" + (wanted) + "'"); \
  } while (0)

int start() { return OK(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)); }

void put(const char* path, const char* text) {
  const int fd = OK(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  EQ(write(fd, text, strlen(text)), strlen(text));
  OK(close(fd));
}

// A tmpfs of the test's own as the working folder, seen by nobody else.
void enter_tmpfs() {
  if (unshare(CLONE_NEWNS) == 0) (void)mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  OK(mkdir("t", 0755));
  if (mount("t", "t", "tmpfs", 0, "size=8m") != 0) skip_test("may not mount");
  OK(chdir("t"));
}
void leave_tmpfs() {
  OK(chdir(".."));
  OK(umount2("t", MNT_DETACH));
  OK(rmdir("t"));
}

void what_happens_in_a_folder() {
  const int fd = start();
  OK(mkdir("d", 0755));
  EQ(inotify_add_watch(fd, "d", IN_ALL_EVENTS), 1);
  const int file = OK(open("d/f", O_RDWR | O_CREAT | O_EXCL, 0644));
  SEES(fd, "1:CREATE f, 1:OPEN f");
  EQ(write(file, "one", 3), 3);
  EQ(pwrite(file, "two", 3, 3), 3);
  SEES(fd, "1:MODIFY f");  // equal ones are one
  char room[8];
  EQ(pread(file, room, 6, 0), 6);
  OK(ftruncate(file, 2));
  OK(fchmod(file, 0600));
  OK(close(file));
  SEES(fd, "1:ACCESS f, 1:MODIFY f, 1:ATTRIB f, 1:CLOSE_WRITE f");
  OK(close(OK(open("d/f", O_RDONLY))));
  SEES(fd, "1:OPEN f, 1:CLOSE f");
  OK(truncate("d/f", 1));
  OK(chown("d/f", getuid(), getgid()));
  SEES(fd, "1:MODIFY f, 1:ATTRIB f");
  const timespec times[2] = {{1, 0}, {1, 0}}, read_only[2] = {{2, 0}, {0, UTIME_OMIT}}, written_only[2] = {{0, UTIME_OMIT}, {2, 0}};
  OK(utimensat(AT_FDCWD, "d/f", times, 0));
  OK(utimensat(AT_FDCWD, "d/f", read_only, 0));
  OK(utimensat(AT_FDCWD, "d/f", written_only, 0));
  SEES(fd, "1:ATTRIB f, 1:ACCESS f, 1:MODIFY f");
  // Looking does not count.
  struct stat st;
  OK(stat("d/f", &st));
  OK(access("d/f", R_OK));
  OK(close(OK(open("d/f", O_PATH))));
  SEES(fd, "");
  OK(mkdir("d/sub", 0755));
  OK(symlink("nowhere", "d/l"));
  OK(mkfifo("d/p", 0644));
  OK(link("d/f", "d/g"));
  SEES(fd, "1:CREATE|ISDIR sub, 1:CREATE l, 1:CREATE p, 1:CREATE g");
  OK(rename("d/g", "d/h"));
  OK(rename("d/sub", "d/sup"));
  SEES(fd, "1:FROM g#1, 1:TO h#1, 1:FROM|ISDIR sub#2, 1:TO|ISDIR sup#2");
  const int folder = OK(open("d/sup", O_RDONLY | O_DIRECTORY));
  OK(close(folder));
  OK(chmod("d/sup", 0700));
  OK(rmdir("d/sup"));
  OK(unlink("d/h"));
  OK(unlink("d/p"));
  SEES(fd, "1:OPEN|ISDIR sup, 1:CLOSE|ISDIR sup, 1:ATTRIB|ISDIR sup, 1:DELETE|ISDIR sup, 1:DELETE h, 1:DELETE p");
  const int unix_socket = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{AF_UNIX, "d/s"};
  OK(bind(unix_socket, reinterpret_cast<sockaddr*>(&address), sizeof address));
  SEES(fd, "1:CREATE s");
  // Further down is none of its business.
  OK(mkdir("d/x", 0755));
  take(fd);
  OK(mkdir("d/x/y", 0755));
  SEES(fd, "");
}

void files_themselves() {
  const int fd = start();
  put("f", "text");
  put("g", "text");
  OK(mkdir("d", 0755));
  EQ(inotify_add_watch(fd, "f", IN_ALL_EVENTS), 1);
  EQ(inotify_add_watch(fd, "g", IN_MOVE_SELF | IN_DELETE_SELF), 2);
  OK(rename("f", "d/f"));
  SEES(fd, "1:MOVE_SELF");
  OK(link("d/f", "two"));
  SEES(fd, "1:ATTRIB");
  OK(unlink("two"));
  SEES(fd, "1:ATTRIB");
  OK(rename("g", "d/g"));
  SEES(fd, "2:MOVE_SELF");
  // Replaced: it goes.
  OK(rename("d/f", "d/g"));
  SEES(fd, "1:MOVE_SELF, 2:DELETE_SELF, 2:IGNORED");
  // In use: not gone before the last has closed it.
  const int held = OK(open("d/g", O_RDONLY));
  take(fd);
  OK(unlink("d/g"));
  SEES(fd, "1:ATTRIB");
  OK(close(held));
  SEES(fd, "1:CLOSE, 1:DELETE_SELF, 1:IGNORED");
  FAILS(inotify_rm_watch(fd, 1), EINVAL);
  EQ(inotify_add_watch(fd, "d", IN_DELETE_SELF), 3);
  OK(rmdir("d"));
  SEES(fd, "3:DELETE_SELF, 3:IGNORED");
}

void masks() {
  const int fd = start(), other = start();
  OK(mkdir("d", 0755));
  EQ(inotify_add_watch(fd, "d", IN_CREATE), 1);
  EQ(inotify_add_watch(other, "d", IN_DELETE | IN_CREATE), 1);
  put("d/a", "");
  SEES(fd, "1:CREATE a");
  SEES(other, "1:CREATE a");
  EQ(inotify_add_watch(fd, "d", IN_DELETE), 1);  // replaced
  put("d/b", "");
  SEES(fd, "");
  OK(unlink("d/b"));
  SEES(fd, "1:DELETE b");
  EQ(inotify_add_watch(fd, "d", IN_CREATE | IN_MASK_ADD), 1);
  put("d/b", "");
  OK(unlink("d/b"));
  SEES(fd, "1:CREATE b, 1:DELETE b");
  FAILS(inotify_add_watch(fd, "d", IN_CREATE | IN_MASK_CREATE), EEXIST);
  FAILS(inotify_add_watch(fd, "d", IN_CREATE | IN_MASK_CREATE | IN_MASK_ADD), EINVAL);
  SEES(other, "1:CREATE b, 1:DELETE b, 1:CREATE b, 1:DELETE b");
  OK(inotify_rm_watch(fd, 1));
  SEES(fd, "1:IGNORED");
  put("d/c", "");
  SEES(fd, "");
  SEES(other, "1:CREATE c");
  // Numbers are not given twice.
  EQ(inotify_add_watch(fd, "d", IN_CREATE | IN_ONESHOT), 2);
  put("d/e", "");
  put("d/f", "");
  SEES(fd, "2:CREATE e, 2:IGNORED");
  FAILS(inotify_rm_watch(fd, 2), EINVAL);
  OK(symlink("d", "l"));
  put("file", "");
  EQ(inotify_add_watch(fd, "l", IN_CREATE | IN_ONLYDIR), 3);
  EQ(inotify_add_watch(fd, "d", IN_CREATE), 3);
  EQ(inotify_add_watch(fd, "l", IN_ATTRIB | IN_DONT_FOLLOW), 4);
  FAILS(inotify_add_watch(fd, "file", IN_CREATE | IN_ONLYDIR), ENOTDIR);
  FAILS(inotify_add_watch(fd, "none", IN_CREATE), ENOENT);
  FAILS(inotify_add_watch(fd, "d", 0), EINVAL);
  FAILS(inotify_add_watch(fd, "d", 0x00800000), EINVAL);
  FAILS(inotify_add_watch(0, "d", IN_CREATE), EINVAL);
  FAILS(inotify_add_watch(99, "d", IN_CREATE), EBADF);
  FAILS(inotify_rm_watch(fd, 77), EINVAL);
  FAILS(inotify_init1(1), EINVAL);
}

void excluded() {
  const int fd = start();
  put("f", "text");
  EQ(inotify_add_watch(fd, ".", IN_ACCESS | IN_MODIFY | IN_EXCL_UNLINK), 1);
  const int file = OK(open("f", O_RDWR));
  EQ(write(file, "x", 1), 1);
  SEES(fd, "1:MODIFY f");
  OK(unlink("f"));
  EQ(write(file, "x", 1), 1);
  SEES(fd, "");
  EQ(inotify_add_watch(fd, ".", IN_ACCESS | IN_MODIFY), 1);
  EQ(write(file, "x", 1), 1);
  SEES(fd, "1:MODIFY f");
}

void attributes() {
  const int fd = start();
  put("f", "text");
  EQ(inotify_add_watch(fd, "f", IN_ALL_EVENTS), 1);
  if (setxattr("f", "user.a", "b", 1, 0) != 0) skip_test("no user attributes here");
  char room[8];
  EQ(getxattr("f", "user.a", room, sizeof room), 1);
  CHECK(listxattr("f", nullptr, 0) > 0);
  OK(removexattr("f", "user.a"));
  SEES(fd, "1:ATTRIB");
  const int folder = OK(open(".", O_RDONLY | O_DIRECTORY));
  EQ(inotify_add_watch(fd, ".", IN_ACCESS), 2);
  char list[4096];
  CHECK(syscall(217 /* getdents64 */, folder, list, sizeof list) > 0);
  SEES(fd, "2:ACCESS|ISDIR");
}

void in_tmpfs(void (*body)()) {
  enter_tmpfs();
  body();
  leave_tmpfs();
}

}  // namespace

TEST(inotify, folder) { what_happens_in_a_folder(); }
TEST(inotify, folder_tmpfs) { in_tmpfs(what_happens_in_a_folder); }
TEST(inotify, self) { files_themselves(); }
TEST(inotify, self_tmpfs) { in_tmpfs(files_themselves); }
TEST(inotify, masks) { masks(); }
TEST(inotify, masks_tmpfs) { in_tmpfs(masks); }
TEST(inotify, unlinked) { excluded(); }
TEST(inotify, unlinked_tmpfs) { in_tmpfs(excluded); }
TEST(inotify, attributes) { attributes(); }
TEST(inotify, attributes_tmpfs) { in_tmpfs(attributes); }

TEST(inotify, waiting) {
  const int fd = OK(inotify_init()), epoll = OK(epoll_create1(0));
  OK(mkdir("d", 0755));
  const int watch = OK(inotify_add_watch(fd, "d", IN_CREATE));
  pollfd entry{fd, POLLIN, 0};
  EQ(poll(&entry, 1, 0), 0);
  epoll_event event{EPOLLIN, {.u64 = 7}};
  OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
  EQ(epoll_wait(epoll, &event, 1, 0), 0);
  put("d/abc", "");
  // At once, not soon.
  EQ(epoll_wait(epoll, &event, 1, 0), 1);
  EQ(poll(&entry, 1, 0), 1);
  EQ(entry.revents, POLLIN);
  int size = 0;
  OK(ioctl(fd, FIONREAD, &size));
  EQ(size, 32);
  char room[64];
  FAILS(read(fd, room, 31), EINVAL);
  EQ(read(fd, room, 64), 32);
  OK(ioctl(fd, FIONREAD, &size));
  EQ(size, 0);
  // Asleep in read and in epoll_wait until somebody else does something.
  const pid_t child = start_child([] {
    sleep_ms(50);
    put("d/two", "");
  });
  EQ(read(fd, room, 64), 32);
  EQ(reinterpret_cast<inotify_event*>(room)->wd, watch);
  EQ(wait_child(child), 0);
  const pid_t another = start_child([] {
    sleep_ms(50);
    put("d/three", "");
  });
  EQ(epoll_wait(epoll, &event, 1, 5000), 1);
  EQ(wait_child(another), 0);
}

TEST(inotify, unmounted) {
  enter_tmpfs();
  const int fd = start();
  OK(mkdir("d", 0755));
  EQ(inotify_add_watch(fd, "d", IN_CREATE), 1);
  OK(chdir(".."));
  OK(umount("t"));
  SEES(fd, "1:UNMOUNT|ISDIR, 1:IGNORED");
  OK(rmdir("t"));
}

TEST(inotify, overflow) {
  const int fd = start();
  enter_tmpfs();
  OK(inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE));
  for (int i = 0; i < 9000; ++i) {
    OK(close(OK(open("f", O_CREAT | O_WRONLY, 0644))));
    OK(unlink("f"));
  }
  int count = 0, overflows = 0;
  alignas(inotify_event) char room[65536];
  for (;;) {
    const ssize_t got = read(fd, room, sizeof room);
    if (got < 0) break;
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(room + at);
      ++count;
      if (event->mask == IN_Q_OVERFLOW) {
        EQ(event->wd, -1);
        ++overflows;
      }
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
  EQ(overflows, 1);
  EQ(count, 16385);
  leave_tmpfs();
}

TEST(inotify, many_instances) {
  std::vector<int> fds;
  for (int i = 0; i < 2000; ++i) {
    const int fd = inotify_init1(0);
    if (fd < 0) break;
    fds.push_back(fd);
  }
  CHECK(fds.size() < 2000);
  EQ(errno, EMFILE);
  for (const int fd : fds) OK(close(fd));
  OK(close(OK(inotify_init1(0))));
}

TEST(inotify, mapped) {
  put("f", "text");
  const int fd = start(), file = OK(open("f", O_RDWR));
  OK(inotify_add_watch(fd, "f", IN_ALL_EVENTS));
  auto* memory = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  CHECK(memory != MAP_FAILED);
  memory[0] = 'T';  // not told of (inotify(7))
  SEES(fd, "");
  OK(close(file));
  SEES(fd, "");
  OK(munmap(memory, 4096));
  SEES(fd, "1:CLOSE_WRITE");
}
