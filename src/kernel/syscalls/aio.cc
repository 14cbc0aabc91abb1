// Linux's own asynchronous input and output: io_setup(2), io_submit(2), io_getevents(2)... An operation is done while it is handed in, as
// Linux does it for files of the page cache; what it gave waits in the context to be fetched.
#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <deque>
#include <map>

#include "kernel/event/eventfd.h"
#include "kernel/event/poll.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"

namespace caisson::kernel {
namespace {

constexpr size_t kPage = 4096;
// /proc/sys/fs/aio-max-nr, its usual value: room for this many events may be asked for in all.
constexpr size_t kMostEvents = 65536;

// What io_setup has made. Its name is the address of a page of the guest's memory, as in Linux, whose C library looks into the page for a
// ring of events that it could read without a call; it finds zeros, so it makes the call.
struct Context {
  explicit Context(size_t room) : room(room) {}
  const size_t room;
  std::mutex lock;
  std::deque<io_event> events;
  size_t running = 0;
  bool destroyed = false;
  WaitQueue queue;
};
using ContextRef = std::shared_ptr<Context>;

// All contexts, by the memory that they belong to. They go with it: the next io_setup forgets those whose memory has gone.
// Locks: `lock` is a leaf, and so is each Context's.
struct Contexts {
  std::mutex lock;
  std::map<std::weak_ptr<AddressSpace>, std::map<uint64_t, ContextRef>, std::owner_less<>> all;

