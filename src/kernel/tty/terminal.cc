#include "kernel/tty/terminal.h"

#include <asm/termbits.h>
#include <signal.h>
#include <string.h>

#include <algorithm>

#include "kernel/fs/common/node.h"
#include "kernel/signal/send.h"
#include "kernel/task/exit.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

using abi::sig_bit;

Terminal::~Terminal() = default;

void Terminal::set_behind(std::unique_ptr<Behind> behind) {
  behind_ = std::move(behind);
  behind_->output_ready();
}

// Does what an operation has caused; no lock is held.
void Terminal::act(const Effects& effects, bool from_master) {
  for (const char signal : effects.signals) signal_foreground(signal);
  if (effects.packet_status != 0) {
    std::lock_guard guard(lock_);
    if (packet_mode_) packet_status_ |= effects.packet_status;
  }
  if (effects.input) slave_queue.wake(POLLIN | POLLRDNORM);
  if (effects.output) {
    master_queue.wake(POLLIN | POLLRDNORM);
    if (behind_) behind_->output_ready();
    slave_queue.wake(POLLOUT | POLLWRNORM);
  }
  if (effects.packet_status != 0) master_queue.wake(POLLIN | POLLPRI);
  if (effects.room) {
    master_queue.wake(POLLOUT | POLLWRNORM);
    if (behind_ && !from_master) behind_->room_made();
  }
}

void Terminal::signal_foreground(int signal) {
  std::lock_guard guard(kernel_.tasks);
  if (foreground_) (void)send_to_process_group_locked(foreground_, user_signal(signal, nullptr));
}

void Terminal::attach_locked(ThreadGroup& leader) {
  leader.terminal = shared_from_this();
  session_ = leader.sid;
  foreground_ = leader.pgid;
}

void Terminal::release_session_locked(bool tell_foreground, bool leader_ends) {
  const TaskIdRef session = std::exchange(session_, nullptr), foreground = std::exchange(foreground_, nullptr);
  if (!session) return;
  const auto self = weak_from_this().lock();  // the groups may be the last to hold it
  for (const auto& [pid, group] : session->space()->groups) {
    if (group->terminal.get() != this) continue;
    group->terminal.reset();
    if (group->sid != group->id || group->zombie) continue;
    send_to_group_locked(*group, user_signal(SIGHUP, nullptr));
    send_to_group_locked(*group, user_signal(SIGCONT, nullptr));
  }
  if (!tell_foreground || !foreground) return;
  (void)send_to_process_group_locked(foreground, user_signal(SIGHUP, nullptr));
  if (!leader_ends) (void)send_to_process_group_locked(foreground, user_signal(SIGCONT, nullptr));
}

void session_leader_ends_locked(ThreadGroup& group) {
  const std::shared_ptr<Terminal> terminal = group.terminal;
  group.terminal.reset();
  if (!terminal || group.sid != group.id || terminal->session_locked() != group.sid) return;
  terminal->release_session_locked(true, true);
}

// A process of the background must not read; nor write where TOSTOP says so; nor change settings.
Result<void> Terminal::check_foreground(Task& task, int signal) {
  std::lock_guard guard(kernel_.tasks);
  ThreadGroup& group = *task.group;
  if (group.terminal.get() != this || session_ != group.sid || !foreground_ || group.pgid == foreground_) return {};
  const bool ignored = (task.blocked & sig_bit(signal)) != 0 || group.handlers->get(signal).handler == 1;
  if (ignored) return signal == SIGTTIN ? Result<void>(Errno(EIO)) : Result<void>();
  if (is_orphaned_locked(group)) return Errno(EIO);
  (void)send_to_process_group_locked(group.pgid, user_signal(signal, nullptr));
  return Errno(kRestartSys);
}

Result<uint64_t> Terminal::open_slave(Task* task) {
  std::lock_guard guard(lock_);
  if (slave_locked_ || master_gone_) return Errno(EIO);
  if (exclusive_ && slaves_ > 0 && task != nullptr && !task->creds->has(kCapSysAdmin)) return Errno(EBUSY);
  ++slaves_;
  slave_closed_ = false;
  return generation_;
}

