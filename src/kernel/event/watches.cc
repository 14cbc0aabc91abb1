#include "kernel/event/watches.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#include <algorithm>

#include "kernel/event/inotify.h"
#include "kernel/fs/host/identity.h"
#include "kernel/klog.h"
#include "kernel/platform/watcher.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"
#include "kernel/vfs/notify.h"

namespace caisson::kernel {

std::atomic<uint32_t> g_own_watches{0};
std::atomic<bool> g_host_watches{false};

struct InotifyEvent : inotify_event {};

Watches& Watches::get() {
  static Watches& watches = *new Watches;  // never destroyed: files may outlive static objects
  return watches;
}

Watches::Host::~Host() { watcher.remove(id, fd.get()); }

Result<void> Watches::enter(uid_t user) {
  std::lock_guard guard(lock_);
  if (instances_ >= kMostInstances || users_[user].instances >= kMostUserInstances) return Errno(EMFILE);
  ++users_[user].instances;
  ++instances_;
  return {};
}

void Watches::leave(Inotify& instance) {
  Dropped dropped;
  std::lock_guard guard(lock_);
  while (!instance.watches_.empty()) drop_locked(*instance.watches_.begin()->second, dropped);
  --instances_;
  queued_ -= instance.events_.size();
  const auto user = users_.find(instance.user_);
  if (--user->second.instances == 0) users_.erase(user);
}

void Watches::set_interest(Inode& inode, const std::vector<Watch*>& watches) {
  uint32_t all = 0;
  for (const Watch* watch : watches) all |= watch->mask | IN_UNMOUNT;
  inode.watched.store(all, std::memory_order_relaxed);
}

Result<Watch*> Watches::make_locked(Inotify& instance, uint32_t mask) {
  User& user = users_[instance.user_];
  if (user.watches >= kMostUserWatches || instance.next_number_ == INT32_MAX) return Errno(ENOSPC);
  auto made = std::make_unique<Watch>();
  made->owner = &instance;
  made->number = instance.next_number_++;
  made->mask = mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK);
  Watch* watch = made.get();
  instance.watches_.emplace(watch->number, std::move(made));
  ++user.watches;
  return watch;
}

Result<void> Watches::change_locked(Watch& watch, uint32_t mask) {
  if ((mask & IN_MASK_CREATE) != 0) return Errno(EEXIST);
  const uint32_t kept = (mask & IN_MASK_ADD) != 0 ? watch.mask : 0;
  watch.mask = kept | (mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK));
  return {};
}

Result<Watch*> Watches::find_or_make_locked(std::vector<Watch*>& watches, Inotify& instance, uint32_t mask) {
  const auto found = std::find_if(watches.begin(), watches.end(), [&](const Watch* each) { return each->owner == &instance; });
  if (found != watches.end()) {
    TRY(change_locked(**found, mask));
    return *found;
  }
  Watch* made = TRY(make_locked(instance, mask));
  watches.push_back(made);
  return made;
}

Result<int> Watches::add_own_locked(Inotify& instance, const InodeRef& inode, uint32_t mask) {
  std::vector<Watch*>& watches = own_[inode.get()];
  const Result<Watch*> watch = find_or_make_locked(watches, instance, mask);
  if (!watch) {
    if (watches.empty()) own_.erase(inode.get());
    return watch.error();
  }
  if (!(*watch)->inode) {
    (*watch)->inode = inode;
    ++g_own_watches;
  }
  set_interest(*inode, watches);
  return (*watch)->number;
}

Result<void> Watches::open_host_locked(Task& task) {
  if (host_) return {};
  UniqueFd fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!fd) {
    const Errno error = host_errno();
    klog(LogLevel::Warning, "the host gives no inotify instance (%s): its fs.inotify.max_user_instances", strerrordesc_np(error.value));
    return Errno(ENOSPC);
  }
  HostWatcher& watcher = task.kernel.watcher();
  const uint64_t id = TRY(watcher.add_edges(fd.get(), [](uint32_t) { Watches::get().refresh(INT_MAX); }));
  host_.reset(new Host{watcher, std::move(fd), id});
  g_host_watches = true;
  return {};
}

// Names are looked up from the kernel process's working folder, which is its /proc (enter_proc_folder).
Result<int> Watches::host_watch_locked(int path_fd, uint32_t mask) {
  return static_cast<int>(TRY(host_result(inotify_add_watch(host_->fd.get(), FdName(path_fd).text, mask))));
}

