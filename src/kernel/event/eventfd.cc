#include "kernel/event/eventfd.h"

namespace caisson::kernel {

Result<size_t> EventFd::read(Task&, IoBuffer& buffer, off_t) {
  if (buffer.left() < sizeof(uint64_t)) return Errno(EINVAL);
  uint64_t value;
  {
    std::lock_guard guard(lock_);
    if (value_ == 0) return Errno(EAGAIN);
    value = semaphore_ ? 1 : value_;
    value_ -= value;
  }
  queue_.wake(POLLOUT | POLLWRNORM);
  return buffer.put(&value, sizeof value);
}

Result<size_t> EventFd::write(Task&, IoBuffer& buffer, off_t) {
  if (buffer.left() < sizeof(uint64_t)) return Errno(EINVAL);
  uint64_t value;
  // Not taken for good before there is room: the call comes again.
  IoBuffer copy = buffer;
  if (TRY(copy.take(&value, sizeof value)) != sizeof value) return Errno(EFAULT);
  if (value == ~0ULL) return Errno(EINVAL);
  {
    std::lock_guard guard(lock_);
    if (kMost - value_ < value) return Errno(EAGAIN);
    value_ += value;
  }
  buffer.skip(sizeof value);
  queue_.wake(POLLIN | POLLRDNORM);
  return sizeof value;
}

Events EventFd::poll() {
  std::lock_guard guard(lock_);
  Events events = 0;
  if (value_ > 0) events |= POLLIN | POLLRDNORM;
  if (value_ < kMost) events |= POLLOUT | POLLWRNORM;
  if (value_ == ~0ULL) events |= POLLERR;
  return events;
}

}  // namespace caisson::kernel
