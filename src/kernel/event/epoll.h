// Epoll: epoll(7).
//
// Locks, in this order: Epoll::lock_ (items; held while files are polled), then the polled file's own locks; a file's WaitQueue, then
// ready_lock_ (the list of items that may be ready). An epoll may watch another: loops are refused, so the order holds.
#pragma once

#include <sys/epoll.h>

#include <list>
#include <map>
#include <memory>
#include <vector>

#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

class Epoll : public AnonymousFile {
 public:
  explicit Epoll(int flags) : AnonymousFile("eventpoll", 0600, flags) {}
  ~Epoll() override;

  // epoll_ctl(2). EEXIST, ENOENT, EPERM (a file that is always ready), ELOOP, EINVAL, ENOSPC.
  Result<void> add(const FileRef& file, int fd, epoll_event event);
  Result<void> modify(const FileRef& file, int fd, epoll_event event);
  Result<void> remove(const FileRef& file, int fd);
  // The `skip`-th of the files that were added under the number fd; null: there is none (kcmp(2)).
  FileRef target(int fd, unsigned skip);
  // What is ready now, at most `most`; one-shot items are switched off, level-triggered ones are looked at again by the next call.
  std::vector<epoll_event> collect(size_t most);

  Events poll() override;
  WaitQueue* wait_queue() override { return &queue_; }

 private:
  struct Item;
  using Key = std::pair<int, File*>;
  using ItemRef = std::shared_ptr<Item>;
  ItemRef find_locked(const FileRef& file, int fd);
  void drop_locked(const ItemRef& item);
  void sweep_locked();
  void watch_locked(const ItemRef& item, const FileRef& file);
  void make_ready(Item& item);
  // How deep epolls are nested below this one; ELOOP at `sought` or beyond the limit.
  Result<int> depth_to(const Epoll& sought, int level);

  std::mutex lock_;
  std::map<Key, ItemRef> items_;
  size_t sweep_at_ = 64;
  std::mutex ready_lock_;
  std::list<Item*> ready_;
  WaitQueue queue_;
};

}  // namespace caisson::kernel
