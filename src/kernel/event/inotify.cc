#include "kernel/event/inotify.h"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include "kernel/fs/common/text.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

// A name is followed by at least one NUL and fills whole events (inotify(7)).
size_t padded(const std::string& name) {
  return name.empty() ? 0 : (name.size() + 1 + sizeof(inotify_event) - 1) / sizeof(inotify_event) * sizeof(inotify_event);
}

}  // namespace

Result<std::shared_ptr<Inotify>> Inotify::create(uid_t user, int flags) {
  TRY(Watches::get().enter(user));
  return std::shared_ptr<Inotify>(new Inotify(user, flags));
}

Inotify::~Inotify() { Watches::get().leave(*this); }

Result<int> Inotify::add_watch(Task& task, const Path& place, uint32_t mask) { return Watches::get().add(task, *this, place, mask); }
Result<void> Inotify::remove_watch(int number) { return Watches::get().remove(*this, number); }

void Inotify::push_locked(Event event) {
  if (!events_.empty()) {
    const Event& last = events_.back();
    const bool equal = last.watch == event.watch && last.mask == event.mask && last.name == event.name;
    if (equal && (event.mask & IN_IGNORED) == 0) return;
    if (events_.size() >= kMostQueuedEvents || Watches::get().queued_ >= kMostEvents) {
      if ((last.mask & IN_Q_OVERFLOW) != 0) return;
      event = {-1, IN_Q_OVERFLOW, 0, {}};
    }
  }
  events_.push_back(std::move(event));
  ++Watches::get().queued_;
  wait_.wake(POLLIN | POLLRDNORM);
}

Result<std::string> Inotify::take_locked(size_t size) {
  if (events_.empty()) return Errno(EAGAIN);
  std::string bytes;
  while (!events_.empty()) {
    const Event& event = events_.front();
    const size_t name_size = padded(event.name);
    if (bytes.size() + sizeof(inotify_event) + name_size > size) break;
    const inotify_event head{event.watch, event.mask, event.cookie, static_cast<uint32_t>(name_size)};
    bytes.append(reinterpret_cast<const char*>(&head), sizeof head);
    bytes.append(event.name);
    bytes.append(name_size - event.name.size(), '\0');
    events_.pop_front();
    --Watches::get().queued_;
  }
  if (bytes.empty()) return Errno(EINVAL);
  return bytes;
}

Result<size_t> Inotify::read(Task&, IoBuffer& buffer, off_t) {
  refresh_watches();
  const std::string bytes = TRY(Watches::get().with_lock([&] { return take_locked(buffer.left()); }));
  return buffer.put(bytes.data(), bytes.size());
}

Events Inotify::poll() {
  refresh_watches();
  return Watches::get().with_lock([&]() -> Events { return events_.empty() ? 0 : POLLIN | POLLRDNORM; });
}

Result<long> Inotify::ioctl(Task& task, unsigned command, uint64_t argument) {
  if (command != FIONREAD) return Errno(ENOTTY);
  refresh_watches();
  const size_t size = Watches::get().with_lock([&] {
    size_t total = 0;
    for (const Event& event : events_) total += sizeof(inotify_event) + padded(event.name);
    return total;
  });
  TRY(task.write(UserPtr<int>(argument), static_cast<int>(size)));
  return 0L;
}

std::string Inotify::watches_text() {
  return Watches::get().with_lock([&] {
    std::string text;
    for (const auto& [number, watch] : watches_)
      append_format(text, "inotify wd:%x ino:%lx sdev:%x mask:%x ignored_mask:0\n", static_cast<unsigned>(number),
                    static_cast<unsigned long>(watch->file), watch->device, watch->mask);
    return text;
  });
}

}  // namespace caisson::kernel
