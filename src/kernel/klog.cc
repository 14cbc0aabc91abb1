#include "kernel/klog.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace caisson::kernel {
namespace {

constexpr size_t kMostLine = 1024, kKinds = 64;

int g_fd = 2;
LogLevel g_least = LogLevel::Info;
std::atomic<int64_t> g_log_left{kMostLogged}, g_trace_left{kMostTraced};
std::atomic<uint32_t> g_lost{0};
std::atomic<bool> g_stuck{false};  // nobody has read for so long that no line waits any more

// The log may be a pipe that never lets us wait (src/appkernel/kernel_log.h). Lines that somebody has asked for wait for its reader a
// little. False: the line is lost.
bool put(const char* text, size_t size, bool patient) {
  constexpr int kPatience = 200;  // milliseconds
  for (int attempt = 0;; ++attempt) {
    if (::write(g_fd, text, size) >= 0) {
      g_stuck.store(false, std::memory_order_relaxed);
      return true;
    }
    if (errno != EAGAIN || !patient || attempt > 0 || g_stuck.load(std::memory_order_relaxed)) return false;
    pollfd entry{g_fd, POLLOUT, 0};
    if (poll(&entry, 1, kPatience) <= 0) g_stuck.store(true, std::memory_order_relaxed);
  }
}

// Lines of one format.
struct Kind {
  std::atomic<const char*> format{nullptr};
  std::atomic<int64_t> due{0};  // CLOCK_MONOTONIC: when it would be this kind's turn if lines came evenly
  std::atomic<uint32_t> left_out{0};
};
Kind g_kinds[kKinds];

// Its place; formats beyond the table's size share the last one.
Kind& kind_of(const char* format) {
  for (Kind& kind : g_kinds) {
    const char* known = kind.format.load(std::memory_order_relaxed);
    if (known == nullptr && kind.format.compare_exchange_strong(known, format, std::memory_order_relaxed)) known = format;
    if (known == format) return kind;
  }
  return g_kinds[kKinds - 1];
}

int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

// Whether it is this kind's turn.
bool admit(Kind& kind) {
  const int64_t time = now();
  int64_t due = kind.due.load(std::memory_order_relaxed);
  do {
    if (due - time > (kLinesAtOnce - 1) * kLineEvery) {
      kind.left_out.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
  } while (!kind.due.compare_exchange_weak(due, std::max(due, time) + kLineEvery, std::memory_order_relaxed));
  return true;
}

class Line {
 public:
  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add(format, arguments);
    va_end(arguments);
  }
  void add(const char* format, va_list arguments) {
    // Room for the newline and the terminating zero.
    const size_t room = sizeof text_ - 1 - used_;
    const int size = vsnprintf(text_ + used_, room, format, arguments);
    used_ += std::min<size_t>(size > 0 ? static_cast<size_t>(size) : 0, room - 1);
  }
  // As long as there is something left of the budget; its end is told, once.
  void write(std::atomic<int64_t>& left, const char* end) {
    // Text from guests must not forge lines or drive a terminal.
    for (size_t i = 0; i < used_; ++i)
      if (static_cast<unsigned char>(text_[i]) < 0x20 || text_[i] == 0x7f) text_[i] = '?';
    text_[used_++] = '\n';
    if (left.load(std::memory_order_relaxed) <= 0) return;
    const int64_t before = left.fetch_sub(static_cast<int64_t>(used_), std::memory_order_relaxed);
    if (before <= 0) return;
    const bool patient = &left == &g_trace_left;
    if (!put(text_, used_, patient)) {
      g_lost.fetch_add(1, std::memory_order_relaxed);
    } else if (const uint32_t lost = g_lost.exchange(0, std::memory_order_relaxed); lost > 0) {
      char told[80];
      const int size = snprintf(told, sizeof told, "kernel: warning: %u lines before this one were lost\n", lost);
      put(told, static_cast<size_t>(size), patient);
    }
    if (before <= static_cast<int64_t>(used_)) put(end, strlen(end), patient);
  }

 private:
  char text_[kMostLine];
  size_t used_ = 0;
};

}  // namespace

void klog_configure(int fd, LogLevel least) {
  g_fd = fd;
  g_least = least;
}

bool klog_enabled(LogLevel level) { return g_fd >= 0 && level >= g_least; }

void klog(LogLevel level, const char* format, ...) {
  if (!klog_enabled(level)) return;
  Kind& kind = kind_of(format);
  if (level != LogLevel::Debug && !admit(kind)) return;
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  Line line;
  line.add("kernel: %s: ", kNames[static_cast<int>(level)]);
  if (const uint32_t left_out = kind.left_out.exchange(0, std::memory_order_relaxed); left_out > 0)
    line.add("(%u lines like this one were left out) ", left_out);
  va_list arguments;
  va_start(arguments, format);
  line.add(format, arguments);
  va_end(arguments);
  line.write(g_log_left, "kernel: warning: the log is full: all further lines of this container's kernel are left out\n");
}

void klog_begin_trace() { g_trace_left = kMostTraced; }

void klog_trace(const char* format, ...) {
  if (!klog_enabled(LogLevel::Info)) return;
  Line line;
  line.add("kernel: info: ");
  va_list arguments;
  va_start(arguments, format);
  line.add(format, arguments);
  va_end(arguments);
  line.write(g_trace_left,
             "kernel: warning: no more system calls are logged: there were 64 MiB of them; 'caisson debug --strace on' goes on\n");
}

}  // namespace caisson::kernel
