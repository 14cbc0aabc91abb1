#include "kernel/tty/console.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/fs/devpts/devpts.h"
#include "kernel/klog.h"
#include "kernel/task/kernel.h"

#ifdef __SANITIZE_THREAD__
// The C library's: the sanitizer's clone(3) would run code of its own in the helper.
extern "C" int __clone(int (*body)(void*), void* stack, int flags, void* argument, ...);
#endif

namespace caisson::kernel {
namespace {

constexpr size_t kStack = 16384;
// The kernel's own struct termios: 36 bytes, as TerminalSettings begins.
constexpr unsigned long kGetSettings = 0x5401, kSetSettings = 0x5402;
constexpr uint32_t kOpost = 1, kCanonical = 2, kEchoAndSignals = 0000010 | 0000001 | 0100000;  // ECHO, ISIG, IEXTEN

// The helper has no thread-local storage of its own, so it makes its calls without the C library.
[[gnu::always_inline]] inline long bare_call(long number, long a = 0, long b = 0, long c = 0, long d = 0) {
  long result;
  register long r10 asm("r10") = d;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
}

#ifdef __SANITIZE_THREAD__
constexpr auto* kClone = &__clone;
#else
constexpr auto* kClone = &clone;
#endif

}  // namespace

[[gnu::no_stack_protector, gnu::no_sanitize("address", "undefined", "thread")]] int WindowWatcher::run(void* arguments) {
  const auto* given = static_cast<const Arguments*>(arguments);
  bare_call(SYS_setsid);
  uint64_t value = 1;
  if (bare_call(SYS_ioctl, given->terminal_fd, TIOCSCTTY, 0) != 0) return 1;
  // The size may have changed before: nobody was told of that.
  bare_call(SYS_write, given->event_fd, reinterpret_cast<long>(&value), sizeof value);
  // Blocked by whoever made us, so that they queue up even though their default is to be ignored.
  const uint64_t wanted = 1ULL << (SIGWINCH - 1);
  for (;;) {
    const long signal = bare_call(SYS_rt_sigtimedwait, reinterpret_cast<long>(&wanted), 0, 0, 8);
    if (signal == SIGWINCH) bare_call(SYS_write, given->event_fd, reinterpret_cast<long>(&value), sizeof value);
  }
}

Result<std::unique_ptr<WindowWatcher>> WindowWatcher::create(int terminal_fd, int event_fd) {
  std::unique_ptr<WindowWatcher> watcher(new WindowWatcher);
  watcher->arguments_ = {terminal_fd, event_fd};
  void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return host_errno();
  watcher->stack_ = stack;
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  watcher->pid_ = kClone(&WindowWatcher::run, static_cast<char*>(stack) + kStack, CLONE_VM | CLONE_FILES | CLONE_FS, &watcher->arguments_);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (watcher->pid_ < 0) return Errno(error);
  return watcher;
}

WindowWatcher::~WindowWatcher() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) {
    }
  }
  if (stack_ != nullptr) munmap(stack_, kStack);
}

Result<void> HostConsole::attach(Kernel& kernel, const std::shared_ptr<Terminal>& terminal, UniqueFd slave,
                                 const std::shared_ptr<Devpts>& devpts) {
  TerminalSettings settings = TerminalSettings::usual();
  if (ioctl(slave.get(), kGetSettings, &settings) != 0) return host_errno();
  terminal->set_settings(settings);
  settings.input = 0;
  settings.output &= ~kOpost;
  settings.local &= ~(kCanonical | kEchoAndSignals);
  settings.keys[5] = 0;  // VTIME
  settings.keys[6] = 1;  // VMIN
  if (ioctl(slave.get(), kSetSettings, &settings) != 0) return host_errno();
  if (fcntl(slave.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0) return host_errno();

  std::unique_ptr<HostConsole> console(new HostConsole(kernel.watcher(), *terminal, std::move(slave)));
  console->event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!console->event_) return host_errno();
  console->devpts_ = devpts;
  console->update_size();
  Result<std::unique_ptr<WindowWatcher>> window = WindowWatcher::create(console->slave_.get(), console->event_.get());
  if (!window) return window.error();
  console->window_ = *std::move(window);
  HostConsole* raw = console.get();
  console->event_watch_ = TRY(kernel.watcher().add(console->event_.get(), [raw](Events) { raw->poked(); }));
  console->slave_watch_ = TRY(kernel.watcher().add(console->slave_.get(), [raw](Events events) { raw->host_ready(events); }));
  terminal->set_behind(std::move(console));
  kernel.watcher().arm(raw->event_watch_, raw->event_.get(), POLLIN);
  raw->arm();
  return {};
}

HostConsole::~HostConsole() {
  // First what may be giving the slave up just now (poked), and is waited for.
  if (event_watch_ != 0) watcher_.remove(event_watch_, event_.get());
  if (slave_watch_ != 0) watcher_.remove(slave_watch_, slave_.get());
  if (const auto devpts = devpts_.lock()) devpts->remove(terminal_.index);
}

