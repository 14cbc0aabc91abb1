#include "container/mount_plan.h"

#include <sys/mount.h>

#include "oci/mount_options.h"

namespace caisson::container {
namespace {

// mount(2)'s flag for one mount, and mount_setattr(2)'s.
constexpr struct {
  unsigned long ms;
  uint64_t attribute;
} kAttributes[] = {
    {MS_RDONLY, MOUNT_ATTR_RDONLY}, {MS_NOSUID, MOUNT_ATTR_NOSUID},         {MS_NODEV, MOUNT_ATTR_NODEV},
    {MS_NOEXEC, MOUNT_ATTR_NOEXEC}, {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
};
// Flags of the file system, not of the mount: fsconfig(2) takes them by name.
constexpr struct {
  unsigned long ms;
  const char* name;
} kSuperblockFlags[] = {
    {MS_SYNCHRONOUS, "sync"},
    {MS_DIRSYNC, "dirsync"},
    {MS_LAZYTIME, "lazytime"},
    {MS_I_VERSION, "iversion"},
};
constexpr unsigned long kAccessTimes = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;

void add_attributes(MountPlan& plan, unsigned long set, unsigned long clear) {
  for (const auto& row : kAttributes) {
    if ((set & row.ms) != 0) plan.set |= row.attribute;
    if ((clear & row.ms) != 0) plan.clear |= row.attribute;
  }
  // mount_setattr(2): the access time mode is one value; to change it all of its bits are cleared. 0 is relatime.
  if (((set | clear) & kAccessTimes) != 0) plan.clear |= MOUNT_ATTR__ATIME;
  if ((set & MS_NOATIME) != 0) {
    plan.set |= MOUNT_ATTR_NOATIME;
  } else if ((set & MS_STRICTATIME) != 0) {
    plan.set |= MOUNT_ATTR_STRICTATIME;
  }
}

}  // namespace

MountPlan plan_mount(const oci::Mount& mount) {
  MountPlan plan;
  unsigned long set = 0, clear = 0;
  for (const std::string& name : mount.options) {
    const oci::MountOption* option = oci::find_mount_option(name);
    if (option == nullptr) {
      if (!name.empty()) plan.parameters.push_back(name);
      continue;
    }
    switch (option->kind) {
      case oci::MountOptionKind::Flag:
        set = (set & ~option->clear) | option->set;
        clear = (clear & ~option->set) | option->clear;
        break;
      case oci::MountOptionKind::Recursive:
        plan.recursive_set = (plan.recursive_set & ~option->clear) | option->set;
        plan.recursive_clear = (plan.recursive_clear & ~(option->set & ~MOUNT_ATTR__ATIME)) | option->clear;
        break;
      case oci::MountOptionKind::Propagation:
        plan.propagation = option->set & ~static_cast<uint64_t>(MS_REC);
        plan.propagation_recursive = (option->set & MS_REC) != 0;
        break;
      case oci::MountOptionKind::TmpCopyUp:
        plan.tmpcopyup = true;
        break;
      case oci::MountOptionKind::IdMap:
        plan.idmap = true;
        break;
      case oci::MountOptionKind::RIdMap:
        plan.idmap = plan.idmap_recursive = true;
        break;
    }
  }
  plan.bind = mount.type == "bind" || mount.type == "rbind" || (set & MS_BIND) != 0;
  plan.recursive = mount.type == "rbind" || (set & MS_REC) != 0;
  plan.remount = (set & MS_REMOUNT) != 0;
  plan.idmap = plan.idmap || !mount.uid_mappings.empty() || !mount.gid_mappings.empty();
  plan.ms_flags = set & ~static_cast<unsigned long>(MS_REC);
  add_attributes(plan, set, clear);
  for (const auto& row : kSuperblockFlags)
    if ((set & row.ms) != 0) plan.parameters.push_back(row.name);
  return plan;
}

}  // namespace caisson::container