void Terminal::close_slave(uint64_t generation) {
  {
    std::lock_guard guard(lock_);
    if (generation != generation_ || --slaves_ > 0) return;
    slave_closed_ = true;
    exclusive_ = false;
  }
  master_queue.wake(POLLIN | POLLHUP);
  if (behind_) behind_->slaves_gone();
}

bool Terminal::hung_up(uint64_t generation) const {
  std::lock_guard guard(lock_);
  return generation != generation_;
}

// Whoever has the slave open finds it dead.
void Terminal::hang_up_slaves_locked() {
  ++generation_;
  slaves_ = 0;
  slave_closed_ = true;
}

void Terminal::hang_up() {
  {
    std::lock_guard guard(lock_);
    master_gone_ = true;
    drained_.notify_all();
    hang_up_slaves_locked();
  }
  {
    std::lock_guard guard(kernel_.tasks);
    release_session_locked(false);
  }
  slave_queue.wake(POLLIN | POLLOUT | POLLHUP | POLLERR);
}

void Terminal::refuse_slaves() {
  std::lock_guard guard(lock_);
  master_gone_ = true;
}

Result<size_t> Terminal::read_now(IoBuffer& buffer, uint64_t generation, bool nonblocking, bool timed_out) {
  Effects effects;
  std::string taken;
  {
    std::lock_guard guard(lock_);
    if (generation != generation_) return size_t{0};
    const TerminalSettings& settings = discipline_.settings();
    const bool lines = (settings.local & ICANON) != 0;
    const bool never_waits = !lines && settings.keys[VMIN] == 0 && (settings.keys[VTIME] == 0 || timed_out);
    if (!never_waits && !discipline_.ready(nonblocking || timed_out ? 1 : buffer.left())) return Errno(EAGAIN);
    taken = discipline_.read(std::min(buffer.left(), LineDiscipline::kMostInput), effects);
  }
  const Result<size_t> put = buffer.put(taken.data(), taken.size());
  const size_t delivered = put ? *put : 0;
  if (delivered < taken.size()) {
    std::lock_guard guard(lock_);
    discipline_.put_back(taken.substr(delivered));
  }
  act(effects, false);
  if (!put && !taken.empty()) return put.error();
  return delivered;
}

// VTIME: with VMIN 0 the time until the first byte, else the time between bytes (termios(3)).
Result<size_t> Terminal::read_timed(Task& task, IoBuffer& buffer, uint64_t generation) {
  TaskWaiter waiter(task, slave_queue, POLLIN | POLLHUP);
  size_t seen = 0;
  Deadline deadline = Deadline::never();
  for (;;) {
    task.prepare_to_block();
    bool enough = false, first = false;
    {
      std::lock_guard guard(lock_);
      const TerminalSettings& settings = discipline_.settings();
      const size_t there = discipline_.readable();
      const size_t least = std::min<size_t>(std::max<size_t>(settings.keys[VMIN], 1), buffer.left());
      enough = generation != generation_ || (settings.local & ICANON) != 0 || settings.keys[VTIME] == 0 || there >= least;
      first = there != seen || (seen == 0 && settings.keys[VMIN] == 0 && deadline.is_never());
      seen = there;
      if (first) deadline = Deadline::after(settings.keys[VTIME] * 100'000'000L);
    }
    if (enough) return read_now(buffer, generation, false, seen > 0);
    const Result<void> slept = task.block(deadline);
    if (slept) continue;
    if (slept.error() == Errno(ETIMEDOUT)) return read_now(buffer, generation, false, true);
    return slept.error();
  }
}

Result<size_t> Terminal::read(Task& task, IoBuffer& buffer, uint64_t generation, bool nonblocking) {
  if (hung_up(generation)) return size_t{0};
  TRY(check_foreground(task, SIGTTIN));
  if (buffer.empty()) return size_t{0};
  bool timed = false;
  {
    std::lock_guard guard(lock_);
    const TerminalSettings& settings = discipline_.settings();
    timed = (settings.local & ICANON) == 0 && settings.keys[VTIME] != 0;
  }
  if (timed && !nonblocking) return read_timed(task, buffer, generation);
  return read_now(buffer, generation, nonblocking, false);
}

