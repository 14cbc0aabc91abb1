#include "kernel/control/cover.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kernel/fs/registry.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

Result<Path> find(Task& setup, const std::string& path) { return walk(setup, AT_FDCWD, path); }

Result<void> bind(Task& setup, const Path& source, const Path& point, unsigned long flags) {
  (void)TRY(setup.spaces->mounts->add(source.mount->fs, source.dentry, point, source.mount->flags | flags, source.mount->source,
                                      source.mount->options));
  return {};
}

}  // namespace

Result<void> mask_path(Task& setup, const std::string& path) {
  const Result<Path> place = find(setup, path);
  if (!place) return place.error() == Errno(ENOENT) ? Result<void>() : place.error();
  if (!S_ISDIR(place->inode()->type())) return bind(setup, TRY(find(setup, "/dev/null")), *place, 0);
  (void)TRY(mount_file_system(setup, *place, "tmpfs", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0,mode=755"));
  return {};
}

Result<void> make_path_readonly(Task& setup, const std::string& path) {
  const Result<Path> place = find(setup, path);
  if (!place) return place.error() == Errno(ENOENT) ? Result<void>() : place.error();
  return bind(setup, *place, *place, MS_RDONLY);
}

}  // namespace caisson::kernel
