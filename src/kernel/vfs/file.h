// File: an open file description (open(2)): what descriptors, also of several processes, refer to.
//
// A new kind of file derives from File and overrides what it can do; the rest answers as Linux does for a file that cannot. No method may
// sleep but through Task::block (blocking_op in vfs/blocking.h does it for read, write and accept); a method that finds nothing ready
// returns EAGAIN whatever O_NONBLOCK says.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "kernel/errno.h"
#include "kernel/io.h"
#include "kernel/task/wait.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class Task;

// What a mapping of a file is made of: a host descriptor that is passed to the stub and mapped there.
struct MapSource {
  int host_fd = -1;        // borrowed from the file
  uint64_t offset = 0;     // of the mapping's start in host_fd
  bool anonymous = false;  // /dev/zero: no descriptor, map anonymous memory
};

struct DirEntry {
  std::string_view name;
  uint64_t inode = 0;
  unsigned char type = 0;  // DT_*
  int64_t next = 0;        // position behind this entry
};
// False: no room; the entry is to be given again by the next call.
using DirSink = std::function<bool(const DirEntry&)>;

// In the flags of Inode::open: the right to do so has been found out (exec), or comes with having made the file. Not an O_* bit of Linux.
inline constexpr int kOpenTrusted = 0x40000000;

class File {
 public:
  File(Path path, int flags) : path_(std::move(path)), flags_(flags) {}
  virtual ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Reads into / writes from `buffer` at `offset`; for files that have no positions (seekable() false) offset is ignored. Returns how many
  // bytes were moved.
  virtual Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset);
  virtual Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset);
  // For append: where the file ends now.
  virtual Result<off_t> size();
  virtual bool seekable() const { return false; }
  // SEEK_DATA, SEEK_HOLE and what a kind of file does differently; `position` is the current one.
  virtual Result<off_t> seek(off_t position, off_t offset, int whence);

  // What is ready now, and where to wait for changes. A file without a queue is always ready.
  virtual Events poll() { return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM; }
  virtual WaitQueue* wait_queue() { return nullptr; }
  // What becomes readable is for one reader: of those that sleep in read one is woken (WaitQueue::wake).
  virtual bool readers_take_turns() const { return false; }
  // read and write wait by themselves (a socket's timeouts): EAGAIN is an answer.
  virtual bool sleeps_itself() const { return false; }
  // Called before sleeping on wait_queue(): a file that stands for a host descriptor has it watched.
  virtual void arm(Events events) { (void)events; }

  virtual Result<long> ioctl(Task& task, unsigned command, uint64_t argument);
  // fcntl(2) commands that are not about the descriptor or the flags: locks, seals, pipe sizes. Default (vfs/file.cc): EINVAL.
  virtual Result<long> control(Task& task, int command, uint64_t argument);
  // prot and flags are mmap(2)'s.
  virtual Result<MapSource> map(uint64_t offset, uint64_t length, int prot, int flags);
  virtual Result<void> read_dir(Task& task, int64_t& position, const DirSink& sink);
  virtual Result<void> sync(bool data_only);
  virtual Result<void> truncate(Task& task, off_t size);
  virtual Result<void> allocate(int mode, off_t offset, off_t length);
  virtual Result<struct statx> stat();
  // close(2) of one descriptor (not of the last). The default releases the process's record locks; who overrides it does so, too.
  virtual void closed_by(Task& task);
  // F_SETFL reached this file: flags() has changed.
  virtual void flags_changed() {}
  // A host descriptor that does what this file does, for calls that can be passed on (sendfile, mmap, fstatfs...); -1: there is none.
  virtual int host_fd() const { return -1; }

  const Path& path() const { return path_; }
  // The name below /proc/self/fd when there is no path: "pipe:[7]".
  virtual std::string description() const;

  int flags() const { return flags_.load(std::memory_order_relaxed); }  // O_*
  void set_flags(int flags) {
    flags_.store(flags, std::memory_order_relaxed);
    flags_changed();
  }
  bool nonblocking() const { return flags() & O_NONBLOCK; }
  bool readable() const { return (flags() & O_ACCMODE) != O_WRONLY && !(flags() & O_PATH); }
  bool writable() const { return (flags() & O_ACCMODE) != O_RDONLY && !(flags() & O_PATH); }

  std::mutex position_lock;  // held over read and write of a seekable file; before any lock of the inode
  off_t position = 0;
  std::atomic<bool> has_locks{false};  // flock or F_OFD_SETLK: given back with the file
  std::atomic<bool> has_async{false};  // F_SETOWN, O_ASYNC: event/async_notice.h

 private:
  Path path_;
  std::atomic<int> flags_;
};
using FileRef = std::shared_ptr<File>;

}  // namespace caisson::kernel