Result<size_t> Terminal::write(Task& task, IoBuffer& buffer, uint64_t generation) {
  if (hung_up(generation)) return Errno(EIO);
  if ((settings().local & TOSTOP) != 0) TRY(check_foreground(task, SIGTTOU));
  size_t done = 0;
  char piece[2048];
  while (!buffer.empty()) {
    {
      std::lock_guard guard(lock_);
      if (generation != generation_) return done > 0 ? Result<size_t>(done) : Errno(EIO);
      // A piece goes in whole, however much it becomes (a tab: eight bytes), because what was taken from the guest must not be lost.
      if (discipline_.output_full()) break;
    }
    const Result<size_t> taken = buffer.take(piece, sizeof piece);
    if (!taken) return done > 0 ? Result<size_t>(done) : taken;
    if (*taken == 0) break;
    Effects effects;
    {
      std::lock_guard guard(lock_);
      discipline_.output_whole({piece, *taken}, effects);
    }
    done += *taken;
    act(effects, false);
  }
  if (done == 0 && !buffer.empty()) return Errno(EAGAIN);
  return done;
}

Events Terminal::poll_slave(uint64_t generation) const {
  std::lock_guard guard(lock_);
  if (generation != generation_) return POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDNORM | POLLWRNORM;
  Events events = 0;
  if (discipline_.ready(~size_t{0})) events |= POLLIN | POLLRDNORM;
  if (!discipline_.output_full()) events |= POLLOUT | POLLWRNORM;
  return events;
}

size_t Terminal::type(std::string_view bytes) {
  size_t used = 0;
  while (used < bytes.size()) {
    Effects effects;
    size_t now = 0;
    {
      std::lock_guard guard(lock_);
      now = discipline_.input(bytes.substr(used, 1024), effects);
    }
    act(effects, true);
    if (now == 0) break;
    used += now;
  }
  return used;
}

std::string Terminal::take_output(size_t most) {
  Effects effects;
  std::string taken;
  {
    std::lock_guard guard(lock_);
    taken = discipline_.take_output(most, effects);
    if (discipline_.output_pending() == 0 && taken.empty()) drained_.notify_all();
  }
  if (!taken.empty()) slave_queue.wake(POLLOUT | POLLWRNORM);
  return taken;
}

void Terminal::put_output_back(std::string_view bytes) {
  std::lock_guard guard(lock_);
  discipline_.put_output_back(bytes);
}

bool Terminal::drain(int milliseconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  const auto empty = [this] { return master_gone_ || discipline_.output_pending() == 0; };
  for (;;) {
    {
      std::unique_lock guard(lock_);
      if (!drained_.wait_until(guard, until, empty)) return false;
    }
    // What was on its way may have come back.
    if (behind_) behind_->settle();
    std::lock_guard guard(lock_);
    if (empty()) return true;
  }
}

bool Terminal::output_over() const {
  std::lock_guard guard(lock_);
  return slave_closed_ && discipline_.output_pending() == 0;
}

WindowSize Terminal::window_size() const {
  std::lock_guard guard(lock_);
  return size_;
}

void Terminal::set_window_size(WindowSize size) {
  {
    std::lock_guard guard(lock_);
    if (size == size_) return;
    size_ = size;
  }
  signal_foreground(SIGWINCH);
}

TerminalSettings Terminal::settings() const {
  std::lock_guard guard(lock_);
  return discipline_.settings();
}

void Terminal::set_settings(const TerminalSettings& settings) {
  Effects effects;
  {
    std::lock_guard guard(lock_);
    discipline_.set_settings(settings, effects);
  }
  act(effects, false);
}

void Terminal::lock_slave() {
  std::lock_guard guard(lock_);
  slave_locked_ = true;
}

bool Terminal::locked() const {
  std::lock_guard guard(lock_);
  return slave_locked_;
}

}  // namespace caisson::kernel