void HostConsole::arm() {
  std::lock_guard guard(arm_lock_);
  if (over_) return;
  // Without interest a hang-up is still reported.
  watcher_.arm(slave_watch_, slave_.get(), (wants_input_ ? POLLIN : 0U) | (wants_output_ ? POLLOUT : 0U));
}

void HostConsole::poke() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = write(event_.get(), &one, sizeof one);
}

// The window's size may have changed, or the last slave has been closed.
void HostConsole::poked() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t ignored = read(event_.get(), &count, sizeof count);
  update_size();
  write_output();
  read_input();
  arm();
  if (terminal_.output_over()) {
    bool closes = false;
    {
      std::lock_guard guard(arm_lock_);
      closes = !std::exchange(over_, true);
    }
    if (closes) {
      // All output has gone to the host's terminal: closing it is what the engine reads as the end.
      window_.reset();
      watcher_.remove(slave_watch_, slave_.get());
      slave_watch_ = 0;
      terminal_.refuse_slaves();
      std::lock_guard input(input_lock_);
      std::lock_guard output(output_lock_);
      slave_.reset();
      return;
    }
  }
  watcher_.arm(event_watch_, event_.get(), POLLIN);
}

void HostConsole::update_size() {
  WindowSize size;
  if (slave_ && ioctl(slave_.get(), TIOCGWINSZ, &size) == 0) terminal_.set_window_size(size);
}

void HostConsole::host_ready(Events events) {
  if ((events & POLLOUT) != 0) {
    {
      std::lock_guard guard(arm_lock_);
      wants_output_ = false;
    }
    write_output();
  }
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) read_input();
  arm();
}

void HostConsole::room_made() {
  {
    std::lock_guard guard(arm_lock_);
    if (wants_input_ || over_) return;
  }
  poke();  // the watcher's thread goes on
}

void HostConsole::read_input() {
  std::lock_guard guard(input_lock_);
  for (;;) {
    if (!typed_.empty()) {
      typed_.erase(0, terminal_.type(typed_));
      if (!typed_.empty()) break;
    }
    char bytes[1024];
    if (!slave_) return;
    const ssize_t got = read(slave_.get(), bytes, sizeof bytes);
    if (got > 0) {
      typed_.assign(bytes, static_cast<size_t>(got));
      continue;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
    // Whoever held the master has closed it.
    {
      std::lock_guard arm_guard(arm_lock_);
      over_ = true;
    }
    terminal_.hang_up();
    return;
  }
  std::lock_guard arm_guard(arm_lock_);
  wants_input_ = typed_.empty();
}

void HostConsole::output_ready() { write_output(); }

void HostConsole::write_output() {
  bool full = false;
  {
    std::lock_guard guard(output_lock_);
    while (slave_ && !full) {
      const std::string taken = terminal_.take_output(4096);
      if (taken.empty()) break;
      const ssize_t put = write(slave_.get(), taken.data(), taken.size());
      const size_t done = put > 0 ? static_cast<size_t>(put) : 0;
      if (put < 0 && errno != EAGAIN && errno != EINTR) break;  // nobody reads any more: it is lost
      if (done == taken.size()) continue;
      terminal_.put_output_back(std::string_view(taken).substr(done));
      full = put >= 0 || errno == EAGAIN;
    }
    if (full) {
      std::lock_guard arm_guard(arm_lock_);
      wants_output_ = true;
    }
  }
  if (full) arm();
}

Result<std::shared_ptr<Terminal>> make_console(Kernel& kernel, Container& container, UniqueFd slave, uid_t uid) {
  std::shared_ptr<Devpts> devpts;
  const std::vector<MountRef> mounts = container.mounts->all();
  for (auto mount = mounts.rbegin(); mount != mounts.rend() && !devpts; ++mount) devpts = std::dynamic_pointer_cast<Devpts>((*mount)->fs);
  const std::shared_ptr<Terminal> terminal = devpts ? TRY(devpts->make_terminal(kernel, uid, 0)) : std::make_shared<Terminal>(kernel, 0);
  Result<void> attached = HostConsole::attach(kernel, terminal, std::move(slave), devpts);
  if (!attached) {
    if (devpts) devpts->remove(terminal->index);
    return attached.error();
  }
  return terminal;
}

Result<FileRef> open_console(Container& container, const std::shared_ptr<Terminal>& terminal) {
  Path place;
  for (const MountRef& mount : container.mounts->all()) {
    const auto devpts = std::dynamic_pointer_cast<Devpts>(mount->fs);
    if (!devpts) continue;
    Result<InodeRef> node = devpts->node(terminal->index);
    if (node) place = {mount, mount->root->child(std::to_string(terminal->index), *node)};
  }
  return TerminalFile::make(terminal, place, O_RDWR);
}

}  // namespace caisson::kernel
