// poll, select, epoll, eventfd, signalfd.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>

#include <array>

#include "kernel/event/epoll.h"
#include "kernel/event/eventfd.h"
#include "kernel/event/poll.h"
#include "kernel/event/signalfd.h"
#include "kernel/event/watches.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/time/clock.h"
#include "kernel/vfs/blocking.h"

namespace caisson::kernel {
namespace {

Deadline deadline_of_ms(int milliseconds) { return milliseconds < 0 ? Deadline::never() : Deadline::after(milliseconds * 1'000'000L); }

// ppoll and pselect6 write back what is left; a place that cannot be written to is no error.
void tell_left(Task& task, UserPtr<timespec> timeout, Deadline deadline) {
  if (timeout) (void)task.write(timeout, timespec_of(deadline.left()));
}

Result<long> poll_until(Task& task, uint64_t array, unsigned count, Deadline deadline) {
  if (count > task.group->limit(RLIMIT_NOFILE).rlim_cur) return Errno(EINVAL);
  std::vector<pollfd> wanted(count);
  TRY(task.read_bytes(array, wanted.data(), count * sizeof(pollfd)));
  std::vector<PollEntry> entries(count);
  size_t invalid = 0;
  for (unsigned i = 0; i < count; ++i) {
    wanted[i].revents = 0;
    if (wanted[i].fd < 0) continue;
    Result<FileRef> file = task.fds->get_usable(wanted[i].fd);
    if (!file) {
      wanted[i].revents = POLLNVAL;
      ++invalid;
      continue;
    }
    entries[i].file = *std::move(file);
    entries[i].wanted = static_cast<uint16_t>(wanted[i].events);
  }
  if (invalid > 0) deadline = Deadline::after(0);
  const size_t ready = TRY(poll_files(task, entries, deadline));
  for (unsigned i = 0; i < count; ++i)
    if (entries[i].file) wanted[i].revents = static_cast<short>(entries[i].got);
  // Only revents is written: another thread may be changing the rest.
  if (count <= 4) {
    for (unsigned i = 0; i < count; ++i)
      TRY(task.write(UserPtr<short>(array + i * sizeof(pollfd) + offsetof(pollfd, revents)), wanted[i].revents));
  } else {
    TRY(task.write_bytes(array, wanted.data(), count * sizeof(pollfd)));
  }
  return static_cast<long>(ready + invalid);
}

Result<long> poll_again(Task& task, uint64_t array, unsigned count, Deadline deadline) {
  Result<long> result = poll_until(task, array, count, deadline);
  if (result.ok() || result.error() != Errno(kRestartNoHand)) return result;
  task.restart = [array, count, deadline](Task& again) { return poll_again(again, array, count, deadline); };
  return Errno(kRestartBlock);
}

Result<long> sys_poll(Task& task, UserPtr<pollfd> array, unsigned count, int timeout) {
  return poll_again(task, array.address(), count, deadline_of_ms(timeout));
}

Result<long> sys_ppoll(Task& task, UserPtr<pollfd> array, unsigned count, UserPtr<timespec> timeout, UserPtr<const abi::SigSet> mask,
                       size_t size) {
  const Deadline deadline = TRY(deadline_of(task, timeout));
  TRY(set_temporary_mask(task, mask, size));
  Result<long> result = poll_until(task, array.address(), count, deadline);
  tell_left(task, timeout, deadline);
  return finish_temporary_mask(task, result);
}

// The three sets of select(2), as bits.
constexpr int kSelectMost = 65536;
struct SelectSets {
  std::array<std::vector<uint64_t>, 3> bits;
  std::array<uint64_t, 3> at{};
  size_t words = 0;
};

constexpr std::array<Events, 3> kSelectEvents = {POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR,
                                                 POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR, POLLPRI};

Result<long> select_until(Task& task, int count, uint64_t in, uint64_t out, uint64_t other, Deadline deadline) {
  if (count < 0) return Errno(EINVAL);
  const std::vector<int> open = task.fds->list();
  const int most = open.empty() ? 0 : open.back() + 1;
  // Bits beyond the table are not looked at, as on Linux (whose table is at least 64 wide).
  count = std::min({count, std::max(64, (most + 63) / 64 * 64), kSelectMost});
  SelectSets sets;
  sets.words = (static_cast<size_t>(count) + 63) / 64;
  sets.at = {in, out, other};
  for (int s = 0; s < 3; ++s) {
    sets.bits[s].assign(sets.words, 0);
    if (sets.at[s] != 0) TRY(task.read_bytes(sets.at[s], sets.bits[s].data(), sets.words * 8));
  }
  auto asked = [&](int s, int fd) { return (sets.bits[s][fd / 64] >> (fd % 64) & 1) != 0; };
  std::vector<PollEntry> entries;
  std::vector<int> fds;
  for (int fd = 0; fd < count; ++fd) {
    Events wanted = 0;
    for (int s = 0; s < 3; ++s)
      if (asked(s, fd)) wanted |= kSelectEvents[s];
    if (wanted == 0) continue;
    entries.push_back({TRY(task.fds->get_usable(fd)), wanted, 0});
    fds.push_back(fd);
  }
  TRY(poll_files(task, entries, deadline));
  long total = 0;
  std::array<std::vector<uint64_t>, 3> answer;
  for (auto& words : answer) words.assign(sets.words, 0);
  for (size_t i = 0; i < entries.size(); ++i)
    for (int s = 0; s < 3; ++s)
      if (asked(s, fds[i]) && (entries[i].got & kSelectEvents[s]) != 0) {
        answer[s][fds[i] / 64] |= 1ULL << (fds[i] % 64);
        ++total;
      }
  for (int s = 0; s < 3; ++s)
    if (sets.at[s] != 0) TRY(task.write_bytes(sets.at[s], answer[s].data(), sets.words * 8));
  return total;
}

Result<long> sys_select(Task& task, int count, UserPtr<void> in, UserPtr<void> out, UserPtr<void> other, UserPtr<timeval> timeout) {
  Deadline deadline = Deadline::never();
  if (timeout) {
    const timeval wanted = TRY(task.read(timeout));
    if (wanted.tv_sec < 0 || wanted.tv_usec < 0) return Errno(EINVAL);
    deadline = Deadline::after(
        TRY(nanoseconds_of({std::min<long>(wanted.tv_sec, 1L << 40) + wanted.tv_usec / 1'000'000, wanted.tv_usec % 1'000'000 * 1000})));
  }
  Result<long> result = select_until(task, count, in.address(), out.address(), other.address(), deadline);
  if (timeout) (void)task.write(timeout, timeval{deadline.left() / 1'000'000'000, deadline.left() % 1'000'000'000 / 1000});
  return result;
}

struct MaskArgument {
  uint64_t mask, size;
};

Result<long> sys_pselect6(Task& task, int count, UserPtr<void> in, UserPtr<void> out, UserPtr<void> other, UserPtr<timespec> timeout,
                          UserPtr<const MaskArgument> mask) {
  const Deadline deadline = TRY(deadline_of(task, timeout));
  if (mask) {
    const MaskArgument argument = TRY(task.read(mask));
    TRY(set_temporary_mask(task, UserPtr<const abi::SigSet>(argument.mask), argument.size));
  }
  Result<long> result = select_until(task, count, in.address(), out.address(), other.address(), deadline);
  tell_left(task, timeout, deadline);
  return finish_temporary_mask(task, result);
}

Result<long> sys_epoll_create1(Task& task, int flags) {
  if ((flags & ~EPOLL_CLOEXEC) != 0) return Errno(EINVAL);
  return install(task, std::make_shared<Epoll>(O_RDWR), (flags & EPOLL_CLOEXEC) != 0);
}

Result<long> sys_epoll_create(Task& task, int size) {
  if (size <= 0) return Errno(EINVAL);
  return sys_epoll_create1(task, 0);
}

Result<long> sys_epoll_ctl(Task& task, Fd epoll, int operation, Fd fd, UserPtr<const epoll_event> at) {
  epoll_event event{};
  if (operation != EPOLL_CTL_DEL) event = TRY(task.read(at));
  FileRef holder = TRY(task.fds->get_usable(number(epoll)));
  FileRef target = TRY(task.fds->get_usable(number(fd)));
  const auto self = std::dynamic_pointer_cast<Epoll>(holder);
  if (target->wait_queue() == nullptr) return Errno(EPERM);
  if (!self || target == holder) return Errno(EINVAL);
  switch (operation) {
    case EPOLL_CTL_ADD:
      TRY(self->add(target, number(fd), event));
      return 0L;
    case EPOLL_CTL_MOD:
      TRY(self->modify(target, number(fd), event));
      return 0L;
    case EPOLL_CTL_DEL:
      TRY(self->remove(target, number(fd)));
      return 0L;
    default:
      return Errno(EINVAL);
  }
}

Result<long> wait_for_epoll(Task& task, Fd fd, uint64_t events, int most, Deadline deadline) {
  if (most <= 0 || most > static_cast<int>(INT32_MAX / sizeof(epoll_event))) return Errno(EINVAL);
  const auto epoll = TRY(file_as<Epoll>(task, fd, EINVAL));
  refresh_watches();  // an inotify's events count from when they happened, not from when the host's report arrives
  std::vector<epoll_event> found = epoll->collect(most);
  if (found.empty() && (deadline.is_never() || deadline.left() > 0)) {
    TaskWaiter waiter(task, *epoll->wait_queue(), 0);
    for (;;) {
      task.prepare_to_block();
      found = epoll->collect(most);
      if (!found.empty()) break;
      const Result<void> slept = task.block(deadline);
      if (slept.ok()) continue;
      found = epoll->collect(most);
      if (!found.empty() || slept.error() == Errno(ETIMEDOUT)) break;
      return Errno(EINTR);
    }
  }
  TRY(task.write_bytes(events, found.data(), found.size() * sizeof(epoll_event)));
  return static_cast<long>(found.size());
}

Result<long> sys_epoll_wait(Task& task, Fd fd, UserPtr<epoll_event> events, int most, int timeout) {
  return wait_for_epoll(task, fd, events.address(), most, deadline_of_ms(timeout));
}

Result<long> sys_epoll_pwait(Task& task, Fd fd, UserPtr<epoll_event> events, int most, int timeout, UserPtr<const abi::SigSet> mask,
                             size_t size) {
  TRY(set_temporary_mask(task, mask, size));
  return finish_temporary_mask(task, wait_for_epoll(task, fd, events.address(), most, deadline_of_ms(timeout)));
}

Result<long> sys_epoll_pwait2(Task& task, Fd fd, UserPtr<epoll_event> events, int most, UserPtr<timespec> timeout,
                              UserPtr<const abi::SigSet> mask, size_t size) {
  const Deadline deadline = TRY(deadline_of(task, timeout));
  TRY(set_temporary_mask(task, mask, size));
  return finish_temporary_mask(task, wait_for_epoll(task, fd, events.address(), most, deadline));
}

Result<long> sys_eventfd2(Task& task, unsigned value, int flags) {
  if ((flags & ~(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) != 0) return Errno(EINVAL);
  auto file = std::make_shared<EventFd>(value, (flags & EFD_SEMAPHORE) != 0, O_RDWR | (flags & EFD_NONBLOCK));
  return install(task, std::move(file), (flags & EFD_CLOEXEC) != 0);
}

Result<long> sys_eventfd(Task& task, unsigned value) { return sys_eventfd2(task, value, 0); }

Result<long> sys_signalfd4(Task& task, Fd fd, UserPtr<const abi::SigSet> mask, size_t size, int flags) {
  if ((flags & ~(SFD_CLOEXEC | SFD_NONBLOCK)) != 0 || size != sizeof(abi::SigSet)) return Errno(EINVAL);
  const abi::SigSet signals = TRY(task.read(mask));
  if (number(fd) != -1) {
    TRY(file_as<SignalFd>(task, fd, EINVAL))->set_mask(signals);
    return static_cast<long>(number(fd));
  }
  return install(task, std::make_shared<SignalFd>(task, signals, O_RDWR | (flags & SFD_NONBLOCK)), (flags & SFD_CLOEXEC) != 0);
}

Result<long> sys_signalfd(Task& task, Fd fd, UserPtr<const abi::SigSet> mask, size_t size) {
  return sys_signalfd4(task, fd, mask, size, 0);
}

}  // namespace

Result<Deadline> deadline_of(Task& task, UserPtr<timespec> timeout) {
  if (!timeout) return Deadline::never();
  return Deadline::after(TRY(nanoseconds_of(TRY(task.read(timeout)))));
}

std::span<const SyscallRow> event_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(poll, 7, Full, ""),
      SYSCALL(select, 23, Full, ""),
      SYSCALL(epoll_create, 213, Full, ""),
      SYSCALL(epoll_wait, 232, Full, ""),
      SYSCALL(epoll_ctl, 233, Full, ""),
      SYSCALL(pselect6, 270, Full, ""),
      SYSCALL(ppoll, 271, Full, ""),
      SYSCALL(epoll_pwait, 281, Full, ""),
      SYSCALL(signalfd, 282, Full, ""),
      SYSCALL(eventfd, 284, Full, ""),
      SYSCALL(signalfd4, 289, Full, ""),
      SYSCALL(eventfd2, 290, Full, ""),
      SYSCALL(epoll_create1, 291, Full, ""),
      SYSCALL(epoll_pwait2, 441, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
