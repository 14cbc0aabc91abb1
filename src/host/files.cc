#include "host/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>
#include <cstring>
#include <memory>

namespace caisson::host {
namespace {

constexpr size_t kMaxFds = 64;

struct DirCloser {
  void operator()(DIR* dir) const { closedir(dir); }
};

// The id of the mount that an object is on: stx_dev alone does not tell a bind mount.
struct MountOf {
  uint64_t mount = 0;
  bool is_folder = false;
  bool is_mount_root = false;
};

Result<MountOf> mount_of(int folder, const char* name) {
  struct statx info {};
  if (statx(folder, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name == 0 ? AT_EMPTY_PATH : 0), STATX_TYPE | STATX_MNT_ID, &info) != 0)
    return errno_error("cannot stat {}", name);
  return MountOf{
      (info.stx_mask & STATX_MNT_ID) != 0 ? info.stx_mnt_id : (static_cast<uint64_t>(info.stx_dev_major) << 32 | info.stx_dev_minor),
      S_ISDIR(info.stx_mode), (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0};
}

// Removes name in folder. Goes on after a failure, so that as much as possible is freed, and reports the first.
Result<void> remove_at(int folder, const char* name, const std::string& path, uint64_t mount, int depth) {
  auto what = mount_of(folder, name);
  if (!what) return what.error().code() == ENOENT ? Result<void>() : Result<void>(std::move(what).error());
  if (!what->is_folder) {
    if (unlinkat(folder, name, 0) != 0 && errno != ENOENT) return errno_error("cannot remove {}", path);
    return {};
  }
  if (what->mount != mount || what->is_mount_root) return make_error(EBUSY, "cannot remove {}: a file system is mounted there", path);
  if (depth > 1000) return make_error(ELOOP, "cannot remove {}: too many nested folders", path);
  if (unlinkat(folder, name, AT_REMOVEDIR) == 0) return {};
  UniqueFd fd(openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return errno_error("cannot open {}", path);
  std::unique_ptr<DIR, DirCloser> dir(fdopendir(fd.get()));
  if (!dir) return errno_error("cannot read {}", path);
  fd.release();
  Result<void> outcome;
  while (const dirent* entry = readdir(dir.get())) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    auto removed = remove_at(dirfd(dir.get()), entry->d_name, path + "/" + entry->d_name, mount, depth + 1);
    if (!removed && outcome) outcome = std::move(removed);
  }
  if (outcome && unlinkat(folder, name, AT_REMOVEDIR) != 0 && errno != ENOENT) return errno_error("cannot remove {}", path);
  return outcome;
}

}  // namespace

Result<std::string> read_descriptor(int fd, size_t limit) {
  std::string bytes;
  struct stat info {};
  size_t chunk = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 ? static_cast<size_t>(info.st_size) + 1 : 4096;
  while (true) {
    const size_t have = bytes.size();
    bytes.resize(have + std::min(chunk, limit + 1 - have));
    const ssize_t count = read(fd, bytes.data() + have, bytes.size() - have);
    if (count < 0 && errno == EINTR) {
      bytes.resize(have);
      continue;
    }
    if (count < 0) return errno_error("cannot read");
    bytes.resize(have + static_cast<size_t>(count));
    if (count == 0) return bytes;
    if (bytes.size() > limit) return make_error(EFBIG, "is longer than {} bytes", limit);
    chunk = std::max<size_t>(chunk, 4096);
    if (bytes.size() >= chunk) chunk = 64 << 10;
  }
}

Result<std::string> read_file(const std::string& path, size_t limit) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return errno_error("cannot open {}", path);
  auto bytes = read_descriptor(fd.get(), limit);
  if (!bytes) return std::move(bytes).error().within(path);
  return bytes;
}

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_error("cannot write");
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return {};
}

Result<void> write_file_atomic(const std::string& path, std::string_view bytes, mode_t mode) {
  const std::string temporary = fmt::format("{}.tmp.{}", path, getpid());
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return errno_error("cannot make {}", temporary);
  auto written = write_all(fd.get(), bytes);
  if (!written) {
    unlink(temporary.c_str());
    return std::move(written).error().within(temporary);
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    Error failure = errno_error("cannot replace {}", path);
    unlink(temporary.c_str());
    return failure;
  }
  return {};
}

Result<void> write_file(const std::string& path, std::string_view text) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return errno_error("cannot open {}", path);
  ssize_t count = -1;
  do count = write(fd.get(), text.data(), text.size());
  while (count < 0 && errno == EINTR);
  if (count < 0) return errno_error("cannot write \"{}\" to {}", text.substr(0, 200), path);
  if (static_cast<size_t>(count) != text.size())
    return make_error(EIO, "cannot write \"{}\" to {}: only {} bytes were taken", text.substr(0, 200), path, count);
  return {};
}

Result<void> mkdir_p(const std::string& path, mode_t mode) {
  if (path.empty()) return make_error(EINVAL, "cannot make a folder without a name");
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
      // A parent may be on a read-only file system and there already.
      struct stat info {};
      const int code = errno;
      if (stat(part.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
        errno = code;
        return errno_error("cannot make the folder {}", part);
      }
    }
    if (end == std::string::npos) break;
  }
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return errno_error("cannot make the folder {}", path);
  if (!S_ISDIR(info.st_mode)) return make_error(ENOTDIR, "{} is there and is no folder", path);
  return {};
}

Result<void> remove_tree(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const size_t slash = trimmed.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : trimmed.substr(0, slash);
  const std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return make_error(EINVAL, "cannot remove {}: it has no name of its own", path);
  UniqueFd folder(open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return errno == ENOENT ? Result<void>() : Result<void>(errno_error("cannot open {}", parent));
  const MountOf home = TRY(mount_of(folder.get(), ""));
  return remove_at(folder.get(), name.c_str(), trimmed, home.mount, 0);
}

Result<size_t> send_some_with_fds(int socket, std::string_view bytes, const std::vector<int>& fds, int flags) {
  if (fds.size() > kMaxFds) return make_error(EINVAL, "cannot send more than {} descriptors at once", kMaxFds);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t count = -1;
  do count = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
  while (count < 0 && errno == EINTR);
  if (count < 0) return errno_error("cannot send over a socket");
  return static_cast<size_t>(count);
}

Result<void> send_with_fds(int socket, std::string_view bytes, const std::vector<int>& fds) {
  if (bytes.empty()) return make_error(EINVAL, "descriptors need a byte to travel with");
  bool first = true;
  while (!bytes.empty()) {
    auto count = send_some_with_fds(socket, bytes, first ? fds : std::vector<int>());
    if (!count && count.error().code() == EAGAIN) {
      pollfd wait{socket, POLLOUT, 0};
      if (poll(&wait, 1, -1) < 0 && errno != EINTR) return errno_error("cannot wait for a socket");
      continue;
    }
    if (!count) return std::move(count).error();
    first = false;
    bytes.remove_prefix(*count);
  }
  return {};
}

Result<size_t> recv_with_fds(int socket, void* buffer, size_t size, std::vector<UniqueFd>& fds, int flags) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  iovec part{buffer, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t count = -1;
  do count = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count < 0) return errno_error("cannot receive from a socket");
  std::vector<UniqueFd> received;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t number = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < number; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      received.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0)
    return make_error(EMSGSIZE, "descriptors of a message are lost: more than {} came, or this process may open no more", kMaxFds);
  for (UniqueFd& fd : received) fds.push_back(std::move(fd));
  return static_cast<size_t>(count);
}

}  // namespace caisson::host
