// HostConsole: a container's terminal whose master an engine holds. The kernel process holds the slave of that host pty and uses it as a
// plain wire: raw, all processing is the Terminal's. The host tells changes of the window's size only to the session whose controlling
// terminal it is, so a thread-sized helper process leads one.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/unique_fd.h"
#include "kernel/platform/watcher.h"
#include "kernel/tty/terminal.h"

namespace caisson::kernel {

class Container;
class Devpts;

// A process that shares the kernel's memory and descriptors, leads a session of its own with the host terminal, and writes to an eventfd
// whenever its window's size changes (SIGWINCH).
class WindowWatcher {
 public:
  // Borrows both descriptors. EPERM where the terminal belongs to another session.
  static Result<std::unique_ptr<WindowWatcher>> create(int terminal_fd, int event_fd);
  ~WindowWatcher();
  WindowWatcher(const WindowWatcher&) = delete;
  WindowWatcher& operator=(const WindowWatcher&) = delete;

 private:
  WindowWatcher() = default;
  struct Arguments {
    int terminal_fd, event_fd;
  };
  static int run(void* arguments);
  Arguments arguments_{};
  void* stack_ = nullptr;
  pid_t pid_ = 0;
};

class HostConsole : public Terminal::Behind {
 public:
  // Puts the host terminal behind `terminal`: settings and size are taken over from it, then it is made raw. devpts: what has the
  // terminal's node, or null; the node goes when the terminal does.
  static Result<void> attach(Kernel& kernel, const std::shared_ptr<Terminal>& terminal, UniqueFd slave,
                             const std::shared_ptr<Devpts>& devpts);
  ~HostConsole() override;
  void output_ready() override;
  void room_made() override;
  void settle() override { std::lock_guard guard(output_lock_); }
  void slaves_gone() override { poke(); }

 private:
  HostConsole(HostWatcher& watcher, Terminal& terminal, UniqueFd slave)
      : watcher_(watcher), terminal_(terminal), slave_(std::move(slave)) {}
  void host_ready(Events events);
  void poked();
  void read_input();
  void write_output();
  void update_size();
  void arm();
  void poke();

  HostWatcher& watcher_;
  Terminal& terminal_;
  UniqueFd slave_, event_;
  std::weak_ptr<Devpts> devpts_;
  uint64_t slave_watch_ = 0, event_watch_ = 0;
  std::unique_ptr<WindowWatcher> window_;

  // Serialises each direction, the input's (whose echo is output) first. Above Terminal::lock_; the input's is held over signals
  // (Kernel::tasks), so nobody takes it with that held.
  std::mutex input_lock_, output_lock_;
  std::string typed_;  // read from the host, not yet taken by the terminal; under input_lock_
  // Under arm_lock_, a leaf.
  std::mutex arm_lock_;
  bool wants_input_ = true, wants_output_ = false, over_ = false;
};

// A container's or an exec's terminal: makes it in the container's devpts (where there is one), behind it the host's slave.
Result<std::shared_ptr<Terminal>> make_console(Kernel& kernel, Container& container, UniqueFd slave, uid_t uid);
// The file that its process gets as standard streams: /dev/pts/N, or /dev/console where there is no devpts.
Result<FileRef> open_console(Container& container, const std::shared_ptr<Terminal>& terminal);

}  // namespace caisson::kernel
