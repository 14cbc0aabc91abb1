// Questions about files: what is there, who owns it, and what can be done to it.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "testinit.h"

namespace caisson::testinit {
namespace {

Json describe(const struct stat& status) {
  static constexpr std::pair<mode_t, const char*> kTypes[] = {{S_IFREG, "file"},  {S_IFDIR, "dir"},  {S_IFLNK, "link"},   {S_IFCHR, "char"},
                                                              {S_IFBLK, "block"}, {S_IFIFO, "fifo"}, {S_IFSOCK, "socket"}};
  const char* type = "unknown";
  for (auto [bits, name] : kTypes)
    if ((status.st_mode & S_IFMT) == bits) type = name;
  return Object()
      .set("type", type)
      .set("mode", status.st_mode & 07777)
      .set("uid", status.st_uid)
      .set("gid", status.st_gid)
      .set("size", status.st_size)
      .set("links", status.st_nlink)
      .set("major", major(status.st_rdev))
      .set("minor", minor(status.st_rdev))
      .set("inode", status.st_ino)
      .set("device", status.st_dev)
      .set("mtime", status.st_mtim.tv_sec);
}

Json stat_link(Args args) {
  struct stat status {};
  check(::lstat(arg(args, 0).c_str(), &status), "lstat");
  return describe(status);
}

Json stat_target(Args args) {
  struct stat status {};
  check(::stat(arg(args, 0).c_str(), &status), "stat");
  return describe(status);
}

Json file_system(Args args) {
  struct statfs status {};
  check(::statfs(arg(args, 0).c_str(), &status), "statfs");
  struct statvfs flags {};
  check(::statvfs(arg(args, 0).c_str(), &flags), "statvfs");
  static constexpr std::pair<unsigned long, const char*> kFlags[] = {
      {ST_RDONLY, "ro"},        {ST_NOSUID, "nosuid"},   {ST_NODEV, "nodev"},           {ST_NOEXEC, "noexec"},
      {ST_SYNCHRONOUS, "sync"}, {ST_NOATIME, "noatime"}, {ST_NODIRATIME, "nodiratime"}, {ST_RELATIME, "relatime"}};
  std::vector<std::string> names;
  for (auto [bit, name] : kFlags)
    if (flags.f_flag & bit) names.emplace_back(name);
  return Object()
      .set("magic", static_cast<unsigned long>(status.f_type))
      .set("flags", Json::list(names))
      .set("bytes", static_cast<uint64_t>(status.f_blocks) * status.f_bsize)
      .set("files", status.f_files);
}

// /proc/self/mountinfo, one object per mount (proc(5)).
Json mounts(Args) {
  std::istringstream lines(read_all("/proc/self/mountinfo"));
  std::vector<Json> result;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, target, options, word, type, source, super_options;
    words >> id >> parent >> device >> root >> target >> options;
    std::vector<std::string> propagation;
    while (words >> word && word != "-") propagation.push_back(word);
    words >> type >> source >> super_options;
    result.push_back(Object()
                         .set("id", number(id))
                         .set("parent", number(parent))
                         .set("root", root)
                         .set("target", target)
                         .set("options", options)
                         .set("propagation", Json::list(propagation))
                         .set("type", type)
                         .set("source", source)
                         .set("super", super_options));
  }
  return Json::list(result);
}

Json read_file(Args args) { return read_all(arg(args, 0), number_or(args, 1, 1 << 20)); }

// write PATH TEXT: into an existing file; create PATH TEXT [MODE]: a new one.
Json store(const std::string& path, const std::string& text, int flags, mode_t mode) {
  int fd = static_cast<int>(check(::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, mode), "open"));
  ssize_t wrote = ::write(fd, text.data(), text.size());
  int error = errno;
  ::close(fd);
  if (wrote < 0) fail("write", error);
  return wrote;
}
Json write_file(Args args) { return store(arg(args, 0), arg(args, 1), O_TRUNC, 0); }
Json append_file(Args args) { return store(arg(args, 0), arg(args, 1), O_APPEND, 0); }
Json create_file(Args args) { return store(arg(args, 0), args.size() > 1 ? args[1] : "", O_CREAT | O_EXCL, number_or(args, 2, 0644)); }

Json can_write(Args args) { return ::access(arg(args, 0).c_str(), W_OK) == 0; }

Json list_folder(Args args) {
  DIR* folder = ::opendir(arg(args, 0).c_str());
  if (folder == nullptr) fail("opendir");
  std::vector<std::string> names;
  while (dirent* entry = ::readdir(folder))
    if (std::string(entry->d_name) != "." && std::string(entry->d_name) != "..") names.emplace_back(entry->d_name);
  ::closedir(folder);
  std::sort(names.begin(), names.end());
  return Json::list(names);
}

Json make_folder(Args args) { return check(::mkdir(arg(args, 0).c_str(), number_or(args, 1, 0755)), "mkdir"); }
Json remove_path(Args args) { return check(::remove(arg(args, 0).c_str()), "remove"); }
Json rename_path(Args args) { return check(::rename(arg(args, 0).c_str(), arg(args, 1).c_str()), "rename"); }
Json link_path(Args args) { return check(::link(arg(args, 0).c_str(), arg(args, 1).c_str()), "link"); }
Json symlink_path(Args args) { return check(::symlink(arg(args, 0).c_str(), arg(args, 1).c_str()), "symlink"); }
Json chmod_path(Args args) { return check(::chmod(arg(args, 0).c_str(), number(arg(args, 1))), "chmod"); }
Json chown_path(Args args) { return check(::lchown(arg(args, 0).c_str(), number(arg(args, 1)), number(arg(args, 2))), "lchown"); }
Json truncate_path(Args args) { return check(::truncate(arg(args, 0).c_str(), number(arg(args, 1))), "truncate"); }

