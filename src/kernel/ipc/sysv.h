// System V IPC: what shared memory, semaphores and message queues have in common: keys, numbers, permissions.
//
// Locks: each table has one, of the level of inodes; objects are guarded by their table's. Nothing is copied to or from guest memory with
// it.
#pragma once

#include <sys/ipc.h>

#include <map>
#include <memory>
#include <mutex>

#include "kernel/fs/common/text.h"
#include "kernel/ipc/limits.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

// struct ipc64_perm of x86-64.
struct IpcPermissions {
  int32_t key = 0;
  uint32_t uid = 0, gid = 0, creator_uid = 0, creator_gid = 0;
  uint32_t mode = 0;
  uint16_t sequence = 0, pad = 0;
  uint64_t unused[2] = {};
};
static_assert(sizeof(IpcPermissions) == 48);

inline constexpr int kCapIpcOwner = 15;

// May the task do it? wanted: 4 to read, 2 to write. EACCES.
inline Result<void> ipc_access(Task& task, const IpcPermissions& object, unsigned wanted) {
  const Credentials& creds = *task.creds;
  unsigned granted = object.mode;
  if (creds.euid == object.uid || creds.euid == object.creator_uid)
    granted >>= 6;
  else if (creds.egid == object.gid || creds.egid == object.creator_gid || creds.in_group(object.gid))
    granted >>= 3;
  if ((wanted & ~granted & 6) == 0 || creds.has_in(*task.spaces->ipc->owner, kCapIpcOwner)) return {};
  return Errno(EACCES);
}
// IPC_SET and IPC_RMID are the owner's and the creator's. EPERM.
inline Result<void> ipc_owns(Task& task, const IpcPermissions& object) {
  const Credentials& creds = *task.creds;
  if (creds.euid == object.uid || creds.euid == object.creator_uid || creds.has_in(*task.spaces->ipc->owner, kCapSysAdmin)) return {};
  return Errno(EPERM);
}

// Owner and creator as /proc/sysvipc has them, for the reader.
inline std::string ipc_ids_text(const Task& reader, const IpcPermissions& object) {
  using Ids = UserNamespace::Ids;
  const UserNamespace& user = *reader.creds->user;
  std::string text;
  append_format(text, " %5u %5u %5u %5u", user.shown(Ids::Users, object.uid), user.shown(Ids::Groups, object.gid),
                user.shown(Ids::Users, object.creator_uid), user.shown(Ids::Groups, object.creator_gid));
  return text;
}

// Objects of one kind. Object has a member `IpcPermissions permissions`. All with `lock` held.
template <typename Object>
class IpcTable {
 public:
  // most: how many of them there may be.
  explicit IpcTable(IpcLimit most) : most_(most) {}
  using Ref = std::shared_ptr<Object>;
  std::mutex lock;

  Ref find(int id) {
    auto found = objects_.find(id);
    return found == objects_.end() ? nullptr : found->second;
  }
  Ref find_key(int key, int* id) {
    auto found = keys_.find(key);
    if (found == keys_.end()) return nullptr;
    *id = found->second;
    return find(*id);
  }
  // ENOSPC.
  Result<int> add(Task& task, int key, int mode, Ref object) {
    if (objects_.size() >= IpcLimits::of(*task.spaces->ipc)[most_]) return Errno(ENOSPC);
    const Credentials& creds = *task.creds;
    IpcPermissions& p = object->permissions;
    p.key = key;
    p.mode = static_cast<uint32_t>(mode) & 0777;
    p.uid = p.creator_uid = creds.euid;
    p.gid = p.creator_gid = creds.egid;
    do next_ = next_ == INT32_MAX ? 0 : next_ + 1;
    while (objects_.contains(next_));
    p.sequence = static_cast<uint16_t>(next_ >> 15);
    objects_[next_] = std::move(object);
    if (key != IPC_PRIVATE) keys_[key] = next_;
    return next_;
  }
  // The key is free at once; the object stays until remove().
  void forget_key(const Object& object) {
    if (object.permissions.key != IPC_PRIVATE) keys_.erase(object.permissions.key);
  }
  void remove(int id) {
    auto found = objects_.find(id);
    if (found == objects_.end()) return;
    forget_key(*found->second);
    objects_.erase(found);
  }
  // What get(2) calls do. make() gives a new object; check(object) refuses an old one.
  template <typename Make, typename Check>
  Result<int> get(Task& task, int key, int flags, Make&& make, Check&& check) {
    std::lock_guard guard(lock);
    int id = 0;
    const Ref old = key == IPC_PRIVATE ? nullptr : find_key(key, &id);
    if (!old) {
      if (key != IPC_PRIVATE && (flags & IPC_CREAT) == 0) return Errno(ENOENT);
      Result<Ref> made = make();
      if (!made) return made.error();
      return add(task, key, flags, *std::move(made));
    }
    if ((flags & IPC_CREAT) != 0 && (flags & IPC_EXCL) != 0) return Errno(EEXIST);
    TRY(check(*old));
    TRY(ipc_access(task, old->permissions,
                   (static_cast<unsigned>(flags) | static_cast<unsigned>(flags) >> 3 | static_cast<unsigned>(flags) >> 6) & 6));
    return id;
  }
  size_t size() const { return objects_.size(); }
  int greatest() const { return objects_.empty() ? 0 : objects_.rbegin()->first; }
  template <typename Visit>
  void each(Visit&& visit) {
    for (auto it = objects_.begin(); it != objects_.end();) {
      auto next = std::next(it);
      visit(it->first, it->second);
      it = next;
    }
  }

 private:
  const IpcLimit most_;
  std::map<int, Ref> objects_;
  std::map<int, int> keys_;
  int next_ = 0;
};

}  // namespace caisson::kernel
