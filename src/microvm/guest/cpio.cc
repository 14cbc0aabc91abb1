#include "microvm/guest/cpio.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <iterator>

namespace caisson::microvm {

void Cpio::add(std::string_view name, mode_t mode, std::string_view bytes, unsigned major, unsigned minor) {
  // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
  fmt::format_to(std::back_inserter(archive_), "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
                 ++inode_, mode, 0, 0, S_ISDIR(mode) ? 2 : 1, 0, bytes.size(), 0, 0, major, minor, name.size() + 1, 0);
  archive_ += name;
  archive_ += '\0';
  archive_.resize((archive_.size() + 3) & ~size_t{3});
  archive_ += bytes;
  archive_.resize((archive_.size() + 3) & ~size_t{3});
}

void Cpio::add_folder(std::string_view name, mode_t mode) { add(name, S_IFDIR | mode, {}, 0, 0); }
void Cpio::add_file(std::string_view name, std::string_view bytes, mode_t mode) { add(name, S_IFREG | mode, bytes, 0, 0); }
void Cpio::add_character_device(std::string_view name, unsigned major, unsigned minor, mode_t mode) {
  add(name, S_IFCHR | mode, {}, major, minor);
}

std::string Cpio::finish() && {
  add("TRAILER!!!", 0, {}, 0, 0);
  return std::move(archive_);
}

}  // namespace caisson::microvm
