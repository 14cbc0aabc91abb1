// Pipe: what pipe(2) and FIFOs share: a bounded queue of bytes with a reading and a writing side.
//
// Locks: Pipe::lock_, of the level of inodes. Bytes are moved to and from guest memory without it: a writer reserves room, copies, appends;
// a reader takes chunks out, copies, and puts back what could not be delivered.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "kernel/ipc/chunk.h"
#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

class Pipe {
 public:
  static constexpr size_t kAtomic = 4096;  // PIPE_BUF
  static constexpr size_t kDefaultCapacity = 65536, kMostCapacity = 1048576;

  // EAGAIN: nothing there (while there are writers), or no room. write: EPIPE without readers; the caller sends the signal.
  Result<size_t> read(IoBuffer& buffer);
  Result<size_t> write(IoBuffer& buffer, bool packets);

  // splice(2), tee(2), vmsplice(2). take: up to `size` bytes off the front, EAGAIN, or none at the end of the file. peek: the same, and
  // they stay. put_back: in front again. append: as many of the chunks as there is room for; what is left stays in `chunks`. EPIPE, EAGAIN.
  // `all`: whether there is room or not: bytes that would be lost otherwise.
  Result<std::deque<Chunk>> take(size_t size);
  Result<std::deque<Chunk>> peek(size_t size);
  void put_back(std::deque<Chunk> chunks);
  Result<size_t> append(std::deque<Chunk>& chunks, bool all = false);

  size_t used() const;
  size_t capacity() const;
  // F_SETPIPE_SZ: the new size. EBUSY: more bytes are in it; EPERM beyond kMostCapacity without the right.
  Result<size_t> set_capacity(size_t wanted, bool privileged);

  void add_end(bool reads, bool writes);
  void remove_end(bool reads, bool writes);
  // How often a side has been opened: a FIFO's open waits for the other one.
  uint64_t opened_by_readers() const;
  uint64_t opened_by_writers() const;
  bool has_readers() const;
  bool has_writers() const;
  Events poll(bool reads, bool writes, uint64_t writers_at_open) const;

  WaitQueue queue;
  const uint64_t inode = next_anonymous_inode();

 private:
  void append_locked(Chunk chunk);
  void room_made();

  mutable std::mutex lock_;
  std::deque<Chunk> chunks_;
  size_t used_ = 0;  // with what is reserved
  size_t bytes_ = 0;
  size_t capacity_ = kDefaultCapacity;
  int readers_ = 0, writers_ = 0;
  uint64_t readers_opened_ = 0, writers_opened_ = 0;
};

// One end (or, of a FIFO opened O_RDWR, both).
class PipeFile : public File {
 public:
  PipeFile(std::shared_ptr<Pipe> pipe, Path path, int flags);
  ~PipeFile() override;
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override;
  Events poll() override { return pipe_->poll(readable(), writable(), writers_at_open_); }
  WaitQueue* wait_queue() override { return &pipe_->queue; }
  bool readers_take_turns() const override { return true; }
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override;
  Result<long> control(Task& task, int command, uint64_t argument) override;
  Result<struct statx> stat() override;
  std::string description() const override;
  const std::shared_ptr<Pipe>& pipe() const { return pipe_; }

 private:
  std::shared_ptr<Pipe> pipe_;
  uint64_t writers_at_open_;
};

// pipe2(2): the reading and the writing end. flags: O_NONBLOCK, O_DIRECT.
std::pair<std::shared_ptr<PipeFile>, std::shared_ptr<PipeFile>> make_pipe(int flags);
// open(2) of a FIFO (fifo(7)): waits for the other side unless O_NONBLOCK says not to. ENXIO; kRestartSys.
Result<FileRef> open_fifo(Task& task, const std::shared_ptr<Pipe>& pipe, Path path, int flags);
// A write to nobody: SIGPIPE for the task, and EPIPE.
Errno broken_pipe(Task& task);

}  // namespace caisson::kernel
