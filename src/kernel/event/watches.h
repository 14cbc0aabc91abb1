// Watches: who watches which file (inotify(7)), for all instances of this kernel.
//
// A file of a host folder is watched by the host: K has one inotify instance of the host's, made when the first such watch is, and passes
// on what it says. So changes by others are told, too: the node's, other pods' on a shared volume, a configMap that is swapped. Files of
// the kernel's own file systems are told of by vfs (vfs/notify.h).
//
// Bounds: what inotify(7) says of /proc/sys/fs/inotify, by user; and of the host's watches kMostHostWatches, since the node's other
// programs take theirs from the same number.
//
// Locks: Watches::lock_, above wait queues' locks, below all others. No object is released under it.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class HostWatcher;
class Inotify;
struct InotifyEvent;

inline constexpr size_t kMostQueuedEvents = 16384, kMostUserInstances = 128, kMostUserWatches = 65536;  // as /proc/sys/fs/inotify says
inline constexpr size_t kMostHostWatches = 8192, kMostInstances = 1024;
inline constexpr size_t kMostEvents = 262'144;  // that wait in all instances together: they are in the container's memory

struct Watch {
  Inotify* owner;
  int number;
  uint32_t mask;      // events, and IN_ONESHOT, IN_EXCL_UNLINK
  InodeRef inode;     // of a file of ours; a file of the host must be able to go
  int host = -1;      // the host's number of a file of the host's
  uint64_t file = 0;  // its inode's number and device, for fdinfo
  uint32_t device = 0;
};

class Watches {
 public:
  static Watches& get();

  Result<void> enter(uid_t user);  // one more instance; EMFILE
  void leave(Inotify& instance);
  Result<int> add(Task& task, Inotify& instance, const Path& place, uint32_t mask);
  Result<void> remove(Inotify& instance, int number);

  // What happened to a file of ours; `name`: to what has this name in it. `unlinked`: by a descriptor of what has no name any more.
  void tell(Inode& inode, uint32_t events, std::string_view name, uint32_t cookie, bool unlinked = false);
  // It is no more: after `events` (IN_DELETE_SELF, IN_UNMOUNT) its watches end.
  void end(const Inode& inode, uint32_t events);
  void end(const FileSystem& fs);

  // Takes what the host has to tell. Called before anybody is told that there are no events. A flood does not hold up who
  // asks: what is left after so many rounds is told by the watcher of host descriptors.
  void refresh(int rounds = 64);

  // Runs `body` with the lock held.
  template <typename Body>
  auto with_lock(Body&& body) {
    std::lock_guard guard(lock_);
    return body();
  }

 private:
  friend class Inotify;
  // The host's instance, and its place with the watcher of host descriptors.
  struct Host {
    HostWatcher& watcher;
    UniqueFd fd;
    uint64_t id = 0;
    ~Host();
  };
  struct User {
    size_t instances = 0, watches = 0;
  };
  // What is to be released without the lock.
  struct Dropped {
    std::vector<std::unique_ptr<Watch>> watches;
    std::unique_ptr<Host> host;
  };
  Result<int> add_own_locked(Inotify& instance, const InodeRef& inode, uint32_t mask);
  Result<int> add_host_locked(Inotify& instance, Inode& inode, uint32_t mask);
  Result<void> open_host_locked(Task& task);
  Result<int> host_watch_locked(int path_fd, uint32_t mask);
  Result<Watch*> make_locked(Inotify& instance, uint32_t mask);
  Result<void> change_locked(Watch& watch, uint32_t mask);
  // The instance's watch among those of one file, with that mask from now on; a new one is put among them.
  Result<Watch*> find_or_make_locked(std::vector<Watch*>& watches, Inotify& instance, uint32_t mask);
  // Takes a watch out of everything; what is left of it is released by the caller, without the lock.
  void drop_locked(Watch& watch, Dropped& dropped);
  void tell_locked(Watch& watch, uint32_t events, uint32_t cookie, std::string_view name, bool unlinked, Dropped& dropped);
  void end_locked(std::vector<Watch*> watches, uint32_t events, Dropped& dropped);
  bool drain_locked(Dropped& dropped);
  void host_event_locked(const InotifyEvent& event, std::string_view name, Dropped& dropped);
  uint32_t own_cookie_locked(uint32_t host_cookie);
  static void set_interest(Inode& inode, const std::vector<Watch*>& watches);

  std::mutex lock_;
  std::unordered_map<const Inode*, std::vector<Watch*>> own_;
  std::unordered_map<int, std::vector<Watch*>> by_host_;
  std::map<uid_t, User> users_;
  size_t instances_ = 0, queued_ = 0;
  std::unique_ptr<Host> host_;
  // The host's cookies count for the whole node: guests see K's.
  std::array<std::pair<uint32_t, uint32_t>, 64> cookies_{};
  size_t next_cookie_ = 0;
};

// The host watches something: refresh() is worth its call.
extern std::atomic<bool> g_host_watches;
inline void refresh_watches() {
  if (g_host_watches.load(std::memory_order_relaxed)) Watches::get().refresh();
}

}  // namespace caisson::kernel
