#include "base/log.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <set>
#include <string>

#include "base/unique_fd.h"
#include "base/utf8.h"

namespace caisson::log {
namespace {

struct Sink {
  UniqueFd owned;
  int fd = STDERR_FILENO;
  Format format = Format::Text;
  Level level = Level::Info;
  bool mirror_errors = false;
  bool each_warning_once = false;
  int muted = 0;  // how many Muted there are
  std::set<std::string, std::less<>> warnings;
};

Sink& sink() {
  static Sink* instance = new Sink;  // never destroyed: destructors of others may still log
  return *instance;
}

const char* level_name(Level level) {
  switch (level) {
    case Level::Debug:
      return "debug";
    case Level::Info:
      return "info";
    case Level::Warning:
      return "warning";
    case Level::Error:
      return "error";
  }
  return "error";
}

// Now as RFC 3339 in UTC, with milliseconds.
std::string timestamp() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                     parts.tm_min, parts.tm_sec, now.tv_nsec / 1000000);
}

// One write, so that lines of several processes that append to one file do not mix.
void put(int fd, std::string_view line) {
  while (!line.empty()) {
    ssize_t written = ::write(fd, line.data(), line.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // nobody to tell
    line.remove_prefix(static_cast<size_t>(written));
  }
}

// What a person reads on a terminal.
std::string plain_line(Level level, std::string_view message) {
  std::string_view kind = level == Level::Error ? "" : level == Level::Warning ? "warning: " : level == Level::Info ? "" : "debug: ";
  return fmt::format("caisson: {}{}\n", kind, printable(message));
}

}  // namespace

Result<void> configure(const std::string& path, Format format, Level level) {
  Sink& to = sink();
  to.format = format;
  to.level = level;
  to.mirror_errors = !path.empty();
  if (path.empty()) {
    to.owned.reset();
    to.fd = STDERR_FILENO;
    return {};
  }
  UniqueFd file(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600));
  if (!file) {
    Error failure = errno_error("cannot open the log file {}", path);
    to.mirror_errors = false;
    to.fd = STDERR_FILENO;
    return failure;
  }
  to.owned = std::move(file);
  to.fd = to.owned.get();
  return {};
}

void to_descriptor(int fd) {
  Sink& to = sink();
  to.owned.reset();
  to.fd = fd;
  to.mirror_errors = false;
}

Muted::Muted() { ++sink().muted; }
Muted::~Muted() { --sink().muted; }

int descriptor() { return sink().fd; }

bool enabled(Level level) { return level >= sink().level && sink().fd >= 0; }

void repeat_no_warning() { sink().each_warning_once = true; }

void write(Level level, std::string_view message) {
  if (sink().muted > 0) return;
  int saved_errno = errno;
  if (level == Level::Warning && sink().each_warning_once && !sink().warnings.emplace(message).second) return;
  const Sink& to = sink();
  if (enabled(level)) {
    if (to.format == Format::Json) {
      put(to.fd, fmt::format("{{\"level\":\"{}\",\"msg\":{},\"time\":\"{}\"}}\n", level_name(level), json_string(message), timestamp()));
    } else if (to.fd == STDERR_FILENO) {
      put(to.fd, plain_line(level, message));
    } else {
      put(to.fd, fmt::format("time=\"{}\" level={} msg={}\n", timestamp(), level_name(level), json_string(message)));
    }
  }
  if (level == Level::Error && to.mirror_errors) put(STDERR_FILENO, plain_line(level, message));
  errno = saved_errno;
}

}  // namespace caisson::log
