#include "sandbox/program.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

namespace caisson::sandbox {
namespace {

constexpr const char* kSelf = "/proc/self/exe";

Result<UniqueFd> read_only_clone() {
  UniqueFd mount(open_tree(AT_FDCWD, kSelf, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!mount) {
    const int error = errno;
    // EINVAL: a mount of no namespace (open_tree(2)), as this process has one if it was executed from a clone that has been closed since.
    // Nobody can make such a mount writable again, so its file will do: a copy of the program would take longer than all the rest of a
    // container's start.
    UniqueFd own(open(kSelf, O_RDONLY | O_CLOEXEC));
    struct statvfs info {};
    if (error == EINVAL && own && fstatvfs(own.get(), &info) == 0 && (info.f_flag & ST_RDONLY) != 0) return own;
    errno = error;
    return errno_error("cannot clone the mount of {}", kSelf);
  }
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    return errno_error("cannot make the mount of {} read-only", kSelf);
  return mount;
}

}  // namespace

Result<UniqueFd> copy_own_program() {
  UniqueFd from(open(kSelf, O_RDONLY | O_CLOEXEC));
  if (!from) return errno_error("cannot open {}", kSelf);
  struct stat info {};
  if (fstat(from.get(), &info) != 0) return errno_error("cannot stat {}", kSelf);
  // MFD_EXEC is refused by kernels before 6.3, which need no flag.
  UniqueFd copy(memfd_create("caisson", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
  if (!copy) copy.reset(memfd_create("caisson", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!copy) return errno_error("cannot make a file in memory for a copy of this program");
  for (off_t offset = 0; offset < info.st_size;) {
    const ssize_t count = sendfile(copy.get(), from.get(), &offset, static_cast<size_t>(info.st_size - offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_error("cannot copy {}", kSelf);
    if (count == 0) return make_error(EIO, "cannot copy {}: it is shorter than it says", kSelf);
  }
  if (fcntl(copy.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    return errno_error("cannot seal the copy of {}", kSelf);
  return copy;
}

std::string own_program_folder() {
  if (const char* told = getenv(kProgramFolderVariable)) return told;
  char name[PATH_MAX];
  const ssize_t length = readlink(kSelf, name, sizeof name);
  if (length <= 0 || length == sizeof name) return "";
  const std::string program(name, static_cast<size_t>(length));
  // Elsewhere than in a folder: a copy in memory, a mount of no namespace.
  return access(program.c_str(), X_OK) == 0 ? program.substr(0, program.rfind('/')) : "";
}

Result<UniqueFd> open_own_program() {
  auto clone = read_only_clone();
  if (clone) return clone;
  log::debug("{}; a copy in memory is taken", clone.error().message());
  return copy_own_program();
}

}  // namespace caisson::sandbox