Result<int> Watches::add_host_locked(Inotify& instance, Inode& inode, uint32_t mask) {
  if (by_host_.size() >= kMostHostWatches) return Errno(ENOSPC);
  // The host says by its number whether this file is watched already; what others want of it stays.
  const int host = TRY(host_watch_locked(inode.host_fd(), (mask & IN_ALL_EVENTS) | IN_DELETE_SELF | IN_MASK_ADD));
  std::vector<Watch*>& watches = by_host_[host];
  const Result<Watch*> watch = find_or_make_locked(watches, instance, mask);
  if (!watch) {
    if (watches.empty()) {
      inotify_rm_watch(host_->fd.get(), host);
      by_host_.erase(host);
    }
    return watch.error();
  }
  (*watch)->host = host;
  // Exactly what all of them want. A file that has no name any more is left out only if everybody wants it so.
  uint32_t events = IN_DELETE_SELF, flags = IN_EXCL_UNLINK;
  for (const Watch* each : watches) {
    events |= each->mask & IN_ALL_EVENTS;
    flags &= each->mask;
  }
  TRY(host_watch_locked(inode.host_fd(), events | flags));
  return (*watch)->number;
}

Result<int> Watches::add(Task& task, Inotify& instance, const Path& place, uint32_t mask) {
  const InodeRef inode = place.inode();
  const struct statx stat = TRY(inode->stat());
  std::unique_ptr<Host> unused;  // released without the lock
  std::lock_guard guard(lock_);
  Result<int> number = Errno(EINVAL);
  if (inode->host_fd() < 0) {
    number = add_own_locked(instance, inode, mask);
  } else {
    TRY(open_host_locked(task));
    act_as(*task.creds);  // the host looks at the right to read it
    number = add_host_locked(instance, *inode, mask);
    if (by_host_.empty()) {
      unused = std::move(host_);
      g_host_watches = false;
    }
  }
  if (!number) return number;
  Watch& watch = *instance.watches_.at(*number);
  watch.file = stat.stx_ino;
  watch.device = stat.stx_dev_major << 20 | stat.stx_dev_minor;
  return number;
}

void Watches::drop_locked(Watch& watch, Dropped& dropped) {
  if (watch.inode) {
    const auto entry = own_.find(watch.inode.get());
    std::erase(entry->second, &watch);
    set_interest(*watch.inode, entry->second);
    if (entry->second.empty()) own_.erase(entry);
    --g_own_watches;
  } else if (const auto entry = by_host_.find(watch.host); entry != by_host_.end()) {
    std::erase(entry->second, &watch);
    if (entry->second.empty()) {
      inotify_rm_watch(host_->fd.get(), watch.host);  // it may be gone there, too
      by_host_.erase(entry);
    }
    if (by_host_.empty()) {
      dropped.host = std::move(host_);
      g_host_watches = false;
    }
  }
  --users_[watch.owner->user_].watches;
  const auto owned = watch.owner->watches_.find(watch.number);
  dropped.watches.push_back(std::move(owned->second));
  dropped.watches.back()->owner->watches_.erase(owned);
}

Result<void> Watches::remove(Inotify& instance, int number) {
  Dropped dropped;
  std::lock_guard guard(lock_);
  const auto found = instance.watches_.find(number);
  if (found == instance.watches_.end()) return Errno(EINVAL);
  drop_locked(*found->second, dropped);
  instance.push_locked({number, IN_IGNORED, 0, {}});
  return {};
}

void Watches::tell_locked(Watch& watch, uint32_t events, uint32_t cookie, std::string_view name, bool unlinked, Dropped& dropped) {
  if ((events & ((watch.mask & IN_ALL_EVENTS) | IN_UNMOUNT)) == 0) return;
  if (unlinked && (watch.mask & IN_EXCL_UNLINK) != 0) return;
  Inotify& owner = *watch.owner;
  const int number = watch.number;
  owner.push_locked({number, events, cookie, std::string(name)});
  if ((watch.mask & IN_ONESHOT) == 0) return;
  drop_locked(watch, dropped);
  owner.push_locked({number, IN_IGNORED, 0, {}});
}

void Watches::tell(Inode& inode, uint32_t events, std::string_view name, uint32_t cookie, bool unlinked) {
  Dropped dropped;
  std::lock_guard guard(lock_);
  const auto found = own_.find(&inode);
  if (found == own_.end()) return;
  const std::vector<Watch*> watches = found->second;
  for (Watch* watch : watches) tell_locked(*watch, events, cookie, name, unlinked, dropped);
}

void Watches::end_locked(std::vector<Watch*> watches, uint32_t events, Dropped& dropped) {
  for (Watch* watch : watches) {
    Inotify& owner = *watch->owner;
    const int number = watch->number;
    if ((events & (watch->mask | IN_UNMOUNT) & ~IN_ISDIR) != 0) owner.push_locked({number, events, 0, {}});
    drop_locked(*watch, dropped);
    owner.push_locked({number, IN_IGNORED, 0, {}});
  }
}

