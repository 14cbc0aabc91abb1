// A process whose calls somebody else makes: the first thread of a process of this host is stopped and made to do host calls with exactly
// what it has (privileges, namespaces, root directory, descriptors, filter), as an intruder who has taken it would. By ptrace(2).
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include <optional>
#include <string>
#include <string_view>

// Outcomes of a call beside results and negative error numbers.
inline constexpr long kTrapped = -10'000;  // a filter has it trap: it has not been made
inline constexpr long kKilled = -10'001;   // the process has died of it, or had before

class Puppet {
 public:
  // nullopt: it cannot be traced; errno says why.
  static std::optional<Puppet> possess(pid_t pid);

  pid_t pid() const { return pid_; }
  bool alive() const { return alive_; }
  // What it has died of; 0: it lives.
  int signal() const { return signal_; }
  // One host call of its. The result, a negative error number, kTrapped or kKilled.
  long call(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0, uint64_t f = 0);
  // The same by the gate of 32-bit programs: the number is that of i386.
  long call32(long number, uint32_t a = 0, uint32_t b = 0);
  // Puts bytes, and a zero behind them, into a page of its own that changes with each of 16 calls. Where they are.
  uint64_t put(std::string_view bytes);
  std::string get(uint64_t address, size_t size) const;
  // Goes on with what it was doing.
  void release();

 private:
  explicit Puppet(pid_t pid) : pid_(pid) {}
  long step(user_regs_struct registers);
  bool wait(int& status);

  pid_t pid_;
  bool alive_ = true;
  int signal_ = 0;
  user_regs_struct saved_{};
  uint64_t gate_ = 0, memory_ = 0;  // where the syscall instruction is, and its scratch memory
  long text_ = 0;                   // what was there
  unsigned next_ = 0;
};
