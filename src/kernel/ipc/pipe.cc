#include "kernel/ipc/pipe.h"

#include <signal.h>
#include <sys/ioctl.h>

#include "kernel/signal/send.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

// What one write copies before it lets others in.
constexpr size_t kPiece = 65536;
constexpr Events kIn = POLLIN | POLLRDNORM, kOut = POLLOUT | POLLWRNORM;

}  // namespace

Result<std::deque<Chunk>> Pipe::take(size_t size) {
  std::deque<Chunk> out;
  std::lock_guard guard(lock_);
  if (chunks_.empty()) {
    if (writers_ == 0) return out;
    return Errno(EAGAIN);
  }
  while (size > 0 && !chunks_.empty()) {
    Chunk& front = chunks_.front();
    const bool packet = front.packet;
    const size_t now = packet ? front.size() : std::min(size, front.size());
    if (now == front.size()) {
      out.push_back(std::move(front));
      chunks_.pop_front();
    } else {
      out.push_back(front.split(now));
    }
    used_ -= now;
    bytes_ -= now;
    size -= std::min(size, now);
    if (packet) break;
  }
  return out;
}

Result<std::deque<Chunk>> Pipe::peek(size_t size) {
  std::deque<Chunk> out;
  std::lock_guard guard(lock_);
  if (chunks_.empty()) {
    if (writers_ == 0) return out;
    return Errno(EAGAIN);
  }
  for (const Chunk& chunk : chunks_) {
    if (size == 0) break;
    Chunk copy = chunk;
    copy.end = copy.begin + std::min(size, copy.size());
    size -= copy.size();
    out.push_back(std::move(copy));
  }
  return out;
}

void Pipe::put_back(std::deque<Chunk> chunks) {
  {
    std::lock_guard guard(lock_);
    while (!chunks.empty()) {
      used_ += chunks.back().size();
      bytes_ += chunks.back().size();
      if (chunks.back().size() > 0) chunks_.push_front(std::move(chunks.back()));
      chunks.pop_back();
    }
  }
  queue.wake(kIn);
}

void Pipe::room_made() { queue.wake(kOut); }

void Pipe::append_locked(Chunk chunk) {
  if (chunk.size() == 0) return;
  bytes_ += chunk.size();
  if (chunk.size() <= 512 && !chunks_.empty() && chunks_.back().absorb(chunk)) return;
  chunks_.push_back(std::move(chunk));
}

Result<size_t> Pipe::append(std::deque<Chunk>& chunks, bool all) {
  size_t done = 0;
  {
    std::lock_guard guard(lock_);
    if (readers_ == 0) return Errno(EPIPE);
    while (!chunks.empty() && (all || used_ < capacity_)) {
      const size_t now = all ? chunks.front().size() : std::min(chunks.front().size(), capacity_ - used_);
      Chunk piece = chunks.front().split(now);
      if (chunks.front().size() == 0) chunks.pop_front();
      used_ += now;
      done += now;
      // Its memory may be the other pipe's too: never written to again.
      bytes_ += now;
      if (now > 0) chunks_.push_back(std::move(piece));
    }
  }
  if (done == 0 && !chunks.empty()) return Errno(EAGAIN);
  queue.wake(kIn);
  return done;
}

Result<size_t> Pipe::read(IoBuffer& buffer) {
  if (buffer.empty()) return size_t{0};
  std::deque<Chunk> chunks = TRY(take(buffer.left()));
  if (chunks.empty()) return size_t{0};
  const bool packet = chunks.front().packet;
  size_t done = 0;
  Result<size_t> moved = size_t{0};
  while (!chunks.empty()) {
    Chunk& front = chunks.front();
    const size_t now = std::min(front.size(), buffer.left());
    moved = buffer.put(front.data(), now);
    if (moved.ok()) done += *moved;
    if (!moved || *moved < now) {
      front.begin += moved ? *moved : 0;
      break;
    }
    chunks.pop_front();
  }
  // A packet loses what its reader has no room for, but not what a bad address did not take.
  if (!chunks.empty() && (!packet || !moved)) put_back(std::move(chunks));
  room_made();
  if (done == 0 && !moved) return moved.error();
  return done;
}

Result<size_t> Pipe::write(IoBuffer& buffer, bool packets) {
  size_t done = 0;
  while (!buffer.empty()) {
    const size_t wanted = buffer.left();
    size_t now;
    {
      std::lock_guard guard(lock_);
      if (readers_ == 0) {
        if (done > 0) return done;
        return Errno(EPIPE);
      }
      const size_t room = used_ < capacity_ ? capacity_ - used_ : 0;
      if (room == 0 || (wanted <= kAtomic && room < wanted && (done == 0 || packets))) {
        if (done > 0) return done;
        return Errno(EAGAIN);
      }
      now = std::min({wanted, room, packets ? kAtomic : kPiece});
      used_ += now;
    }
    Result<Chunk> chunk = Chunk::taken(buffer, now);
    const size_t got = chunk ? chunk->size() : 0;
    {
      std::lock_guard guard(lock_);
      used_ -= now - got;
      if (chunk) {
        chunk->packet = packets;
        append_locked(*std::move(chunk));
      }
    }
    if (got < now) queue.wake(kOut);
    if (got > 0) queue.wake(kIn);
    done += got;
    if (got < now) {
      if (done == 0) return chunk ? Errno(EFAULT) : chunk.error();
      return done;
    }
  }
  return done;
}

size_t Pipe::used() const {
  std::lock_guard guard(lock_);
  return bytes_;
}

size_t Pipe::capacity() const {
  std::lock_guard guard(lock_);
  return capacity_;
}

