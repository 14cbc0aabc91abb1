#include "kernel/vfs/mount_tree.h"

#include <poll.h>
#include <sys/mount.h>

#include <algorithm>
#include <list>
#include <set>

namespace caisson::kernel {
namespace {

constexpr unsigned long kLockable = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

std::shared_ptr<Mount> twin(const Mount& from, DentryRef root) {
  auto made = std::make_shared<Mount>();
  made->id = next_mount_id();
  made->fs = from.fs;
  made->count();
  made->root = std::move(root);
  made->flags = from.flags.load();
  made->locked_flags = from.locked_flags;
  made->source = from.source;
  made->options = from.options;
  return made;
}

}  // namespace

size_t g_mount_count = 0;

std::mutex& mount_lock() {
  static std::mutex lock;
  return lock;
}

size_t MountTree::count() { return g_mount_count; }

uint64_t next_mount_id() {
  static std::atomic<uint64_t> next{20};
  return next++;
}

namespace {

// Once; what is taken out mostly came late.
template <typename T>
void take_out(std::vector<T>& from, const T& value) {
  const auto found = std::find(from.rbegin(), from.rend(), value);
  if (found != from.rend()) from.erase(std::next(found).base());
}

}  // namespace

// ---- Copies

MountTree MountTree::copy(Mount& top, const DentryRef& root, bool recursive, const Options& options, Twins* twins) {
  MountTree original;
  std::vector<Path> points;
  original.mounts.push_back(top.shared_from_this());
  for (size_t i = 0; recursive && i < original.mounts.size(); ++i) {
    for (Mount* child : original.mounts[i]->children_) {
      if (i == 0 && !is_below(child->point_.dentry, root)) continue;
      if (options.skip_unbindable && child->unbindable_) continue;
      if (options.skip_mount_namespaces && child->fs->names_say_all() && child->root->name().starts_with("mnt:")) continue;
      original.mounts.push_back(child->shared_from_this());
    }
  }
  MountTree copied = original.copy(options, twins);
  copied.mounts[0]->root = root;
  return copied;
}

MountTree MountTree::copy(const Options& options, Twins* wanted) const {
  MountTree made;
  Twins twins;
  for (const MountRef& from : mounts) {
    const MountRef to = twin(*from, from->root);
    const bool slave = options.as == As::SharedSlave || (options.as == As::Slave && from->peers_);
    if (slave) {
      PeerGroup::follow(*to, from->peers_);
      if (options.as == As::SharedSlave) share(*to);
    } else {
      if (from->peers_ && options.as == As::Copy) PeerGroup::join(*to, from->peers_);
      if (from->master_) PeerGroup::follow(*to, from->master_);
      to->unbindable_ = from->unbindable_;
    }
    to->locked_ = from->locked_;
    if (options.locked) to->locked_flags |= to->flags & kLockable;
    if (!made.mounts.empty()) {
      to->point_ = {twins[from->point_.mount.get()], from->point_.dentry};
      to->locked_ |= options.locked;
    } else {
      to->locked_ = false;
    }
    twins[from.get()] = to;
    made.mounts.push_back(to);
  }
  if (wanted != nullptr) *wanted = std::move(twins);
  return made;
}

MountTree MountTree::of(Mount& top) {
  MountTree tree;
  tree.mounts.push_back(top.shared_from_this());
  for (size_t i = 0; i < tree.mounts.size(); ++i)
    for (Mount* child : tree.mounts[i]->children_) tree.mounts.push_back(child->shared_from_this());
  return tree;
}

// ---- Who waits for changes

namespace {
// By the number of the table's namespace: those that somebody waits for. Under mount_lock().
std::map<uint64_t, std::weak_ptr<MountChanges>>& waited_for() {
  static auto& all = *new std::map<uint64_t, std::weak_ptr<MountChanges>>;
  return all;
}
}  // namespace

std::shared_ptr<MountChanges> mount_changes_of(const MountTable& table) {
  std::lock_guard guard(mount_lock());
  std::erase_if(waited_for(), [](const auto& each) { return each.second.expired(); });
  std::weak_ptr<MountChanges>& known = waited_for()[table.number];
  std::shared_ptr<MountChanges> changes = known.lock();
  if (!changes) known = changes = std::make_shared<MountChanges>();
  return changes;
}

void MountTree::tell_of_change(const Mount& mount) {
  if (mount.table_ == nullptr || waited_for().empty()) return;
  const auto found = waited_for().find(mount.table_->number);
  const auto changes = found != waited_for().end() ? found->second.lock() : nullptr;
  if (!changes) return;
  ++changes->count;
  changes->queue.wake(POLLIN | POLLRDNORM | POLLPRI | POLLERR);
}

// ---- Places

void MountTree::put(Mount& mount, Path point) {
  if (point.dentry) {
    ++point.dentry->mounted;
    point.mount->children_.push_back(&mount);
  }
  mount.point_ = std::move(point);
  tell_of_change(mount);
}

void MountTree::take_off(Mount& mount, std::vector<Path>& gone) {
  if (mount.point_.dentry) {
    --mount.point_.dentry->mounted;
    take_out(mount.point_.mount->children_, &mount);
  }
  gone.push_back(std::exchange(mount.point_, {}));
}

void MountTree::link(Mount& mount, MountTable& table, Path point) {
  mount.table_ = &table;
  table.mounts_.push_back(mount.shared_from_this());
  ++g_mount_count;
  put(mount, std::move(point));
}

void MountTree::unlink(Mount& mount, std::vector<Path>& gone) {
  const MountRef self = mount.shared_from_this();
  gone.push_back({self, nullptr});
  take_off(mount, gone);
  PeerGroup::leave(mount);
  PeerGroup::unfollow(mount);
  if (mount.table_ == nullptr) return;
  take_out(mount.table_->mounts_, self);
  --g_mount_count;
  tell_of_change(mount);
  mount.table_ = nullptr;
}

// ---- Spreading

std::vector<Mount*> MountTree::receivers(const Mount& mount) {
  std::vector<Mount*> found;
  std::vector<PeerGroup*> groups;
  std::set<PeerGroup*> seen;
  const auto enter = [&](PeerGroup* group) {
    if (group != nullptr && seen.insert(group).second) groups.push_back(group);
  };
  enter(mount.peers_.get());
  for (size_t i = 0; i < groups.size(); ++i) {
    for (Mount* member : groups[i]->members)
      if (member != &mount) found.push_back(member);
    for (Mount* slave : groups[i]->slaves) {
      if (slave->peers_)
        enter(slave->peers_.get());
      else
        found.push_back(slave);
    }
  }
  return found;
}

Result<std::vector<MountTree::Spread>> MountTree::spread(const Path& target) const {
  std::vector<Spread> result;
  const std::vector<Mount*> all = receivers(*target.mount);
  if (g_mount_count + (all.size() + 1) * mounts.size() > MountTable::kMostOfAll) return Errno(ENOSPC);
  std::map<const MountTable*, size_t> more = {{target.mount->table_, mounts.size()}};
  for (const Mount* each : all)
    if (each->table_ != nullptr && is_below(target.dentry, each->root)) more[each->table_] += mounts.size();
  for (const auto& [table, added] : more)
    if (table != nullptr && table->mounts_.size() + added > MountTable::kMostMounts) return Errno(ENOSPC);
  struct Step {
    PeerGroup* group;
    MountTree source;
    As first;
  };
  std::list<Step> steps;
  std::set<PeerGroup*> seen;
  if (target.mount->peers_) {
    seen.insert(target.mount->peers_.get());
    steps.push_back({target.mount->peers_.get(), *this, As::Copy});
  }
  const auto take = [&](Mount& where, const MountTree& from, As as) {
    Options options;
    options.as = as;
    options.locked = where.table_ != nullptr && target.mount->table_ != nullptr && where.table_->owner != target.mount->table_->owner;
    result.push_back({from.copy(options), &where});
  };
  for (Step& step : steps) {
    MountTree source = step.source;
    As as = step.first;
    // Copies join these groups while they are made; they are nowhere yet, and hear of nothing.
    const std::vector<Mount*> members = step.group->members, slaves = step.group->slaves;
    for (Mount* member : members) {
      if (member == target.mount.get() || member->table_ == nullptr || !is_below(target.dentry, member->root)) continue;
      take(*member, source, as);
      if (as != As::Copy) source = result.back().tree;
      as = As::Copy;
    }
    for (Mount* slave : slaves) {
      if (slave->peers_) {
        if (seen.insert(slave->peers_.get()).second) steps.push_back({slave->peers_.get(), source, As::SharedSlave});
      } else if (slave->table_ != nullptr && is_below(target.dentry, slave->root)) {
        take(*slave, source, As::Slave);
      }
    }
  }
  return result;
}

Result<void> MountTree::attach(MountTable& table, const Path& target) {
  if (table.mounts_.size() + mounts.size() > MountTable::kMostMounts) return Errno(ENOSPC);
  if (target.mount->peers_)
    for (const MountRef& each : mounts) share(*each);
  std::vector<Spread> copies = TRY(spread(target));
  link(*mounts[0], table, target);
  for (size_t i = 1; i < mounts.size(); ++i) link(*mounts[i], table, mounts[i]->point_);
  for (const Spread& copy : copies) {
    link(*copy.tree.mounts[0], *copy.where->table_, {copy.where->shared_from_this(), target.dentry});
    for (size_t i = 1; i < copy.tree.mounts.size(); ++i) link(*copy.tree.mounts[i], *copy.where->table_, copy.tree.mounts[i]->point_);
  }
  return {};
}

Result<void> MountTree::move(MountTable& table, const Path& target) {
  if (target.mount->peers_)
    for (const MountRef& each : mounts) share(*each);
  std::vector<Spread> copies = TRY(spread(target));
  std::vector<Path> gone;  // the caller keeps the old parents alive: they are in its table
  take_off(*mounts[0], gone);
  put(*mounts[0], target);
  // Later mounts are listed later.
  const auto found = std::find(table.mounts_.begin(), table.mounts_.end(), mounts[0]);
  if (found != table.mounts_.end()) std::rotate(found, found + 1, table.mounts_.end());
  for (const Spread& copy : copies) {
    link(*copy.tree.mounts[0], *copy.where->table_, {copy.where->shared_from_this(), target.dentry});
    for (size_t i = 1; i < copy.tree.mounts.size(); ++i) link(*copy.tree.mounts[i], *copy.where->table_, copy.tree.mounts[i]->point_);
  }
  return {};
}

std::vector<Mount*> MountTree::to_remove(Mount& top, bool recursively) {
  std::vector<Mount*> doomed;
  std::set<Mount*> known;
  const auto add = [&](Mount* mount) {
    if (known.insert(mount).second) doomed.push_back(mount);
  };
  add(&top);
  for (size_t i = 0; i < doomed.size(); ++i) {
    Mount* const mount = doomed[i];
    if (recursively)
      for (Mount* child : mount->children_) add(child);
    if (!mount->point_.mount) continue;
    for (Mount* receiver : receivers(*mount->point_.mount)) {
      const auto child = std::find_if(receiver->children_.rbegin(), receiver->children_.rend(),
                                      [&](const Mount* each) { return each->point_.dentry == mount->point_.dentry; });
      if (child == receiver->children_.rend() || (*child)->fs != mount->fs || (*child)->root != mount->root) continue;
      if (!recursively && !(*child)->children_.empty()) continue;
      if ((*child)->locked_ && !known.contains(receiver)) continue;
      add(*child);
    }
  }
  return doomed;
}

// ---- Groups

PeerGroup::PeerGroup()
    : id([] {
        static std::atomic<uint64_t> next{1};
        return next++;
      }()) {}

void PeerGroup::join(Mount& mount, std::shared_ptr<PeerGroup> group) {
  group->members.push_back(&mount);
  mount.peers_ = std::move(group);
}

void PeerGroup::follow(Mount& mount, std::shared_ptr<PeerGroup> master) {
  if (mount.master_) unfollow(mount);
  master->slaves.push_back(&mount);
  mount.master_ = std::move(master);
}

void PeerGroup::unfollow(Mount& mount) {
  if (!mount.master_) return;
  take_out(mount.master_->slaves, &mount);
  mount.master_.reset();
}

void PeerGroup::leave(Mount& mount) {
  const std::shared_ptr<PeerGroup> group = std::exchange(mount.peers_, nullptr);
  if (!group) return;
  take_out(group->members, &mount);
  if (!group->members.empty()) return;
  // The last one: those who followed it follow its master.
  for (Mount* slave : std::vector<Mount*>(group->slaves)) {
    unfollow(*slave);
    if (mount.master_) follow(*slave, mount.master_);
  }
}

void MountTree::share(Mount& mount) {
  if (!mount.peers_) PeerGroup::join(mount, std::make_shared<PeerGroup>());
  mount.unbindable_ = false;
}

void MountTree::set_type(Mount& mount, unsigned long type) {
  if (type == MS_SHARED) return share(mount);
  const std::shared_ptr<PeerGroup> old = mount.peers_;
  const bool has_others = old && old->members.size() > 1;
  PeerGroup::leave(mount);
  if (type == MS_SLAVE) {
    if (has_others) PeerGroup::follow(mount, old);
    return;
  }
  PeerGroup::unfollow(mount);
  mount.unbindable_ = type == MS_UNBINDABLE;
}

}  // namespace caisson::kernel
