// Device nodes that guests make in folders of the host. The kernel process may make none there, and should not: who has taken it could put
// the node's disks into a volume. An empty file stands for each, and an extended attribute says which device it is, as tools without
// privileges do it; guests do not see the attribute. What opening it gives is the kernel's own device (fs/dev), so that nothing is won by
// who forges one.
//
// So that no other file's attributes have to be asked for, such a file is also sticky, which no file on Linux is for a reason.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <optional>
#include <string_view>

#include "kernel/errno.h"

namespace caisson::kernel {

inline constexpr const char* kDeviceAttribute = "user.caisson.device";  // "c 1:3"
inline constexpr mode_t kDeviceMark = S_ISVTX;

struct DeviceNumber {
  mode_t type = S_IFCHR;  // or S_IFBLK
  dev_t number = 0;
};
// Its attribute is worth a look.
inline bool may_stand_for_device(const struct stat& stat) {
  return (stat.st_mode & (S_IFMT | kDeviceMark)) == (S_IFREG | kDeviceMark) && stat.st_size == 0;
}
// What the attribute says; nothing where there is none, or no such text. The host's permissions are the kernel process's for this.
std::optional<DeviceNumber> device_of_file(const char* name);
std::optional<DeviceNumber> parse_device(std::string_view text);
// As the identity that the thread has taken on. EPERM: the file system has no such attributes.
Result<void> make_device_file(int folder, const char* name, mode_t mode, dev_t device);
// What stat(2) says of the node.
void show_device(struct statx& stat, const DeviceNumber& device);

}  // namespace caisson::kernel
