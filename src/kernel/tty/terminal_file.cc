// The slave's end as a file.
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"
#include "kernel/tty/terminal.h"

namespace caisson::kernel {

TerminalFile::TerminalFile(std::shared_ptr<Terminal> terminal, Path path, int flags, uint64_t generation)
    : File(std::move(path), flags), terminal_(std::move(terminal)), generation_(generation) {}

TerminalFile::~TerminalFile() { terminal_->close_slave(generation_); }

Result<FileRef> TerminalFile::open(Task& task, std::shared_ptr<Terminal> terminal, Path path, int flags) {
  const uint64_t generation = TRY(terminal->open_slave(&task));
  const FileRef file(
      new TerminalFile(terminal, std::move(path), flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | kOpenTrusted), generation));
  if ((flags & O_NOCTTY) == 0 && (flags & O_ACCMODE) != O_WRONLY) {
    std::lock_guard guard(task.kernel.tasks);
    ThreadGroup& group = *task.group;
    if (group.sid == group.id && !group.terminal && !terminal->session_locked()) terminal->attach_locked(group);
  }
  return file;
}

Result<FileRef> TerminalFile::make(std::shared_ptr<Terminal> terminal, Path path, int flags) {
  const uint64_t generation = TRY(terminal->open_slave(nullptr));
  return FileRef(new TerminalFile(std::move(terminal), std::move(path), flags, generation));
}

Result<size_t> TerminalFile::read(Task& task, IoBuffer& buffer, off_t) { return terminal_->read(task, buffer, generation_, nonblocking()); }

Result<size_t> TerminalFile::write(Task& task, IoBuffer& buffer, off_t) { return terminal_->write(task, buffer, generation_); }

Result<long> TerminalFile::ioctl(Task& task, unsigned command, uint64_t argument) {
  if (terminal_->hung_up(generation_)) return Errno(EIO);
  return terminal_->ioctl(task, command, argument, false);
}

std::string TerminalFile::description() const { return "/dev/pts/" + std::to_string(terminal_->index); }

}  // namespace caisson::kernel
