// Terminal: a line discipline with its two ends, as tasks see it: the slave (TerminalFile), and the master, which is a guest's
// PtyMasterFile or the host's pty behind a container's console (HostConsole). Job control as setpgid(2), tty_ioctl(2) and credentials(7)
// have it.
//
// Locks: session and foreground belong to Kernel::tasks; everything else to Terminal::lock_ (of the level of inodes). Signals and wake-ups
// that an operation causes are done after lock_ has been released; no guest memory is touched with it held.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <memory>
#include <mutex>

#include "kernel/io.h"
#include "kernel/task/namespaces.h"
#include "kernel/task/wait.h"
#include "kernel/tty/line_discipline.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

class Kernel;
class PidNamespace;
class Task;
class ThreadGroup;

struct WindowSize {
  uint16_t rows = 0, columns = 0, x_pixels = 0, y_pixels = 0;
  bool operator==(const WindowSize&) const = default;
};

class Terminal : public std::enable_shared_from_this<Terminal> {
 public:
  // What stands behind the master end where that is not a file of a guest. Called from any thread, with no lock held but where said
  // otherwise.
  class Behind {
   public:
    virtual ~Behind() = default;
    virtual void output_ready() = 0;  // take_output() has something
    virtual void room_made() = 0;     // type() takes more again
    virtual void settle() = 0;        // returns when nothing that was taken is still on its way
    virtual void slaves_gone() = 0;   // no slave is open any more; Kernel::tasks may be held
  };

  // index: N of /dev/pts/N.
  Terminal(Kernel& kernel, int index) : index(index), kernel_(kernel) {}
  ~Terminal();
  const int index;

  // Job control; Kernel::tasks is held.
  // Becomes the controlling terminal of the session that `leader` leads.
  void attach_locked(ThreadGroup& leader);
  // The session has no terminal any more; tells its leader and its foreground group, as a hang-up does.
  // Pseudo-terminals stay usable for others when the leader ends (disassociate_ctty in Linux).
  void release_session_locked(bool tell_foreground, bool leader_ends = false);
  const TaskIdRef& session_locked() const { return session_; }  // null: none
  const TaskIdRef& foreground_locked() const { return foreground_; }

  // The slave's end. generation: what open_slave() gave; a hung up one reads nothing and writes EIO.
  Result<uint64_t> open_slave(Task* task);  // null: the kernel itself
  void close_slave(uint64_t generation);
  Result<size_t> read(Task& task, IoBuffer& buffer, uint64_t generation, bool nonblocking);
  Result<size_t> write(Task& task, IoBuffer& buffer, uint64_t generation);
  Events poll_slave(uint64_t generation) const;
  bool hung_up(uint64_t generation) const;
  WaitQueue slave_queue;

  // The master's end.
  size_t type(std::string_view bytes);   // as if typed; how many there was room for
  std::string take_output(size_t most);  // processed output; empty: nothing now
  void put_output_back(std::string_view bytes);
  // Waits until the other end has taken all output, it has gone, or `milliseconds` are over. False: something is left. For the end of a
  // container, in a thread that serves no task.
  bool drain(int milliseconds);
  bool output_over() const;  // nothing is left and no slave is open any more
  Result<size_t> read_master(IoBuffer& buffer);
  Result<size_t> write_master(IoBuffer& buffer);
  Events poll_master() const;
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument, bool master);
  void hang_up();        // the master has gone
  void refuse_slaves();  // the same, once no slave is open any more: nobody is told
  void set_behind(std::unique_ptr<Behind> behind);
  Behind* behind() const { return behind_.get(); }
  WaitQueue master_queue;

  WindowSize window_size() const;
  void set_window_size(WindowSize size);  // SIGWINCH where it changes
  TerminalSettings settings() const;
  void set_settings(const TerminalSettings& settings);
  bool locked() const;  // TIOCSPTLCK
  void lock_slave();

 private:
  void act(const Effects& effects, bool from_master);
  void signal_foreground(int signal);
  Result<void> check_foreground(Task& task, int signal);
  Result<size_t> read_timed(Task& task, IoBuffer& buffer, uint64_t generation);
  Result<size_t> read_now(IoBuffer& buffer, uint64_t generation, bool nonblocking, bool timed_out);
  void hang_up_slaves_locked();
  Result<long> settings_ioctl(Task& task, unsigned command, uint64_t argument);
  Result<long> flow_ioctl(unsigned command, uint64_t argument);
  Result<long> job_ioctl(Task& task, unsigned command, uint64_t argument, bool master);
  Result<long> master_ioctl(Task& task, unsigned command, uint64_t argument);
  Result<void> make_controlling(Task& task, bool steal);

  Kernel& kernel_;
  TaskIdRef session_, foreground_;

  mutable std::mutex lock_;
  LineDiscipline discipline_;
  WindowSize size_;
  uint64_t generation_ = 1;
  int slaves_ = 0;
  bool slave_closed_ = false;  // it was open, and is not any more
  bool master_gone_ = false, slave_locked_ = false, exclusive_ = false;
  TerminalSettings locks_{};  // TIOCSLCKTRMIOS: what is not to be changed
  bool packet_mode_ = false;
  uint8_t packet_status_ = 0;
  std::condition_variable drained_;
  std::unique_ptr<Behind> behind_;
};

// The slave's end as a file: /dev/pts/N, /dev/tty, /dev/console.
class TerminalFile : public File {
 public:
  // EIO while it is locked, EBUSY with TIOCEXCL. Becomes the controlling terminal of a session leader that has none, but with O_NOCTTY.
  static Result<FileRef> open(Task& task, std::shared_ptr<Terminal> terminal, Path path, int flags);
  // For a process that is yet to be made.
  static Result<FileRef> make(std::shared_ptr<Terminal> terminal, Path path, int flags);
  ~TerminalFile() override;
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override;
  Events poll() override { return terminal_->poll_slave(generation_); }
  WaitQueue* wait_queue() override { return &terminal_->slave_queue; }
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override;
  Result<void> sync(bool) override { return Errno(EINVAL); }
  std::string description() const override;
  const std::shared_ptr<Terminal>& terminal() const { return terminal_; }

 private:
  TerminalFile(std::shared_ptr<Terminal> terminal, Path path, int flags, uint64_t generation);
  std::shared_ptr<Terminal> terminal_;
  uint64_t generation_;
};

// A process that leads a session ends: the session has no terminal any more. Kernel::tasks is held.
void session_leader_ends_locked(ThreadGroup& group);

}  // namespace caisson::kernel
