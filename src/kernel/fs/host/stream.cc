#include "kernel/fs/host/stream.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "kernel/fs/host/host_file.h"
#include "kernel/fs/host/host_fs.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

class HostStream : public File {
 public:
  HostStream(HostWatcher& watcher, UniqueFd fd, int flags, mode_t type, bool own_flags)
      : File(Path(), flags), watcher_(watcher), fd_(std::move(fd)), type_(type & S_IFMT), own_flags_(own_flags) {
    if (const Result<uint64_t> id = watcher_.add(fd_.get(), [this](Events events) { queue_.wake(events); })) {
      watch_ = *id;
      pollable_ = true;
    }
  }
  ~HostStream() override {
    if (pollable_) watcher_.remove(watch_, fd_.get());
  }

  Result<size_t> read(Task&, IoBuffer& buffer, off_t) override {
    if (!ready(POLLIN)) return Errno(EAGAIN);
    // One host call: what is there now, as a pipe or a terminal gives it.
    buffer.limit(256 * 1024);
    bool first = true;
    return pump_in(buffer, [&](void* data, size_t size, size_t) -> ssize_t {
      if (!std::exchange(first, false)) return 0;
      return type_ == S_IFSOCK ? recv(fd_.get(), data, size, MSG_DONTWAIT) : ::read(fd_.get(), data, size);
    });
  }

  Result<size_t> write(Task&, IoBuffer& buffer, off_t) override {
    if (!ready(POLLOUT)) return Errno(EAGAIN);
    // A pipe that somebody else sees as blocking takes PIPE_BUF bytes for certain when it is ready.
    if (pollable_ && !own_flags_ && type_ != S_IFSOCK) buffer.limit(4096);
    return pump_out(buffer, [&](const void* data, size_t size, size_t) -> ssize_t {
      return type_ == S_IFSOCK ? send(fd_.get(), data, size, MSG_DONTWAIT | MSG_NOSIGNAL) : ::write(fd_.get(), data, size);
    });
  }

  Events poll() override {
    pollfd entry{fd_.get(), POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    return ::poll(&entry, 1, 0) > 0 ? entry.revents : 0;
  }
  WaitQueue* wait_queue() override { return pollable_ ? &queue_ : nullptr; }
  void arm(Events events) override {
    if (pollable_) watcher_.arm(watch_, fd_.get(), events);
  }

  bool seekable() const override { return false; }
  Result<off_t> seek(off_t, off_t offset, int whence) override {
    if (type_ != S_IFREG) return Errno(ESPIPE);
    return TRY(host_result(lseek(fd_.get(), offset, whence)));
  }
  Result<off_t> size() override { return off_t{0}; }
  Result<struct statx> stat() override {
    struct statx stat;
    TRY(host_result(statx(fd_.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stat)));
    return stat;
  }
  Result<MapSource> map(uint64_t offset, uint64_t, int, int) override {
    if (type_ != S_IFREG) return Errno(ENODEV);
    return MapSource{fd_.get(), offset, false};
  }
  Result<void> truncate(Task&, off_t size) override {
    if (type_ != S_IFREG) return Errno(EINVAL);
    TRY(host_result(ftruncate(fd_.get(), size)));
    return {};
  }
  Result<void> sync(bool data_only) override {
    TRY(host_result(data_only ? fdatasync(fd_.get()) : fsync(fd_.get())));
    return {};
  }
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override {
    // A few that are harmless to whoever owns the other end; a container's own terminal is not one of these files.
    switch (command) {
      case FIONREAD: {
        int value = 0;
        TRY(host_result(::ioctl(fd_.get(), FIONREAD, &value)));
        TRY(task.write(UserPtr<int>(argument), value));
        return 0L;
      }
      case TCGETS: {
        // The kernel's struct termios is the first 36 bytes.
        char settings[64] = {};
        TRY(host_result(::ioctl(fd_.get(), TCGETS, settings)));
        TRY(task.write_bytes(argument, settings, 36));
        return 0L;
      }
      case TIOCGWINSZ: {
        winsize size{};
        TRY(host_result(::ioctl(fd_.get(), TIOCGWINSZ, &size)));
        TRY(task.write(UserPtr<winsize>(argument), size));
        return 0L;
      }
      default:
        return Errno(ENOTTY);
    }
  }
  std::string description() const override {
    struct stat stat {};
    fstat(fd_.get(), &stat);
    const char* kind = type_ == S_IFIFO ? "pipe" : type_ == S_IFSOCK ? "socket" : "file";
    return std::string(kind) + ":[" + std::to_string(stat.st_ino) + "]";
  }
  int host_fd() const override { return fd_.get(); }

 private:
  // False: a host call could block.
  bool ready(short events) const {
    if (!pollable_ || own_flags_) return true;
    pollfd entry{fd_.get(), events, 0};
    return ::poll(&entry, 1, 0) > 0;
  }

  HostWatcher& watcher_;
  UniqueFd fd_;
  mode_t type_;
  bool own_flags_;
  bool pollable_ = false;
  uint64_t watch_ = 0;
  WaitQueue queue_;
};

}  // namespace

Result<FileRef> make_host_stream(HostWatcher& watcher, UniqueFd fd) {
  struct stat stat;
  TRY(host_result(fstat(fd.get(), &stat)));
  int flags = static_cast<int>(TRY(host_result(fcntl(fd.get(), F_GETFL))));
  bool own_flags = false;
  if (S_ISFIFO(stat.st_mode) || S_ISCHR(stat.st_mode)) {
    // A description of our own can be non-blocking without anybody else's noticing.
    Result<UniqueFd> own = reopen(fd.get(), (flags & (O_ACCMODE | O_APPEND)) | O_NONBLOCK);
    if (own) {
      fd = *std::move(own);
      own_flags = true;
    }
  }
  flags &= O_ACCMODE | O_APPEND;
  return FileRef(std::make_shared<HostStream>(watcher, std::move(fd), flags, stat.st_mode, own_flags));
}

}  // namespace caisson::kernel
