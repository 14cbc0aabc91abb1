// tty_ioctl(2).
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <linux/tty.h>
#include <signal.h>
#include <string.h>

#include "kernel/task/kernel.h"
#include "kernel/task/task.h"
#include "kernel/tty/terminal.h"

namespace caisson::kernel {
namespace {

// asm-generic/ioctls.h has them in terms of a struct that only termios.h knows.
constexpr unsigned kGetSettings2 = 0x802c542a, kSetSettings2 = 0x402c542b, kSetSettingsWait2 = 0x402c542c, kSetSettingsFlush2 = 0x402c542d;

// struct termio of old (TCGETA): the low halves of the flags and eight keys.
struct OldSettings {
  uint16_t input, output, control, local;
  uint8_t line, keys[8];
};

uint32_t speed_of(uint32_t control) {
  static constexpr uint32_t kSpeeds[] = {0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400};
  static constexpr uint32_t kHighSpeeds[] = {0,       57600,   115200,  230400,  460800,  500000,  576000,  921600,
                                             1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000};
  const uint32_t index = control & 017;
  return (control & CBAUDEX) != 0 ? kHighSpeeds[index] : kSpeeds[index];
}

// What `locks` names stays as it was (TIOCSLCKTRMIOS): bits of the flags, whole keys.
TerminalSettings with_locks(TerminalSettings wanted, const TerminalSettings& now, const TerminalSettings& locks) {
  const auto keep = [](uint32_t& flags, uint32_t old, uint32_t lock) { flags = (flags & ~lock) | (old & lock); };
  keep(wanted.input, now.input, locks.input);
  keep(wanted.output, now.output, locks.output);
  keep(wanted.control, now.control, locks.control);
  keep(wanted.local, now.local, locks.local);
  for (size_t i = 0; i < wanted.keys.size(); ++i)
    if (locks.keys[i] != 0) wanted.keys[i] = now.keys[i];
  return wanted;
}

bool flushes(unsigned command) { return command == TCSETSF || command == kSetSettingsFlush2 || command == TCSETAF; }

// Calls that a process of the background must not make (tty_check_change in Linux).
bool needs_foreground(unsigned command) {
  switch (command) {
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case TCSETA:
    case TCSETAW:
    case TCSETAF:
    case kSetSettings2:
    case kSetSettingsWait2:
    case kSetSettingsFlush2:
    case TIOCSPGRP:
    case TCFLSH:
    case TCXONC:
    case TCSBRK:
    case TCSBRKP:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<long> Terminal::settings_ioctl(Task& task, unsigned command, uint64_t argument) {
  TerminalSettings now = settings();
  switch (command) {
    case TCGETS:
      TRY(task.write_bytes(argument, &now, kTermiosSize));
      return 0L;
    case kGetSettings2:
      TRY(task.write(UserPtr<TerminalSettings>(argument), now));
      return 0L;
    case TCGETA: {
      OldSettings old{static_cast<uint16_t>(now.input),
                      static_cast<uint16_t>(now.output),
                      static_cast<uint16_t>(now.control),
                      static_cast<uint16_t>(now.local),
                      now.line,
                      {}};
      memcpy(old.keys, now.keys.data(), sizeof old.keys);
      TRY(task.write(UserPtr<OldSettings>(argument), old));
      return 0L;
    }
    case TCSETA:
    case TCSETAW:
    case TCSETAF: {
      const auto old = TRY(task.read(UserPtr<OldSettings>(argument)));
      const auto low = [](uint32_t& flags, uint16_t half) { flags = (flags & 0xffff0000) | half; };
      low(now.input, old.input);
      low(now.output, old.output);
      low(now.control, old.control);
      low(now.local, old.local);
      memcpy(now.keys.data(), old.keys, sizeof old.keys);
      break;
    }
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
      TRY(task.read_bytes(argument, &now, kTermiosSize));
      break;
    default:
      now = TRY(task.read(UserPtr<TerminalSettings>(argument)));
      break;
  }
  {
    std::lock_guard guard(lock_);
    now = with_locks(now, discipline_.settings(), locks_);
  }
  now.line = 0;
  const bool custom = (now.control & CBAUD) == BOTHER;
  if (!custom) now.output_speed = now.input_speed = speed_of(now.control);
  if (flushes(command)) {
    Effects effects;
    {
      std::lock_guard guard(lock_);
      discipline_.flush_input(effects);
    }
    act(effects, false);
  }
  set_settings(now);
  return 0L;
}

Result<void> Terminal::make_controlling(Task& task, bool steal) {
  std::lock_guard guard(kernel_.tasks);
  ThreadGroup& group = *task.group;
  if (group.terminal.get() == this && group.sid == group.id && session_ == group.sid) return {};
  if (group.sid != group.id || group.terminal) return Errno(EPERM);
  if (session_) {
    if (!steal || !task.creds->has(kCapSysAdmin)) return Errno(EPERM);
    // The session that had it just loses it.
    for (const auto& [pid, other] : session_->space()->groups)
      if (other->terminal.get() == this) other->terminal.reset();
  }
  attach_locked(group);
  return {};
}

Result<long> Terminal::job_ioctl(Task& task, unsigned command, uint64_t argument, bool master) {
  switch (command) {
    case TIOCGPGRP:
    case TIOCGSID: {
      pid_t value = 0;
      {
        std::lock_guard guard(kernel_.tasks);
        if (!master && task.group->terminal.get() != this) return Errno(ENOTTY);
        if (command == TIOCGSID && !session_) return Errno(ENOTTY);
        value = number_in(command == TIOCGSID ? session_ : foreground_, *task.group->pids);
      }
      TRY(task.write(UserPtr<int>(argument), value));
      return 0L;
    }
    case TIOCSPGRP: {
      const pid_t wanted = TRY(task.read(UserPtr<int>(argument)));
      std::lock_guard guard(kernel_.tasks);
      ThreadGroup& group = *task.group;
      if (group.terminal.get() != this || session_ != group.sid) return Errno(ENOTTY);
      if (wanted < 0) return Errno(EINVAL);
      TaskIdRef found;
      bool ours = false;
      for (const auto& [pid, other] : group.pids->groups) {
        if (number_in(other->pgid, *group.pids) != wanted) continue;
        found = other->pgid;
        ours |= other->sid == group.sid;
      }
      if (!found || wanted == 0) return Errno(ESRCH);
      if (!ours) return Errno(EPERM);
      foreground_ = found;
      return 0L;
    }
    case TIOCSCTTY:
      TRY(make_controlling(task, argument == 1));
      return 0L;
    default: {  // TIOCNOTTY
      std::lock_guard guard(kernel_.tasks);
      ThreadGroup& group = *task.group;
      if (group.terminal.get() != this) return Errno(ENOTTY);
      if (group.sid == group.id && session_ == group.sid)
        release_session_locked(true);
      else
        group.terminal.reset();
      return 0L;
    }
  }
}

Result<long> Terminal::master_ioctl(Task& task, unsigned command, uint64_t argument) {
  switch (command) {
    case TIOCGPTN:
      TRY(task.write(UserPtr<int>(argument), index));
      return 0L;
    case TIOCSPTLCK: {
      const bool on = TRY(task.read(UserPtr<int>(argument))) != 0;
      std::lock_guard guard(lock_);
      slave_locked_ = on;
      return 0L;
    }
    case TIOCGPTLCK:
      TRY(task.write(UserPtr<int>(argument), static_cast<int>(locked())));
      return 0L;
    case TIOCPKT: {
      const bool on = TRY(task.read(UserPtr<int>(argument))) != 0;
      std::lock_guard guard(lock_);
      if (on && !packet_mode_) packet_status_ = 0;
      packet_mode_ = on;
      return 0L;
    }
    case TIOCGPKT: {
      int on = 0;
      {
        std::lock_guard guard(lock_);
        on = packet_mode_;
      }
      TRY(task.write(UserPtr<int>(argument), on));
      return 0L;
    }
    case TIOCSIG:
      if (argument != SIGINT && argument != SIGQUIT && argument != SIGTSTP) return Errno(EINVAL);
      signal_foreground(static_cast<int>(argument));
      return 0L;
    default:
      return Errno(ENOTTY);
  }
}

Result<long> Terminal::flow_ioctl(unsigned command, uint64_t argument) {
  Effects effects;
  {
    std::lock_guard guard(lock_);
    if (command == TCFLSH) {
      if (argument > TCIOFLUSH) return Errno(EINVAL);
      if (argument != TCOFLUSH) discipline_.flush_input(effects);
      if (argument != TCIFLUSH) discipline_.flush_output(effects);
    } else if (argument == TCOOFF) {
      discipline_.stop_output(effects);
    } else if (argument == TCOON) {
      discipline_.start_output(effects);
    } else if (argument > TCION) {
      return Errno(EINVAL);
    }
  }
  act(effects, false);
  return 0L;
}

Result<long> Terminal::ioctl(Task& task, unsigned command, uint64_t argument, bool master) {
  if (!master && needs_foreground(command)) TRY(check_foreground(task, SIGTTOU));
  switch (command) {
    case TCGETS:
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case TCGETA:
    case TCSETA:
    case TCSETAW:
    case TCSETAF:
    case kGetSettings2:
    case kSetSettings2:
    case kSetSettingsWait2:
    case kSetSettingsFlush2:
      return settings_ioctl(task, command, argument);
    case TIOCGWINSZ:
      TRY(task.write(UserPtr<WindowSize>(argument), window_size()));
      return 0L;
    case TIOCSWINSZ:
      set_window_size(TRY(task.read(UserPtr<WindowSize>(argument))));
      return 0L;
    case TIOCGPGRP:
    case TIOCSPGRP:
    case TIOCGSID:
    case TIOCSCTTY:
    case TIOCNOTTY:
      return job_ioctl(task, command, argument, master);
    case FIONREAD: {
      int count = 0;
      {
        std::lock_guard guard(lock_);
        count = static_cast<int>(master ? discipline_.output_pending() : discipline_.readable());
      }
      TRY(task.write(UserPtr<int>(argument), count));
      return 0L;
    }
    case TIOCOUTQ:
      TRY(task.write(UserPtr<int>(argument), 0));
      return 0L;
    case TCFLSH:
    case TCXONC:
      return flow_ioctl(command, argument);
    case TCSBRK:
    case TCSBRKP:
    case TIOCSBRK:
    case TIOCCBRK:
      return 0L;  // nothing to wait for, no line to break
    case TIOCEXCL:
    case TIOCNXCL: {
      std::lock_guard guard(lock_);
      exclusive_ = command == TIOCEXCL;
      return 0L;
    }
    case TIOCGEXCL: {
      int on = 0;
      {
        std::lock_guard guard(lock_);
        on = exclusive_;
      }
      TRY(task.write(UserPtr<int>(argument), on));
      return 0L;
    }
    case TIOCGLCKTRMIOS: {
      TerminalSettings locks;
      {
        std::lock_guard guard(lock_);
        locks = locks_;
      }
      TRY(task.write_bytes(argument, &locks, kTermiosSize));
      return 0L;
    }
    case TIOCSLCKTRMIOS: {
      if (!task.creds->has(kCapSysAdmin)) return Errno(EPERM);
      TerminalSettings locks;
      TRY(task.read_bytes(argument, &locks, kTermiosSize));
      std::lock_guard guard(lock_);
      locks_ = locks;
      return 0L;
    }
    case TIOCGETD:
      TRY(task.write(UserPtr<int>(argument), N_TTY));
      return 0L;
    case TIOCSETD:
      return TRY(task.read(UserPtr<int>(argument))) == N_TTY ? Result<long>(0L) : Errno(EINVAL);
    case TIOCGDEV:
      TRY(task.write(UserPtr<unsigned>(argument), 136U << 8 | static_cast<unsigned>(index & 0xff)));
      return 0L;
    case TIOCSTI:
      return Errno(EIO);  // as Linux has it since 6.2: typing for others is not allowed
    default:
      return master ? master_ioctl(task, command, argument) : Errno(ENOTTY);
  }
}

}  // namespace caisson::kernel