  size_t room_locked() {
    size_t sum = 0;
    std::erase_if(all, [](const auto& each) { return each.first.expired(); });
    for (const auto& [memory, contexts] : all)
      for (const auto& [address, context] : contexts) sum += context->room;
    return sum;
  }
};
Contexts& contexts() {
  static Contexts instance;
  return instance;
}

Result<ContextRef> find(Task& task, uint64_t name, bool remove = false) {
  Contexts& table = contexts();
  std::lock_guard guard(table.lock);
  const auto ours = table.all.find(task.memory);
  if (ours == table.all.end()) return Errno(EINVAL);
  const auto found = ours->second.find(name);
  if (found == ours->second.end()) return Errno(EINVAL);
  ContextRef context = found->second;
  if (remove) ours->second.erase(found);
  return context;
}

Result<long> sys_io_setup(Task& task, unsigned count, UserPtr<uint64_t> to) {
  if (TRY(task.read(to)) != 0 || count == 0) return Errno(EINVAL);
  if (count > kMostEvents) return Errno(EAGAIN);
  const auto context = std::make_shared<Context>(count);
  const uint64_t name = TRY(task.stub->run_one({SYS_mmap, {0, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0}}));
  bool full = false;
  {
    Contexts& table = contexts();
    std::lock_guard guard(table.lock);
    full = table.room_locked() + count > kMostEvents;
    if (!full) table.all[task.memory][name] = context;
  }
  Result<void> told = full ? Result<void>(Errno(EAGAIN)) : task.write(to, name);
  if (told) return 0L;
  if (!full) (void)find(task, name, true);
  (void)task.stub->run_one({SYS_munmap, {name, kPage}});
  return told.error();
}

Result<long> sys_io_destroy(Task& task, uint64_t name) {
  const ContextRef context = TRY(find(task, name, true));
  {
    std::lock_guard guard(context->lock);
    context->destroyed = true;
  }
  context->queue.wake(POLLIN | POLLHUP);
  (void)task.stub->run_one({SYS_munmap, {name, kPage}});
  return 0L;
}

// One operation: how many bytes it moved.
Result<long> perform(Task& task, const iocb& request) {
  const Fd fd = static_cast<Fd>(static_cast<int>(request.aio_fildes));
  const bool writes = request.aio_lio_opcode == IOCB_CMD_PWRITE || request.aio_lio_opcode == IOCB_CMD_PWRITEV;
  switch (request.aio_lio_opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PWRITE:
      return transfer_at(task, fd, task.buffer(request.aio_buf, request.aio_nbytes), request.aio_offset, writes);
    case IOCB_CMD_PREADV:
    case IOCB_CMD_PWRITEV:
      return transfer_at(task, fd, TRY(task.read_io_vectors(request.aio_buf, static_cast<int>(request.aio_nbytes))), request.aio_offset,
                         writes);
    default: {
      const FileRef file = TRY(task.fds->get_usable(number(fd)));
      TRY(file->sync(request.aio_lio_opcode == IOCB_CMD_FDSYNC));
      return 0L;
    }
  }
}

// What io_submit refuses at once, and does not tell by an event. `notice` is who is told of the end, if anybody is.
Result<void> check(Task& task, const iocb& request, std::shared_ptr<EventFd>* notice) {
  if (request.aio_reserved2 != 0 || static_cast<int64_t>(request.aio_nbytes) < 0) return Errno(EINVAL);
  const FileRef file = TRY(task.fds->get_usable(static_cast<int>(request.aio_fildes)));
  if ((request.aio_flags & IOCB_FLAG_RESFD) != 0) *notice = TRY(file_as<EventFd>(task, static_cast<Fd>(request.aio_resfd), EINVAL));
  if ((request.aio_flags & ~(IOCB_FLAG_RESFD | IOCB_FLAG_IOPRIO)) != 0) return Errno(EINVAL);
  if (request.aio_rw_flags != 0) return Errno(EOPNOTSUPP);
  switch (request.aio_lio_opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PREADV:
      if (!file->readable()) return Errno(EBADF);
      break;
    case IOCB_CMD_PWRITE:
    case IOCB_CMD_PWRITEV:
      if (!file->writable()) return Errno(EBADF);
      break;
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC:
      if (request.aio_buf != 0 || request.aio_offset != 0 || request.aio_nbytes != 0) return Errno(EINVAL);
      return {};
    default:
      return Errno(EINVAL);
  }
  if (request.aio_lio_opcode == IOCB_CMD_PREADV || request.aio_lio_opcode == IOCB_CMD_PWRITEV) {
    if (request.aio_nbytes > 1024) return Errno(EINVAL);
  }
  return file->seekable() && request.aio_offset < 0 ? Result<void>(Errno(EINVAL)) : Result<void>();
}

Result<void> submit(Task& task, Context& context, UserPtr<iocb> address) {
  const iocb request = TRY(task.read(address));
  std::shared_ptr<EventFd> notice;
  TRY(check(task, request, &notice));
  {
    std::lock_guard guard(context.lock);
    if (context.events.size() + context.running >= context.room) return Errno(EAGAIN);
    ++context.running;
  }
  const Result<long> done = perform(task, request);
  // There is nothing to restart: a signal that ended it is an answer.
  const long value = done ? *done : done.error() == Errno(kRestartSys) ? -EINTR : -done.error().value;
  {
    std::lock_guard guard(context.lock);
    --context.running;
    context.events.push_back({request.aio_data, address.address(), value, 0});
  }
  context.queue.wake(POLLIN);
  if (notice) {
    const uint64_t one = 1;
    IoBuffer buffer(&one, sizeof one);
    (void)notice->write(task, buffer, 0);
  }
  return {};
}

Result<long> sys_io_submit(Task& task, uint64_t name, long count, UserPtr<uint64_t> requests) {
  if (count < 0) return Errno(EINVAL);
  const ContextRef context = TRY(find(task, name));
  long done = 0;
  for (; done < std::min<long>(count, static_cast<long>(context->room)); ++done) {
    const Result<uint64_t> address = task.read(requests + static_cast<uint64_t>(done));
    const Result<void> taken = address ? submit(task, *context, UserPtr<iocb>(*address)) : Result<void>(address.error());
    if (taken) continue;
    if (done == 0) return taken.error();
    break;
  }
  return done;
}

// Everything is done when it has been handed in.
Result<long> sys_io_cancel(Task& task, uint64_t name, UserPtr<const iocb> request, UserPtr<io_event>) {
  TRY(task.read(request));
  TRY(find(task, name));
  return Errno(EINVAL);
}

Result<long> fetch(Task& task, uint64_t name, long least, long most, UserPtr<io_event> to, Deadline deadline) {
  if (least < 0 || most < 0 || least > most) return Errno(EINVAL);
  const ContextRef context = TRY(find(task, name));
  TaskWaiter waiter(task, context->queue, POLLIN);
  long done = 0;
  for (;;) {
    task.prepare_to_block();
    std::deque<io_event> taken;
    bool destroyed = false;
    {
      std::lock_guard guard(context->lock);
      destroyed = context->destroyed;
      const auto end = context->events.begin() + std::min<long>(most - done, static_cast<long>(context->events.size()));
      taken.assign(context->events.begin(), end);
      context->events.erase(context->events.begin(), end);
    }
    for (const io_event& event : taken)
      if (const Result<void> told = task.write(to + static_cast<uint64_t>(done), event); told)
        ++done;
      else if (done == 0)
        return told.error();
      else
        return done;
    if (done >= least) return done;
    if (destroyed) return done > 0 ? Result<long>(done) : Errno(EINVAL);
    if (const Result<void> slept = task.block(deadline); !slept) {
      if (done > 0 || slept.error() == Errno(ETIMEDOUT)) return done;
      return Errno(EINTR);
    }
  }
}

Result<long> sys_io_getevents(Task& task, uint64_t name, long least, long most, UserPtr<io_event> to, UserPtr<timespec> timeout) {
  return fetch(task, name, least, most, to, TRY(deadline_of(task, timeout)));
}

Result<long> sys_io_pgetevents(Task& task, uint64_t name, long least, long most, UserPtr<io_event> to, UserPtr<timespec> timeout,
                               UserPtr<uint64_t> mask) {
  const Deadline deadline = TRY(deadline_of(task, timeout));
  if (mask) TRY(set_temporary_mask(task, UserPtr<const abi::SigSet>(TRY(task.read(mask))), TRY(task.read(mask + 1))));
  return finish_temporary_mask(task, fetch(task, name, least, most, to, deadline));
}

}  // namespace

std::span<const SyscallRow> aio_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(io_setup, 206, Full, ""),
      SYSCALL(io_destroy, 207, Full, ""),
      SYSCALL(io_getevents, 208, Full, ""),
      SYSCALL(io_submit, 209, Partial, "operations are done one after the other, in the call; no IOCB_CMD_POLL, no RWF_ flags"),
      SYSCALL(io_cancel, 210, Full, ""),
      SYSCALL(io_pgetevents, 333, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
