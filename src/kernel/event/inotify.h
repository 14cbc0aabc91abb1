// Inotify: an inotify(7) instance: watches, and the events they have seen. All of it is guarded by the one lock of Watches (watches.h).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "kernel/event/watches.h"
#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

class Inotify : public AnonymousFile {
 public:
  // EMFILE: the user has as many as /proc/sys/fs/inotify/max_user_instances says.
  static Result<std::shared_ptr<Inotify>> create(uid_t user, int flags);
  ~Inotify() override;

  // inotify_add_watch(2): the watch's number. The caller has found the place and the right to read it. ENOSPC, EEXIST.
  Result<int> add_watch(Task& task, const Path& place, uint32_t mask);
  Result<void> remove_watch(int number);  // EINVAL

  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Events poll() override;
  WaitQueue* wait_queue() override { return &wait_; }
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override;
  // What fdinfo says of its watches, a line each.
  std::string watches_text();

 private:
  friend class Watches;
  struct Event {
    int watch;
    uint32_t mask, cookie;
    std::string name;
  };
  Inotify(uid_t user, int flags) : AnonymousFile("inotify", 0600, flags), user_(user) {}
  // Takes what fits into `size` bytes. EINVAL: not even the first does; EAGAIN: there is none.
  Result<std::string> take_locked(size_t size);
  void push_locked(Event event);

  const uid_t user_;
  std::map<int, std::unique_ptr<Watch>> watches_;
  std::deque<Event> events_;
  int next_number_ = 1;
  WaitQueue wait_;
};

}  // namespace caisson::kernel
