#include "kernel/vfs/anonymous.h"

#include <unistd.h>

namespace caisson::kernel {

uint64_t next_anonymous_inode() {
  static std::atomic<uint64_t> last{1000};
  return ++last;
}

struct statx anonymous_stat(mode_t type_and_mode, uint64_t inode) {
  struct statx stat {};
  stat.stx_mask = STATX_BASIC_STATS;
  stat.stx_blksize = 4096;
  stat.stx_nlink = 1;
  stat.stx_mode = static_cast<uint16_t>(type_and_mode);
  stat.stx_ino = inode;
  stat.stx_dev_minor = S_ISSOCK(type_and_mode) ? 8 : S_ISFIFO(type_and_mode) ? 12 : 13;
  return stat;
}

Result<struct statx> AnonymousFile::stat() { return anonymous_stat(mode_, inode_); }

std::string AnonymousFile::description() const {
  if (S_ISFIFO(mode_) || S_ISSOCK(mode_)) return std::string(kind_) + ":[" + std::to_string(inode_) + "]";
  return std::string("anon_inode:[") + kind_ + "]";
}

}  // namespace caisson::kernel
