#include "kernel/klog.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

namespace caisson::kernel {
namespace {
int g_fd = 2;
LogLevel g_least = LogLevel::Info;
}  // namespace

void klog_configure(int fd, LogLevel least) {
  g_fd = fd;
  g_least = least;
}

bool klog_enabled(LogLevel level) { return g_fd >= 0 && level >= g_least; }

void klog(LogLevel level, const char* format, ...) {
  if (!klog_enabled(level)) return;
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  char line[1024];
  int used = snprintf(line, sizeof line, "kernel: %s: ", kNames[static_cast<int>(level)]);
  va_list arguments;
  va_start(arguments, format);
  used += vsnprintf(line + used, sizeof line - used - 1, format, arguments);
  va_end(arguments);
  if (used > static_cast<int>(sizeof line) - 2) used = sizeof line - 2;
  // Text from guests must not forge lines or drive a terminal.
  for (int i = 0; i < used; ++i)
    if (static_cast<unsigned char>(line[i]) < 0x20 || line[i] == 0x7f) line[i] = '?';
  line[used++] = '\n';
  [[maybe_unused]] ssize_t ignored = ::write(g_fd, line, used);
}

}  // namespace caisson::kernel
