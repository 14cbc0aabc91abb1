#include "kernel/tty/pty.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>

#include <algorithm>

#include "kernel/fs/devpts/devpts.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

Result<size_t> Terminal::read_master(IoBuffer& buffer) {
  Effects effects;
  std::string taken;
  bool packet = false;
  uint8_t status = 0;
  {
    std::lock_guard guard(lock_);
    packet = packet_mode_;
    if (packet && packet_status_ != 0) {
      status = std::exchange(packet_status_, 0);
    } else {
      if (!discipline_.output_available()) return slave_closed_ ? Errno(EIO) : Errno(EAGAIN);
      const size_t room = buffer.left() - (packet && buffer.left() > 0 ? 1 : 0);
      taken = discipline_.take_output(std::min<size_t>(room, 65536), effects);
    }
  }
  if (packet) {
    // Each read begins with a byte that says what follows: TIOCPKT_DATA, or what has happened.
    const Result<size_t> put = buffer.put(&status, 1);
    if (!put || *put == 0) {
      put_output_back(taken);
      return put;
    }
    if (status != 0) return size_t{1};
  }
  const Result<size_t> put = buffer.put(taken.data(), taken.size());
  const size_t delivered = put ? *put : 0;
  if (delivered < taken.size()) put_output_back(std::string_view(taken).substr(delivered));
  slave_queue.wake(POLLOUT | POLLWRNORM);
  if (!put && !taken.empty()) return put.error();
  return delivered + (packet ? 1 : 0);
}

Result<size_t> Terminal::write_master(IoBuffer& buffer) {
  size_t done = 0;
  char piece[1024];
  while (!buffer.empty()) {
    size_t room = 0;
    {
      std::lock_guard guard(lock_);
      if (slave_closed_) return done > 0 ? Result<size_t>(done) : Errno(EIO);
      room = discipline_.input_room();
    }
    if (room == 0) break;
    const Result<size_t> taken = buffer.take(piece, std::min(room, sizeof piece));
    if (!taken) return done > 0 ? Result<size_t>(done) : taken;
    if (*taken == 0) break;
    // Two writers at once may find less room than they have seen: the rest is lost, as on a line without flow control.
    (void)type({piece, *taken});
    done += *taken;
  }
  if (done == 0 && !buffer.empty()) return Errno(EAGAIN);
  return done;
}

Events Terminal::poll_master() const {
  std::lock_guard guard(lock_);
  Events events = 0;
  if (discipline_.output_available()) events |= POLLIN | POLLRDNORM;
  if (packet_mode_ && packet_status_ != 0) events |= POLLIN | POLLPRI | POLLRDNORM;
  if (slave_closed_) events |= POLLHUP;
  if (discipline_.input_room() > 0) events |= POLLOUT | POLLWRNORM;
  return events;
}

PtyMasterFile::PtyMasterFile(std::shared_ptr<Terminal> terminal, std::shared_ptr<Devpts> devpts, Path path, int flags)
    : File(std::move(path), flags), terminal_(std::move(terminal)), devpts_(std::move(devpts)) {}

Result<FileRef> PtyMasterFile::open(Task& task, std::shared_ptr<Devpts> devpts, Path path, int flags) {
  const std::shared_ptr<Terminal> terminal = TRY(devpts->make_terminal(task.kernel, task.creds->fsuid, task.creds->fsgid));
  terminal->lock_slave();
  return FileRef(
      new PtyMasterFile(terminal, std::move(devpts), std::move(path), flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | kOpenTrusted)));
}

PtyMasterFile::~PtyMasterFile() {
  devpts_->remove(terminal_->index);
  terminal_->hang_up();
}

Result<size_t> PtyMasterFile::read(Task&, IoBuffer& buffer, off_t) { return terminal_->read_master(buffer); }
Result<size_t> PtyMasterFile::write(Task&, IoBuffer& buffer, off_t) { return terminal_->write_master(buffer); }

Result<long> PtyMasterFile::ioctl(Task& task, unsigned command, uint64_t argument) {
  if (command != TIOCGPTPEER) return terminal_->ioctl(task, command, argument, true);
  // The slave, whatever is mounted at /dev/pts where the caller lives.
  const int flags = static_cast<int>(argument) & (O_ACCMODE | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  Path place;
  for (const MountRef& mount : task.spaces->mounts->all())
    if (mount->fs == devpts_) place = {mount, mount->root->child(std::to_string(terminal_->index), TRY(devpts_->node(terminal_->index)))};
  FileRef slave = TRY(TerminalFile::open(task, terminal_, place, flags & ~O_CLOEXEC));
  return static_cast<long>(TRY(task.fds->add(std::move(slave), (flags & O_CLOEXEC) != 0, task.group->limit(RLIMIT_NOFILE).rlim_cur)));
}

}  // namespace caisson::kernel
