// Logging: one line per event to one descriptor, as text or as JSON in runc's form
// ({"level":"error","msg":"...","time":"RFC3339"}).
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "base/result.h"

namespace caisson::log {

enum class Level { Debug, Info, Warning, Error };
enum class Format { Text, Json };

// Where lines go from now on. path "": standard error. The file is opened for append and created 0600; then Error lines are also written as
// "caisson: <message>" to standard error, as people expect from a command.
Result<void> configure(const std::string& path, Format format, Level level);
// Keeps the format and level and writes to a descriptor that the caller keeps open; -1: drop everything.
void to_descriptor(int fd);
// Where lines go now; borrowed, -1: nowhere.
int descriptor();
bool enabled(Level level);
// From now on a warning is written once only: for a command, which reads one document on several ways.
void repeat_no_warning();
void write(Level level, std::string_view message);

// While there is one, nothing is written.
class Muted {
 public:
  Muted();
  ~Muted();
  Muted(const Muted&) = delete;
  Muted& operator=(const Muted&) = delete;
};

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::Debug)) write(Level::Debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::Info)) write(Level::Info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::Warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::Error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace caisson::log
