#include "kernel/fs/host/device_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <charconv>

#include "base/unique_fd.h"
#include "kernel/fs/host/identity.h"

namespace caisson::kernel {

std::optional<DeviceNumber> parse_device(std::string_view text) {
  if (text.size() < 5 || (text[0] != 'c' && text[0] != 'b') || text[1] != ' ') return std::nullopt;
  unsigned numbers[2] = {};
  const char *at = text.data() + 2, *const end = text.data() + text.size();
  const auto first = std::from_chars(at, end, numbers[0]);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != ':') return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, numbers[1]);
  if (second.ec != std::errc() || second.ptr != end) return std::nullopt;
  return DeviceNumber{text[0] == 'c' ? mode_t{S_IFCHR} : mode_t{S_IFBLK}, makedev(numbers[0], numbers[1])};
}

std::optional<DeviceNumber> device_of_file(const char* name) {
  act_as_kernel();
  char text[32];
  const ssize_t size = getxattr(name, kDeviceAttribute, text, sizeof text);
  return size > 0 ? parse_device({text, static_cast<size_t>(size)}) : std::nullopt;
}

Result<void> make_device_file(int folder, const char* name, mode_t mode, dev_t device) {
  char text[32];
  const int size = snprintf(text, sizeof text, "%c %u:%u", S_ISCHR(mode) ? 'c' : 'b', major(device), minor(device));
  // Its owner may write it until it is what it is to be: attributes of users take that.
  const UniqueFd fd(openat(folder, name, O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return host_errno();
  Result<long> done = host_result(setxattr(FdName(fd.get()).text, kDeviceAttribute, text, static_cast<size_t>(size), XATTR_CREATE));
  if (done) done = host_result(fchmodat(proc_folder(), FdName(fd.get()).text, (mode & 07777) | kDeviceMark, 0));
  if (done) return {};
  unlinkat(folder, name, 0);
  return done.error() == Errno(EOPNOTSUPP) ? Errno(EPERM) : done.error();
}

void show_device(struct statx& stat, const DeviceNumber& device) {
  stat.stx_mode = static_cast<uint16_t>(device.type | (stat.stx_mode & 07777 & ~kDeviceMark));
  stat.stx_rdev_major = major(device.number);
  stat.stx_rdev_minor = minor(device.number);
}

}  // namespace caisson::kernel