void Watches::end(const Inode& inode, uint32_t events) {
  Dropped dropped;
  std::lock_guard guard(lock_);
  const auto found = own_.find(&inode);
  if (found != own_.end()) end_locked(found->second, events, dropped);
}

void Watches::end(const FileSystem& fs) {
  Dropped dropped;
  std::lock_guard guard(lock_);
  std::vector<Watch*> files, folders;
  for (const auto& [inode, watches] : own_) {
    if (inode->fs().get() != &fs) continue;
    std::vector<Watch*>& ending = S_ISDIR(inode->type()) ? folders : files;
    ending.insert(ending.end(), watches.begin(), watches.end());
  }
  end_locked(std::move(files), IN_UNMOUNT, dropped);
  end_locked(std::move(folders), IN_UNMOUNT | IN_ISDIR, dropped);
}

uint32_t Watches::own_cookie_locked(uint32_t host_cookie) {
  if (host_cookie == 0) return 0;
  for (const auto& [host, own] : cookies_)
    if (host == host_cookie) return own;
  const uint32_t own = next_move_cookie();
  cookies_[next_cookie_++ % cookies_.size()] = {host_cookie, own};
  return own;
}

void Watches::host_event_locked(const InotifyEvent& event, std::string_view name, Dropped& dropped) {
  if ((event.mask & IN_Q_OVERFLOW) != 0) {
    // Nobody knows whose were lost.
    std::vector<Inotify*> told;
    for (const auto& [host, watches] : by_host_)
      for (const Watch* watch : watches)
        if (std::find(told.begin(), told.end(), watch->owner) == told.end()) told.push_back(watch->owner);
    for (Inotify* each : told) each->push_locked({-1, IN_Q_OVERFLOW, 0, {}});
    return;
  }
  const auto found = by_host_.find(event.wd);
  if (found == by_host_.end()) return;  // K has taken it back meanwhile
  const std::vector<Watch*> watches = found->second;
  if ((event.mask & IN_IGNORED) != 0) return end_locked(watches, 0, dropped);
  const uint32_t cookie = own_cookie_locked(event.cookie);
  for (Watch* watch : watches) tell_locked(*watch, event.mask, cookie, name, false, dropped);
}

// False: there is no more.
bool Watches::drain_locked(Dropped& dropped) {
  if (!host_) return false;
  alignas(inotify_event) char room[16384];
  const ssize_t got = ::read(host_->fd.get(), room, sizeof room);
  if (got <= 0) return false;
  for (ssize_t at = 0; at < got;) {
    const auto* event = reinterpret_cast<const InotifyEvent*>(room + at);
    const char* name = room + at + sizeof(inotify_event);
    host_event_locked(*event, std::string_view(name, strnlen(name, event->len)), dropped);
    at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
  }
  return true;
}

void Watches::refresh(int rounds) {
  for (int i = 0; i < rounds; ++i) {
    Dropped dropped;
    std::lock_guard guard(lock_);
    if (!drain_locked(dropped)) return;
  }
}

uint32_t next_move_cookie() {
  static std::atomic<uint32_t> next{1};
  uint32_t cookie = next++;
  return cookie != 0 ? cookie : next++;
}

void notify_watchers(Inode& inode, uint32_t events, std::string_view name, uint32_t cookie) {
  if ((inode.watched.load(std::memory_order_relaxed) & events) != 0) Watches::get().tell(inode, events, name, cookie);
}

void notify_watchers(const Path& path, uint32_t events) {
  const InodeRef inode = path.inode();
  if (!inode) return;
  const DentryRef parent = path.dentry->parent();
  const InodeRef folder = parent ? parent->inode() : nullptr;
  const uint32_t told = events | folder_bit(inode->type());
  const bool unlinked = path.dentry->deleted();
  if (folder && (folder->watched.load(std::memory_order_relaxed) & events) != 0)
    Watches::get().tell(*folder, told, path.dentry->name(), 0, unlinked);
  if ((inode->watched.load(std::memory_order_relaxed) & events) != 0) Watches::get().tell(*inode, told, {}, 0, unlinked);
}

void notify_gone(Inode& inode) {
  if (inode.watched.load(std::memory_order_relaxed) == 0) return;
  const Result<struct statx> stat = inode.stat();
  if (stat && stat->stx_nlink == 0) Watches::get().end(inode, IN_DELETE_SELF);
}

void notify_unmounted(const FileSystem& fs) { Watches::get().end(fs); }

}  // namespace caisson::kernel