Result<size_t> Pipe::set_capacity(size_t wanted, bool privileged) {
  if (wanted > (1UL << 31)) return Errno(EINVAL);
  size_t size = 4096;
  while (size < wanted) size *= 2;
  {
    std::lock_guard guard(lock_);
    if (size > capacity_ && size > kMostCapacity) {
      if (!privileged) return Errno(EPERM);
      // What a pipe may hold of the kernel's memory is bounded for everybody.
      if (size > 16 * kMostCapacity) return Errno(ENOMEM);
    }
    if (size < used_) return Errno(EBUSY);
    capacity_ = size;
  }
  room_made();
  return size;
}

void Pipe::add_end(bool reads, bool writes) {
  {
    std::lock_guard guard(lock_);
    readers_ += reads;
    writers_ += writes;
    readers_opened_ += reads;
    writers_opened_ += writes;
  }
  queue.wake(POLLIN | POLLOUT);
}

void Pipe::remove_end(bool reads, bool writes) {
  std::deque<Chunk> forgotten;
  {
    std::lock_guard guard(lock_);
    readers_ -= reads;
    writers_ -= writes;
    if (readers_ == 0 && writers_ == 0) {
      forgotten.swap(chunks_);
      used_ -= bytes_;
      bytes_ = 0;
    }
  }
  queue.wake(kIn | kOut | POLLHUP | POLLERR);
}

uint64_t Pipe::opened_by_readers() const {
  std::lock_guard guard(lock_);
  return readers_opened_;
}
uint64_t Pipe::opened_by_writers() const {
  std::lock_guard guard(lock_);
  return writers_opened_;
}
bool Pipe::has_readers() const {
  std::lock_guard guard(lock_);
  return readers_ > 0;
}
bool Pipe::has_writers() const {
  std::lock_guard guard(lock_);
  return writers_ > 0;
}

Events Pipe::poll(bool reads, bool writes, uint64_t writers_at_open) const {
  std::lock_guard guard(lock_);
  Events events = 0;
  if (reads) {
    if (!chunks_.empty()) events |= kIn;
    // A FIFO's reader hears of the end only once there was a writer.
    if (writers_ == 0 && writers_opened_ != writers_at_open) events |= POLLHUP;
  }
  if (writes) {
    if (used_ < capacity_ && capacity_ - used_ >= kAtomic) events |= kOut;
    if (readers_ == 0) events |= POLLERR;
  }
  return events;
}

PipeFile::PipeFile(std::shared_ptr<Pipe> pipe, Path path, int flags) : File(std::move(path), flags), pipe_(std::move(pipe)) {
  pipe_->add_end(readable(), writable());
  // A pipe without a name had both ends from the beginning.
  writers_at_open_ = !this->path() || pipe_->has_writers() ? ~0ULL : pipe_->opened_by_writers();
}

PipeFile::~PipeFile() { pipe_->remove_end(readable(), writable()); }

Result<size_t> PipeFile::read(Task&, IoBuffer& buffer, off_t) { return pipe_->read(buffer); }

// What is left is written by the caller's loop, which also sends SIGPIPE.
Result<size_t> PipeFile::write(Task&, IoBuffer& buffer, off_t) { return pipe_->write(buffer, (flags() & O_DIRECT) != 0); }

Result<long> PipeFile::ioctl(Task& task, unsigned command, uint64_t argument) {
  if (command != FIONREAD) return Errno(ENOTTY);
  TRY(task.write(UserPtr<int>(argument), static_cast<int>(pipe_->used())));
  return 0L;
}

Result<struct statx> PipeFile::stat() {
  if (path()) return path().inode()->stat();
  return anonymous_stat(S_IFIFO | 0600, pipe_->inode);
}

std::string PipeFile::description() const { return "pipe:[" + std::to_string(pipe_->inode) + "]"; }

std::pair<std::shared_ptr<PipeFile>, std::shared_ptr<PipeFile>> make_pipe(int flags) {
  auto pipe = std::make_shared<Pipe>();
  const int kept = flags & (O_NONBLOCK | O_DIRECT);
  auto writer = std::make_shared<PipeFile>(pipe, Path(), kept | O_WRONLY);
  auto reader = std::make_shared<PipeFile>(pipe, Path(), kept | O_RDONLY);
  return {std::move(reader), std::move(writer)};
}

Result<FileRef> open_fifo(Task& task, const std::shared_ptr<Pipe>& pipe, Path path, int flags) {
  const int access = flags & O_ACCMODE;
  const bool waits = (flags & O_NONBLOCK) == 0;
  if (access == O_WRONLY && !waits && !pipe->has_readers()) return Errno(ENXIO);
  // Registered before the end is counted, so that the other side's opening is not missed.
  TaskWaiter waiter(task, pipe->queue, 0);
  const uint64_t readers = pipe->opened_by_readers(), writers = pipe->opened_by_writers();
  auto file = std::make_shared<PipeFile>(pipe, std::move(path), flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY));
  auto met = [&] {
    if (access == O_RDWR || !waits) return true;
    if (access == O_RDONLY) return pipe->has_writers() || pipe->opened_by_writers() != writers;
    return pipe->has_readers() || pipe->opened_by_readers() != readers;
  };
  for (;;) {
    task.prepare_to_block();
    if (met()) return FileRef(std::move(file));
    TRY(task.block());
  }
}

Result<long> PipeFile::control(Task& task, int command, uint64_t argument) {
  if (command == F_GETPIPE_SZ) return static_cast<long>(pipe_->capacity());
  if (command != F_SETPIPE_SZ) return File::control(task, command, argument);
  return static_cast<long>(TRY(pipe_->set_capacity(static_cast<uint32_t>(argument), task.creds->has(kCapSysResource))));
}

Errno broken_pipe(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  send_to_task_locked(task, user_signal(SIGPIPE, &task));
  return Errno(EPIPE);
}

}  // namespace caisson::kernel
