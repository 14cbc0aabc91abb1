#include "kernel/syscalls/table.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "kernel/klog.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/seccomp/enforce.h"
#include "kernel/syscalls/families.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kMost = 512;

struct Table {
  std::array<const SyscallRow*, kMost> rows{};
  Table() {
    for (std::span<const SyscallRow> family : syscall_families())
      for (const SyscallRow& row : family) rows[row.number] = &row;
  }
};

const Table& table_of_rows() {
  static const Table table;
  return table;
}

std::atomic<bool> g_strace{false};
std::array<std::atomic<bool>, kMost> g_told{};

std::string describe(Task& task, const SyscallRow& row, const SyscallArguments& arguments) {
  std::string text = std::string(row.name) + "(";
  for (int i = 0; i < row.arity; ++i) {
    char piece[128];
    const uint64_t value = arguments[i];
    switch (row.kinds[i]) {
      case ArgumentKind::Signed:
      case ArgumentKind::Descriptor:
        snprintf(piece, sizeof piece, "%ld", static_cast<long>(static_cast<int>(value)));
        break;
      case ArgumentKind::Unsigned:
        snprintf(piece, sizeof piece, "%#lx", static_cast<unsigned long>(value));
        break;
      case ArgumentKind::Pointer:
        snprintf(piece, sizeof piece, "%#lx", static_cast<unsigned long>(value));
        break;
      case ArgumentKind::Text: {
        const auto name = value != 0 ? task.read_string(UserPtr<const char>(value), 200) : Result<std::string>(Errno(EFAULT));
        snprintf(piece, sizeof piece, name ? "\"%.100s\"" : "?", name ? name->c_str() : "");
      }
    }
    text += (i > 0 ? ", " : "") + std::string(piece);
  }
  return text + ")";
}

Result<long> call(Task& task, uint64_t number, const SyscallArguments& arguments) {
  const SyscallRow* row = find_syscall(number);
  if (row != nullptr && row->handler != nullptr) return row->handler(task, arguments);
  if (number < kMost && !g_told[number].exchange(true))
    klog(LogLevel::Info, "%s: system call %lu (%s) is not implemented", task.name.c_str(), static_cast<unsigned long>(number),
         row != nullptr ? row->name : "unknown");
  return Errno(ENOSYS);
}

}  // namespace

const SyscallRow* find_syscall(uint64_t number) { return number < kMost ? table_of_rows().rows[number] : nullptr; }

std::vector<const SyscallRow*> all_syscalls() {
  std::vector<const SyscallRow*> all;
  for (const SyscallRow* row : table_of_rows().rows)
    if (row != nullptr) all.push_back(row);
  return all;
}

void strace_configure(bool on) {
  if (on) klog_begin_trace();
  g_strace = on;
}
bool strace_is_on() { return g_strace; }

long dispatch_syscall(Task& task) {
  if (task.seccomp.on())
    if (const std::optional<long> answer = check_seccomp(task)) return *answer;
  // Now: the filter's tracer may have made another call of it.
  const abi::Registers& regs = task.call_registers();
  const SyscallArguments arguments = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
  const uint64_t number = task.syscall_number;
  if (!g_strace.load(std::memory_order_relaxed)) {
    const Result<long> result = call(task, number, arguments);
    return result ? *result : -result.error().value;
  }
  const SyscallRow* row = find_syscall(number);
  const std::string text = row != nullptr ? describe(task, *row, arguments) : "syscall_" + std::to_string(number);
  const int64_t begin = monotonic_now();
  const Result<long> result = call(task, number, arguments);
  const long value = result ? *result : -result.error().value;
  const char* name = result ? nullptr : strerrorname_np(result.error().value);
  klog_trace("[%d] %s = %ld %s <%ld us>", task.tid, text.c_str(), value, name != nullptr ? name : "",
             static_cast<long>((monotonic_now() - begin) / 1000));
  return value;
}

}  // namespace caisson::kernel
