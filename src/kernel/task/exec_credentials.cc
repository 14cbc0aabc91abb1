#include "kernel/task/exec_credentials.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kernel/task/kernel.h"
#include "kernel/trace/trace.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {
namespace {

// Whether this user, or one whose namespace it lives in, is who the capabilities are meant for.
bool meant_for(const UserNamespace& user, uid_t root) {
  for (const UserNamespace* at = &user; at != nullptr; at = at->owner.get())
    if (at->to_kernel(UserNamespace::Ids::Users, 0) == root) return true;
  return false;
}

Result<std::optional<FileCapabilities>> capabilities_of(Task& task, File& file) {
  const InodeRef inode = file.path().dentry ? file.path().inode() : nullptr;
  if (!inode) return std::optional<FileCapabilities>();
  Result<std::string> value = inode->get_xattr(task, "security.capability");
  if (!value) return std::optional<FileCapabilities>();
  const std::optional<FileCapabilities> capabilities = parse_file_capabilities(*value);
  if (!capabilities) return Errno(EINVAL);
  if (!meant_for(*task.creds->user, capabilities->root)) return std::optional<FileCapabilities>();
  return capabilities;
}

// set-user-ID, set-group-ID.
void change_ids(Credentials& creds, const struct statx& stat) {
  // Where its owner or group means nothing to the task's user namespace, neither do the bits.
  if (!creds.user->from_kernel(UserNamespace::Ids::Users, stat.stx_uid) ||
      !creds.user->from_kernel(UserNamespace::Ids::Groups, stat.stx_gid))
    return;
  if ((stat.stx_mode & S_ISUID) != 0) creds.euid = stat.stx_uid;
  if ((stat.stx_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) creds.egid = stat.stx_gid;
}

}  // namespace

std::optional<FileCapabilities> parse_file_capabilities(std::string_view value) {
  struct vfs_ns_cap_data data {};
  if (value.size() < sizeof data.magic_etc || value.size() > sizeof data) return std::nullopt;
  memcpy(&data, value.data(), value.size());
  const uint32_t revision = data.magic_etc & VFS_CAP_REVISION_MASK;
  const size_t size = revision == VFS_CAP_REVISION_1   ? XATTR_CAPS_SZ_1
                      : revision == VFS_CAP_REVISION_2 ? XATTR_CAPS_SZ_2
                      : revision == VFS_CAP_REVISION_3 ? XATTR_CAPS_SZ_3
                                                       : 0;
  if (value.size() != size) return std::nullopt;
  FileCapabilities found;
  found.effective = (data.magic_etc & VFS_CAP_FLAGS_EFFECTIVE) != 0;
  found.permitted = data.data[0].permitted;
  found.inheritable = data.data[0].inheritable;
  if (revision != VFS_CAP_REVISION_1) {
    found.permitted |= static_cast<uint64_t>(data.data[1].permitted) << 32;
    found.inheritable |= static_cast<uint64_t>(data.data[1].inheritable) << 32;
  }
  found.permitted &= kAllCapabilities;
  found.inheritable &= kAllCapabilities;
  if (revision == VFS_CAP_REVISION_3) found.root = data.rootid;
  return found;
}

Result<ExecCredentials> exec_credentials(Task& task, File& file) {
  const Credentials& old = *task.creds;
  auto creds = std::make_shared<Credentials>(old);
  const struct statx stat = TRY(file.stat());
  bool traced;
  {
    std::lock_guard guard(task.kernel.tasks);
    traced = traced_by_weaker_locked(task);
  }
  const bool may_gain = file.path().mount == nullptr || (file.path().mount->flags & MS_NOSUID) == 0;
  if (may_gain && !traced && !old.no_new_privileges) change_ids(*creds, stat);
  const bool changed_ids = creds->euid != creds->uid || creds->egid != creds->gid;
  creds->suid = creds->fsuid = creds->euid;
  creds->sgid = creds->fsgid = creds->egid;

  std::optional<FileCapabilities> of_file;
  if (may_gain) of_file = TRY(capabilities_of(task, file));
  uint64_t permitted = 0;
  bool effective = false;
  if (of_file) {
    permitted = (of_file->permitted & old.bounding) | (of_file->inheritable & old.inheritable);
    effective = of_file->effective;
    // A program that was not written for capabilities would not notice what it lacks.
    if (effective && (of_file->permitted & ~permitted) != 0) return Errno(EPERM);
  }
  const std::optional<uid_t> root = creds->root();
  const bool root_is_special = (creds->secure_bits & SECBIT_NOROOT) == 0;
  // A file that makes others root, and has capabilities of its own, gives them those alone.
  if (root_is_special && !(of_file && creds->euid == root && creds->uid != root)) {
    if (creds->euid == root || creds->uid == root) permitted = old.bounding | old.inheritable;
    if (creds->euid == root) effective = true;
  }
  // No more comes than there was.
  if (traced || old.no_new_privileges) permitted &= old.permitted;
  if (changed_ids || of_file) creds->ambient = 0;
  creds->secure_bits &= ~SECBIT_KEEP_CAPS;
  creds->permitted = permitted | creds->ambient;
  creds->effective = effective ? creds->permitted : creds->ambient;
  const bool grew = (creds->permitted & ~creds->ambient) != 0;
  return ExecCredentials{.creds = std::move(creds), .secure = changed_ids || (old.uid != root && (effective || grew))};
}

}  // namespace caisson::kernel
