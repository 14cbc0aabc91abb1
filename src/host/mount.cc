#include "host/mount.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef ST_RELATIME
#define ST_RELATIME 4096
#endif

namespace caisson::host {
namespace {

// What the kernel has written to the context's log: lines of "e tmpfs: Bad value for 'size'".
std::string kernel_log(int context) {
  std::string text;
  char line[512];
  for (int count = 0; count < 16; ++count) {
    const ssize_t length = read(context, line, sizeof line);
    if (length <= 0) break;
    std::string_view message(line, static_cast<size_t>(length));
    while (!message.empty() && (message.back() == '\n' || message.back() == '\0')) message.remove_suffix(1);
    if (message.size() > 2 && message[1] == ' ') message.remove_prefix(2);
    if (!text.empty()) text += "; ";
    text += message;
  }
  return text;
}

Error context_error(int code, int context, const std::string& what) {
  const std::string log = kernel_log(context);
  if (log.empty()) return make_error(code, "{}: {}", what, strerror(code));
  return make_error(code, "{}: {} ({})", what, strerror(code), log);
}

Result<void> configure(int context, const std::string& type, const std::string& parameter) {
  const size_t equals = parameter.find('=');
  int result = 0;
  if (equals == std::string::npos) {
    result = fsconfig(context, FSCONFIG_SET_FLAG, parameter.c_str(), nullptr, 0);
  } else {
    result = fsconfig(context, FSCONFIG_SET_STRING, parameter.substr(0, equals).c_str(), parameter.c_str() + equals + 1, 0);
  }
  if (result == 0) return {};
  return context_error(errno, context, fmt::format("file system {} does not take option \"{}\"", type, parameter));
}

}  // namespace

Result<UniqueFd> clone_mount(int folder, const std::string& path, bool recursive) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (recursive) flags |= AT_RECURSIVE;
  if (path.empty()) flags |= AT_EMPTY_PATH;
  UniqueFd fd(open_tree(folder, path.c_str(), flags));
  if (!fd) return errno_error("cannot bind {}", path.empty() ? "an open folder" : path);
  return fd;
}

Result<UniqueFd> make_filesystem(const std::string& type, const std::string& source, const std::vector<std::string>& parameters,
                                 uint64_t attributes) {
  for (const std::string& parameter : parameters)
    if (parameter.size() - (parameter.find('=') + 1) > 255)
      return make_error(ENAMETOOLONG, "file system {}: option \"{}\" is too long", type, parameter);
  const UniqueFd context(fsopen(type.c_str(), FSOPEN_CLOEXEC));
  if (!context) {
    if (errno == ENODEV) return make_error(ENODEV, "this kernel has no file system \"{}\"", type);
    return errno_error("cannot make a file system {}", type);
  }
  if (!source.empty() && fsconfig(context.get(), FSCONFIG_SET_STRING, "source", source.c_str(), 0) != 0)
    return context_error(errno, context.get(), fmt::format("file system {} does not take source \"{}\"", type, source));
  for (const std::string& parameter : parameters) TRY(configure(context.get(), type, parameter));
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return context_error(errno, context.get(), fmt::format("cannot make a file system {}", type));
  UniqueFd mount(fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
  if (!mount) return context_error(errno, context.get(), fmt::format("cannot mount a file system {}", type));
  return mount;
}

Result<void> mount_filesystem(const std::string& type, const std::string& source, const std::vector<std::string>& parameters,
                              unsigned long ms_flags, int target) {
  std::string data;
  for (const std::string& parameter : parameters) data += (data.empty() ? "" : ",") + parameter;
  if (data.size() >= 4096) return make_error(ENAMETOOLONG, "file system {}: the options are longer than a page", type);
  const std::string path = fmt::format("/proc/self/fd/{}", target);
  if (mount(source.c_str(), path.c_str(), type.c_str(), ms_flags, data.c_str()) != 0)
    return errno_error("cannot mount a file system {} with \"{}\"", type, data);
  return {};
}

Result<void> attach_mount(int mount, int target) {
  if (move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
    return errno_error("cannot put the mount in its place");
  return {};
}

Result<void> change_mount(int mount, const MountChange& change, bool recursive) {
  if (change.empty()) return {};
  mount_attr attributes{};
  attributes.attr_set = change.set;
  attributes.attr_clr = change.clear;
  attributes.propagation = change.propagation;
  if ((change.set & MOUNT_ATTR_IDMAP) != 0) attributes.userns_fd = static_cast<uint64_t>(change.user_namespace);
  const unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
  if (mount_setattr(mount, "", flags, &attributes, sizeof attributes) != 0)
    return errno_error("cannot change the mount's attributes (set {:#x}, clear {:#x}, propagation {:#x})", change.set, change.clear,
                       change.propagation);
  return {};
}

Result<uint64_t> mount_attributes(int fd) {
  struct statvfs info;
  if (fstatvfs(fd, &info) != 0) return errno_error("cannot read a mount's attributes");
  uint64_t attributes = 0;
  if ((info.f_flag & ST_RDONLY) != 0) attributes |= MOUNT_ATTR_RDONLY;
  if ((info.f_flag & ST_NOSUID) != 0) attributes |= MOUNT_ATTR_NOSUID;
  if ((info.f_flag & ST_NODEV) != 0) attributes |= MOUNT_ATTR_NODEV;
  if ((info.f_flag & ST_NOEXEC) != 0) attributes |= MOUNT_ATTR_NOEXEC;
  if ((info.f_flag & ST_NODIRATIME) != 0) attributes |= MOUNT_ATTR_NODIRATIME;
  if ((info.f_flag & 8192) != 0) attributes |= MOUNT_ATTR_NOSYMFOLLOW;  // ST_NOSYMFOLLOW
  if ((info.f_flag & ST_NOATIME) != 0) {
    attributes |= MOUNT_ATTR_NOATIME;
  } else if ((info.f_flag & ST_RELATIME) == 0) {
    attributes |= MOUNT_ATTR_STRICTATIME;
  }
  return attributes;
}

Result<uint64_t> filesystem_magic(int fd) {
  struct statfs info;
  if (fstatfs(fd, &info) != 0) return errno_error("cannot tell the type of a file system");
  return static_cast<uint64_t>(info.f_type);
}

}  // namespace caisson::host