Json read_link(Args args) {
  char target[4096];
  long length = check(::readlink(arg(args, 0).c_str(), target, sizeof target), "readlink");
  return std::string(target, length);
}

// mknod PATH c|b|p|s MAJOR MINOR [MODE]
Json make_node(Args args) {
  char type = arg(args, 1)[0];
  mode_t bits = type == 'c' ? S_IFCHR : type == 'b' ? S_IFBLK : type == 'p' ? S_IFIFO : S_IFSOCK;
  return check(::mknod(arg(args, 0).c_str(), bits | number_or(args, 4, 0666), makedev(number_or(args, 2, 0), number_or(args, 3, 0))),
               "mknod");
}

Json get_xattr(Args args) {
  char value[4096];
  long length = check(::lgetxattr(arg(args, 0).c_str(), arg(args, 1).c_str(), value, sizeof value), "getxattr");
  return std::string(value, length);
}
Json set_xattr(Args args) {
  return check(::lsetxattr(arg(args, 0).c_str(), arg(args, 1).c_str(), arg(args, 2).data(), arg(args, 2).size(), 0), "setxattr");
}

Json set_times(Args args) {
  timeval times[2] = {{number(arg(args, 1)), 0}, {number(arg(args, 1)), 0}};
  return check(::utimes(arg(args, 0).c_str(), times), "utimes");
}

// open PATH r|w|rw: only whether it can be opened. Never blocks.
Json open_path(Args args) {
  const std::string& how = arg(args, 1);
  int flags = how == "r" ? O_RDONLY : how == "w" ? O_WRONLY : O_RDWR;
  ::close(static_cast<int>(check(::open(arg(args, 0).c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), "open")));
  return true;
}

// lock PATH flock|posix: two processes want the same exclusive lock; the second must be refused while the first holds it, and get it
// afterwards.
int try_lock(const std::string& path, bool posix, bool keep) {
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return errno;
  struct flock range {};
  range.l_type = F_WRLCK;
  int failed = posix ? ::fcntl(fd, F_SETLK, &range) : ::flock(fd, LOCK_EX | LOCK_NB);
  int error = failed != 0 ? errno : 0;
  if (!keep) ::close(fd);
  return error;
}
int try_lock_in_child(const std::string& path, bool posix) {
  pid_t child = ::fork();
  if (child == 0) ::_exit(try_lock(path, posix, false));
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}
Json lock(Args args) {
  bool posix = arg(args, 1) == "posix";
  int fd = static_cast<int>(check(::open(arg(args, 0).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644), "open"));
  struct flock range {};
  range.l_type = F_WRLCK;
  check(posix ? ::fcntl(fd, F_SETLK, &range) : ::flock(fd, LOCK_EX | LOCK_NB), "lock");
  int while_held = try_lock_in_child(arg(args, 0), posix);
  ::close(fd);
  int after = try_lock_in_child(arg(args, 0), posix);
  return Object().set("while_held", errno_name(while_held)).set("after", after == 0 ? Json("free") : Json(errno_name(after)));
}

// mmap-shared PATH: a child changes a shared mapping of a file; the parent must see it in its mapping and in the file.
Json mmap_shared(Args args) {
  int fd = static_cast<int>(check(::open(arg(args, 0).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644), "open"));
  check(::ftruncate(fd, 4096), "ftruncate");
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  pid_t child = ::fork();
  if (child == 0) {
    std::strcpy(static_cast<char*>(memory), "from the child");
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  std::string seen = static_cast<char*>(memory);
  check(::msync(memory, 4096, MS_SYNC), "msync");
  char buffer[64] = "";
  check(::pread(fd, buffer, sizeof buffer - 1, 0), "pread");
  ::munmap(memory, 4096);
  ::close(fd);
  return Object().set("mapping", seen).set("file", buffer);
}

constexpr Question kQuestions[] = {
    {"stat", "PATH", stat_link},
    {"stat-target", "PATH", stat_target},
    {"statfs", "PATH", file_system},
    {"mounts", "", mounts},
    {"read", "PATH [LIMIT]", read_file},
    {"write", "PATH TEXT", write_file},
    {"append", "PATH TEXT", append_file},
    {"create", "PATH [TEXT [MODE]]", create_file},
    {"can-write", "PATH", can_write},
    {"list", "PATH", list_folder},
    {"mkdir", "PATH [MODE]", make_folder},
    {"remove", "PATH", remove_path},
    {"rename", "FROM TO", rename_path},
    {"link", "FROM TO", link_path},
    {"symlink", "TARGET PATH", symlink_path},
    {"readlink", "PATH", read_link},
    {"chmod", "PATH MODE", chmod_path},
    {"chown", "PATH UID GID", chown_path},
    {"truncate", "PATH SIZE", truncate_path},
    {"mknod", "PATH c|b|p|s MAJOR MINOR [MODE]", make_node},
    {"getxattr", "PATH NAME", get_xattr},
    {"setxattr", "PATH NAME VALUE", set_xattr},
    {"utimes", "PATH SECONDS", set_times},
    {"open", "PATH r|w|rw", open_path},
    {"lock", "PATH flock|posix", lock},
    {"mmap-shared", "PATH", mmap_shared},
};

}  // namespace

std::span<const Question> file_questions() { return kQuestions; }

}  // namespace caisson::testinit
