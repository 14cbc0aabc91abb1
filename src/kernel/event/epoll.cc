#include "kernel/event/epoll.h"

#include <stdio.h>

#include <atomic>

namespace caisson::kernel {
namespace {

constexpr uint32_t kPrivate = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
constexpr uint32_t kExclusiveAllowed = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
constexpr int kMostNested = 5;
// fs.epoll.max_user_watches: of all guests of this kernel.
constexpr long kMostItems = 400'000;
std::atomic<long> g_items{0};
// One addition of an epoll to an epoll at a time, so that two of them cannot close a loop together.
std::mutex g_nesting;

}  // namespace

struct Epoll::Item : Waiter {
  Epoll* owner = nullptr;
  std::weak_ptr<File> file;
  Key key;
  epoll_event event{};  // under Epoll::lock_
  std::shared_ptr<WaitQueue::State> queue;
  bool listed = false;  // under ready_lock_
  Item() { ++g_items; }
  ~Item() override { --g_items; }
  void notify(Events) override { owner->make_ready(*this); }
};

Epoll::~Epoll() {
  std::lock_guard guard(lock_);
  for (auto& [key, item] : items_) item->queue->remove(*item);
}

void Epoll::make_ready(Item& item) {
  {
    std::lock_guard guard(ready_lock_);
    if (!item.listed) {
      item.listed = true;
      ready_.push_back(&item);
    }
  }
  queue_.wake(POLLIN | POLLRDNORM);
}

void Epoll::drop_locked(const ItemRef& item) {
  item->queue->remove(*item);  // no notify() from here on
  {
    std::lock_guard guard(ready_lock_);
    if (item->listed) ready_.remove(item.get());
  }
  items_.erase(Key(item->key));
}

// Forgets files that have been closed: nothing tells of it.
void Epoll::sweep_locked() {
  for (auto it = items_.begin(); it != items_.end();) {
    const ItemRef item = (it++)->second;
    if (item->file.expired()) drop_locked(item);
  }
  sweep_at_ = items_.size() * 2 + 64;
}

Epoll::ItemRef Epoll::find_locked(const FileRef& file, int fd) {
  auto found = items_.find({fd, file.get()});
  if (found == items_.end()) return nullptr;
  const ItemRef item = found->second;
  if (item->file.lock() == file) return item;
  drop_locked(item);
  return nullptr;
}

FileRef Epoll::target(int fd, unsigned skip) {
  std::lock_guard guard(lock_);
  for (auto at = items_.lower_bound({fd, nullptr}); at != items_.end() && at->first.first == fd; ++at)
    if (FileRef file = at->second->file.lock(); file && skip-- == 0) return file;
  return nullptr;
}

void Epoll::watch_locked(const ItemRef& item, const FileRef& file) {
  const Events wanted = (item->event.events & ~kPrivate) | POLLERR | POLLHUP;
  file->arm(wanted);
  if ((file->poll() & wanted) != 0) make_ready(*item);
}

Result<int> Epoll::depth_to(const Epoll& sought, int level) {
  if (this == &sought || level >= kMostNested) return Errno(ELOOP);
  std::vector<std::shared_ptr<Epoll>> inner;
  {
    std::lock_guard guard(lock_);
    for (auto& [key, item] : items_)
      if (auto epoll = std::dynamic_pointer_cast<Epoll>(item->file.lock())) inner.push_back(std::move(epoll));
  }
  int deepest = 1;
  for (const auto& epoll : inner) deepest = std::max(deepest, 1 + TRY(epoll->depth_to(sought, level + 1)));
  return deepest;
}

Result<void> Epoll::add(const FileRef& file, int fd, epoll_event event) {
  if (file.get() == this) return Errno(EINVAL);
  WaitQueue* queue = file->wait_queue();
  if (queue == nullptr) return Errno(EPERM);
  auto* inner = dynamic_cast<Epoll*>(file.get());
  if ((event.events & EPOLLEXCLUSIVE) != 0 && ((event.events & ~kExclusiveAllowed) != 0 || inner != nullptr)) return Errno(EINVAL);
  std::unique_lock<std::mutex> nesting;
  if (inner != nullptr) {
    nesting = std::unique_lock(g_nesting);
    TRY(inner->depth_to(*this, 0));
  }
  std::lock_guard guard(lock_);
  if (find_locked(file, fd)) return Errno(EEXIST);
  if (items_.size() >= sweep_at_) sweep_locked();
  if (g_items >= kMostItems) return Errno(ENOSPC);
  auto item = std::make_shared<Item>();
  item->owner = this;
  item->file = file;
  item->key = {fd, file.get()};
  item->event = event;
  item->queue = queue->state();
  item->interest = (event.events & ~kPrivate) | POLLERR | POLLHUP;
  items_[item->key] = item;
  item->queue->add(*item);
  watch_locked(item, file);
  return {};
}

Result<void> Epoll::modify(const FileRef& file, int fd, epoll_event event) {
  if (file.get() == this) return Errno(EINVAL);
  std::lock_guard guard(lock_);
  const ItemRef item = find_locked(file, fd);
  if (!item) return Errno(ENOENT);
  if (((event.events | item->event.events) & EPOLLEXCLUSIVE) != 0) return Errno(EINVAL);
  item->event = event;
  {
    // The queue reads it in wake().
    std::lock_guard queue_guard(item->queue->lock);
    item->interest = (event.events & ~kPrivate) | POLLERR | POLLHUP;
  }
  watch_locked(item, file);
  return {};
}

Result<void> Epoll::remove(const FileRef& file, int fd) {
  if (file.get() == this) return Errno(EINVAL);
  std::lock_guard guard(lock_);
  const ItemRef item = find_locked(file, fd);
  if (!item) return Errno(ENOENT);
  drop_locked(item);
  return {};
}

std::vector<epoll_event> Epoll::collect(size_t most) {
  std::vector<epoll_event> events;
  std::vector<FileRef> held;  // the last reference may be ours: dropped without the lock
  std::lock_guard guard(lock_);
  std::list<Item*> candidates;
  {
    std::lock_guard ready_guard(ready_lock_);
    candidates.swap(ready_);
    for (Item* item : candidates) item->listed = false;
  }
  std::list<Item*> again;
  while (!candidates.empty() && events.size() < most) {
    Item* raw = candidates.front();
    candidates.pop_front();
    const ItemRef item = items_[raw->key];
    FileRef file = item->file.lock();
    if (!file) {
      drop_locked(item);
      continue;
    }
    const uint32_t asked = item->event.events;
    const Events wanted = (asked & ~kPrivate) == 0 && (asked & EPOLLONESHOT) != 0 ? 0 : (asked & ~kPrivate) | POLLERR | POLLHUP;
    Events got = file->poll() & wanted;
    if (got == 0 && wanted != 0) {
      file->arm(wanted);
      got = file->poll() & wanted;
    }
    held.push_back(std::move(file));
    if (got == 0) continue;
    events.push_back({got, item->event.data});
    if ((asked & EPOLLONESHOT) != 0)
      item->event.events &= kPrivate;
    else if ((asked & EPOLLET) == 0)
      again.push_back(raw);
  }
  // What there was no room for stays in front; level-triggered items are looked at again.
  std::lock_guard ready_guard(ready_lock_);
  auto put = [&](std::list<Item*>& items, bool in_front) {
    std::list<Item*> fresh;
    for (Item* item : items) {
      if (item->listed) continue;
      item->listed = true;
      fresh.push_back(item);
    }
    ready_.splice(in_front ? ready_.begin() : ready_.end(), fresh);
  };
  put(candidates, true);
  put(again, false);
  return events;
}

Events Epoll::poll() {
  std::vector<FileRef> held;
  std::lock_guard guard(lock_);
  std::vector<Item*> candidates;
  {
    std::lock_guard ready_guard(ready_lock_);
    candidates.assign(ready_.begin(), ready_.end());
  }
  for (Item* item : candidates) {
    FileRef file = item->file.lock();
    if (!file) continue;
    const uint32_t asked = item->event.events;
    const Events wanted = (asked & ~kPrivate) == 0 ? 0 : (asked & ~kPrivate) | POLLERR | POLLHUP;
    const Events got = file->poll() & wanted;
    held.push_back(std::move(file));
    if (got != 0) return POLLIN | POLLRDNORM;
  }
  return 0;
}

}  // namespace caisson::kernel
