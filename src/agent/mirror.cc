#include "agent/mirror.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "host/files.h"

namespace caisson::agent {
namespace {

constexpr int kDeepest = 16;
constexpr int kMostAttempts = 5;
constexpr const char* kDataLink = "..data";
constexpr const char* kNewDataLink = "..data_tmp";

Result<UniqueFd> open_folder(int at, const std::string& name) {
  UniqueFd folder(openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder) return errno_error("open {}", name);
  return folder;
}

Result<std::vector<std::string>> names_in(int folder) {
  UniqueFd own(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::unique_ptr<DIR, int (*)(DIR*)> opened(own ? fdopendir(own.get()) : nullptr, closedir);
  if (!opened) return errno_error("list a folder");
  (void)own.release();
  std::vector<std::string> names;
  while (const dirent* entry = readdir(opened.get()))
    if (std::string_view name = entry->d_name; name != "." && name != "..") names.emplace_back(name);
  return names;
}

// "" where it is not a link.
std::string link_of(int folder, const std::string& name) {
  char text[PATH_MAX];
  const ssize_t size = readlinkat(folder, name.c_str(), text, sizeof text);
  return size > 0 && size < static_cast<ssize_t>(sizeof text) ? std::string(text, static_cast<size_t>(size)) : "";
}

Result<void> set_attributes(int fd, const struct stat& like) {
  const timespec times[2] = {like.st_atim, like.st_mtim};
  if (fchown(fd, like.st_uid, like.st_gid) != 0 || fchmod(fd, like.st_mode & 07777) != 0 || futimens(fd, times) != 0)
    return errno_error("set the attributes of a mirrored file");
  return {};
}

Result<void> copy_file(int from, int to, const std::string& name) {
  UniqueFd source(openat(from, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat info {};
  if (!source || fstat(source.get(), &info) != 0) return errno_error("read {}", name);
  if (!S_ISREG(info.st_mode)) return {};
  UniqueFd target(openat(to, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!target) return errno_error("make {}", name);
  for (;;) {
    const ssize_t sent = sendfile(target.get(), source.get(), nullptr, 1 << 20);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno_error("copy {}", name);
    if (sent == 0) break;
  }
  return set_attributes(target.get(), info);
}

Result<void> copy_folder(int from, int to, const std::string& name, int depth) {
  if (depth > kDeepest) return make_error(ELOOP, "{} is more than {} folders deep", name, kDeepest);
  UniqueFd source = TRY(open_folder(from, name));
  if (mkdirat(to, name.c_str(), 0700) != 0) return errno_error("make {}", name);
  UniqueFd target = TRY(open_folder(to, name));
  for (const std::string& entry : TRY(names_in(source.get()))) {
    struct stat info {};
    if (fstatat(source.get(), entry.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return errno_error("read {}", entry);
    if (S_ISDIR(info.st_mode)) {
      TRY(copy_folder(source.get(), target.get(), entry, depth + 1));
    } else if (S_ISLNK(info.st_mode)) {
      if (symlinkat(link_of(source.get(), entry).c_str(), target.get(), entry.c_str()) != 0) return errno_error("make {}", entry);
    } else {
      TRY(copy_file(source.get(), target.get(), entry));
    }
  }
  struct stat info {};
  if (fstat(source.get(), &info) != 0) return errno_error("read {}", name);
  return set_attributes(target.get(), info);
}

// A link that is there with other contents is replaced by rename, so that nobody finds it missing.
Result<void> put_link(int folder, const std::string& name, const std::string& contents) {
  if (link_of(folder, name) == contents) return {};
  if (unlinkat(folder, kNewDataLink, 0) != 0 && errno != ENOENT) return errno_error("make {}", name);
  if (symlinkat(contents.c_str(), folder, kNewDataLink) != 0 || renameat(folder, kNewDataLink, folder, name.c_str()) != 0)
    return errno_error("make {}", name);
  return {};
}

Result<void> mirror_once(int source, int target, const std::string& target_path) {
  const std::string data = link_of(source, kDataLink);
  if (!data.starts_with("..") || data.size() < 3 || data.find('/') != std::string::npos)
    return make_error(EINVAL, "the link ..data does not name a folder beside it");
  struct stat there {};
  if (fstatat(target, data.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) {
    if (auto copied = copy_folder(source, target, data, 0); !copied.ok()) {
      (void)host::remove_tree(target_path + "/" + data);
      return copied;
    }
  }
  TRY(put_link(target, kDataLink, data));
  const std::vector<std::string> wanted = TRY(names_in(source));
  for (const std::string& name : wanted)
    if (const std::string contents = link_of(source, name); !name.starts_with("..") && !contents.empty())
      TRY(put_link(target, name, contents));
  for (const std::string& name : TRY(names_in(target))) {
    if (name == kDataLink || name == data || (!name.starts_with("..") && std::find(wanted.begin(), wanted.end(), name) != wanted.end()))
      continue;
    TRY(host::remove_tree(target_path + "/" + name));
  }
  return {};
}

}  // namespace

Result<void> mirror_volume(const std::string& source, const std::string& target) {
  UniqueFd from(open(source.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info {};
  if (!from || fstat(from.get(), &info) != 0) return errno_error("{}", source);
  TRY(host::mkdir_p(target));
  UniqueFd to(open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!to) return errno_error("{}", target);
  TRY(set_attributes(to.get(), info));
  Result<void> mirrored;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    mirrored = mirror_once(from.get(), to.get(), target);
    // The writer takes old data away as soon as the new is there, perhaps while we read it.
    if (mirrored.ok() || (mirrored.error().code() != ENOENT && mirrored.error().code() != ESTALE)) break;
  }
  if (!mirrored.ok()) return std::move(mirrored).error().within(source);
  return {};
}

}  // namespace caisson::agent
