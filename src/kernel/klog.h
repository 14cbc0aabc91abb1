// Lines from the kernel process: printf-like, one write(2) each, no allocation and no lock, safe from every thread and signal handler.
// What guests can provoke without end is bounded: of each kind of line (a format) a few at once, then one a second, and all together
// kMostLogged bytes; what is left out is counted in the next line of its kind.
#pragma once

#include <cstdint>

namespace caisson::kernel {

enum class LogLevel { Debug, Info, Warning, Error };

inline constexpr int64_t kMostLogged = 8 << 20;       // bytes of a kernel process's life
inline constexpr int64_t kMostTraced = 64 << 20;      // bytes of system calls, each time that somebody wants to see them
inline constexpr int kLinesAtOnce = 20;               // of one kind, Debug but for the total
inline constexpr int64_t kLineEvery = 1'000'000'000;  // nanoseconds, from then on

// fd: where lines go, borrowed; -1: nowhere. Before the first thread is made.
void klog_configure(int fd, LogLevel least);
bool klog_enabled(LogLevel level);
[[gnu::format(printf, 2, 3)]] void klog(LogLevel level, const char* format, ...);

// Lines about system calls, which somebody has asked for: not thinned out, kMostTraced bytes from the last klog_begin_trace on.
void klog_begin_trace();
[[gnu::format(printf, 1, 2)]] void klog_trace(const char* format, ...);

}  // namespace caisson::kernel
