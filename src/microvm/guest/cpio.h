// A cpio archive of the kind that Linux unpacks as its first root file system ("newc",
// Documentation/driver-api/early-userspace/buffer-format.rst).
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

namespace caisson::microvm {

class Cpio {
 public:
  // Names are relative ("etc/caisson"); folders before what is in them. Everything belongs to root.
  void add_folder(std::string_view name, mode_t mode = 0755);
  void add_file(std::string_view name, std::string_view bytes, mode_t mode = 0644);
  void add_character_device(std::string_view name, unsigned major, unsigned minor, mode_t mode = 0600);
  // Adds the trailer; the archive is complete then.
  std::string finish() &&;

 private:
  void add(std::string_view name, mode_t mode, std::string_view bytes, unsigned major, unsigned minor);

  std::string archive_;
  unsigned inode_ = 0;
};

}  // namespace caisson::microvm
