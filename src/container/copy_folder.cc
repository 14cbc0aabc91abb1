// The copying of tmpcopyup.
#include <dirent.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <memory>

#include "container/mounts.h"

namespace caisson::container {
namespace {

constexpr int kMaxDepth = 256;

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

Result<void> copy_level(int from, int to, int depth);

// Extended attributes that the target's file system does not take are left behind, as cp -a does where it may.
void copy_attributes(int from, int to) {
  char names[4096], value[4096];
  const ssize_t length = flistxattr(from, names, sizeof names);
  for (ssize_t start = 0; start < length; start += static_cast<ssize_t>(strlen(names + start)) + 1) {
    const ssize_t size = fgetxattr(from, names + start, value, sizeof value);
    if (size >= 0) (void)!fsetxattr(to, names + start, value, static_cast<size_t>(size), 0);
  }
}

Result<void> finish(const struct stat& info, int to) {
  const timespec times[2] = {info.st_atim, info.st_mtim};
  if (fchown(to, info.st_uid, info.st_gid) != 0 || fchmod(to, info.st_mode & 07777) != 0 || futimens(to, times) != 0)
    return errno_error("tmpcopyup: cannot set a copy's owner, mode or time");
  return {};
}

Result<void> copy_file(int folder, const char* name, const struct stat& info, int to) {
  const UniqueFd in(openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  const UniqueFd out(openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!in || !out) return errno_error("tmpcopyup: cannot copy {}", name);
  while (true) {
    const ssize_t count = sendfile(out.get(), in.get(), nullptr, 1 << 20);
    if (count < 0) return errno_error("tmpcopyup: cannot copy {}", name);
    if (count == 0) break;
  }
  TRY(finish(info, out.get()));
  copy_attributes(in.get(), out.get());
  return {};
}

Result<void> copy_link(int folder, const char* name, const struct stat& info, int to) {
  char target[PATH_MAX];
  const ssize_t length = readlinkat(folder, name, target, sizeof target - 1);
  if (length < 0) return errno_error("tmpcopyup: cannot read link {}", name);
  target[length] = '\0';
  if (symlinkat(target, to, name) != 0 || fchownat(to, name, info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error("tmpcopyup: cannot copy link {}", name);
  return {};
}

Result<void> copy_entry(int folder, const char* name, int to, int depth) {
  struct stat info;
  if (fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) != 0) return errno_error("tmpcopyup: cannot stat {}", name);
  if (S_ISREG(info.st_mode)) return copy_file(folder, name, info, to);
  if (S_ISLNK(info.st_mode)) return copy_link(folder, name, info, to);
  if (!S_ISDIR(info.st_mode)) {
    if (mknodat(to, name, info.st_mode, info.st_rdev) != 0 || fchownat(to, name, info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error("tmpcopyup: cannot copy node {}", name);
    return {};
  }
  if (mkdirat(to, name, 0700) != 0) return errno_error("tmpcopyup: cannot make folder {}", name);
  const UniqueFd in(openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const UniqueFd out(openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!in || !out) return errno_error("tmpcopyup: cannot open folder {}", name);
  TRY(copy_level(in.get(), out.get(), depth + 1));
  TRY(finish(info, out.get()));
  copy_attributes(in.get(), out.get());
  return {};
}

Result<void> copy_level(int from, int to, int depth) {
  if (depth > kMaxDepth) return make_error(ELOOP, "tmpcopyup: folders are nested deeper than {}", kMaxDepth);
  const int listing = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (listing < 0) return errno_error("tmpcopyup: cannot open a folder");
  const std::unique_ptr<DIR, CloseDir> dir(fdopendir(listing));
  if (!dir) return errno_error("tmpcopyup: cannot read a folder");
  while (true) {
    errno = 0;
    const dirent* entry = readdir(dir.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") TRY(copy_entry(from, entry->d_name, to, depth));
  }
  if (errno != 0) return errno_error("tmpcopyup: cannot read a folder");
  return {};
}

}  // namespace

Result<void> copy_folder(int from, int to) { return copy_level(from, to, 0); }

}  // namespace caisson::container
