// Lines from the kernel process: printf-like, one write(2) each, no allocation, safe from every thread.
#pragma once

namespace caisson::kernel {

enum class LogLevel { Debug, Info, Warning, Error };

// fd: where lines go, borrowed; -1: nowhere. Before the first thread is made.
void klog_configure(int fd, LogLevel least);
bool klog_enabled(LogLevel level);
[[gnu::format(printf, 2, 3)]] void klog(LogLevel level, const char* format, ...);

}  // namespace caisson::kernel
