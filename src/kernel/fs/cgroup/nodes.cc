#include "kernel/fs/cgroup/nodes.h"

#include <sys/inotify.h>

#include <algorithm>
#include <string_view>

#include "kernel/fs/cgroup/cgroup_fs.h"
#include "kernel/fs/cgroup/inodes.h"
#include "kernel/task/task.h"
#include "kernel/vfs/notify.h"

namespace caisson::kernel {
namespace {

uint64_t next_number() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

constexpr const char* kFileOf[] = {"cgroup.events", "pids.events"};
static_assert(std::size(kFileOf) == CgroupNodes::kChanges);

size_t row_of(std::string_view name) {
  const auto found = std::ranges::find(kCgroupFiles, name, &CgroupFileRow::name);
  return static_cast<size_t>(found - kCgroupFiles.begin());
}

}  // namespace

CgroupNodes::CgroupNodes(uid_t uid, gid_t gid, mode_t folder_mode)
    : number(next_number()), made_(NodeStat::make(number << 8, S_IFDIR | folder_mode, uid, gid)) {}

void CgroupNodes::tell(Change change) {
  ++versions_[change];
  changes.wake(POLLPRI | POLLERR);
  if (!anybody_watches()) return;
  InodeRef file, folder;
  {
    std::lock_guard guard(lock_);
    const auto find = [&](size_t which) {
      const auto found = inodes_.find(which);
      return found != inodes_.end() ? found->second.lock() : nullptr;
    };
    file = find(row_of(kFileOf[change]));
    folder = find(kFolder);
  }
  if (file) notify_watchers(*file, IN_MODIFY, {}, 0);
  if (folder) notify_watchers(*folder, IN_MODIFY, kFileOf[change], 0);
}

void CgroupNodes::end_watches() {
  std::vector<InodeRef> ended;
  {
    std::lock_guard guard(lock_);
    for (const auto& [which, inode] : inodes_)
      if (InodeRef used = inode.lock()) ended.push_back(std::move(used));
  }
  if (anybody_watches())
    for (const InodeRef& inode : ended) notify_gone(*inode);
}

bool CgroupNodes::may_write_procs(const Credentials& creds) const {
  static const size_t row = row_of("cgroup.procs");
  const NodeStat node = attributes(row);
  const unsigned granted = creds.fsuid == node.uid ? node.mode >> 6 : creds.in_group(node.gid) ? node.mode >> 3 : node.mode;
  return (granted & W_OK) != 0 || creds.has_over(kCapDacOverride, node.uid, node.gid);
}

InodeRef CgroupNodes::folder(const std::shared_ptr<CgroupFileSystem>& fs, const CgroupRef& group) {
  std::lock_guard guard(lock_);
  std::weak_ptr<Inode>& known = inodes_[kFolder];
  InodeRef inode = known.lock();
  if (!inode) known = inode = std::make_shared<CgroupFolder>(fs, group);
  return inode;
}

InodeRef CgroupNodes::file(const std::shared_ptr<CgroupFileSystem>& fs, const CgroupRef& group, size_t row) {
  std::lock_guard guard(lock_);
  std::weak_ptr<Inode>& known = inodes_[row];
  InodeRef inode = known.lock();
  if (!inode) known = inode = std::make_shared<CgroupFile>(fs, group, row);
  return inode;
}

NodeStat CgroupNodes::attributes_locked(size_t which) const {
  const auto changed = changed_.find(which);
  NodeStat node = changed != changed_.end() ? changed->second : made_;
  if (which == kFolder) {
    node.links = 2 + folders;
  } else if (changed == changed_.end()) {
    node.mode = S_IFREG | kCgroupFiles[which].mode;
    node.inode += which + 1;
  }
  return node;
}

NodeStat CgroupNodes::attributes(size_t which) const {
  std::lock_guard guard(lock_);
  return attributes_locked(which);
}

Result<void> CgroupNodes::set_attributes(Task& task, size_t which, const Attributes& attributes) {
  Attributes allowed = attributes;
  allowed.mask &= ~static_cast<uint32_t>(STATX_SIZE);  // O_TRUNC is taken and does nothing
  if (allowed.mask == 0) return {};
  std::lock_guard guard(lock_);
  NodeStat node = attributes_locked(which);
  TRY(may_change(task, node, allowed));
  change(node, allowed);
  changed_.insert_or_assign(which, node);
  return {};
}

}  // namespace caisson::kernel
