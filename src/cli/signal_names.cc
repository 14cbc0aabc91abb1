#include "cli/signal_names.h"

#include <signal.h>
#include <strings.h>

#include <charconv>

namespace caisson::cli {
namespace {

// signal(7). strtosig(3) does not exist; sigabbrev_np(3) gives the names.
constexpr struct {
  const char* name;
  int number;
} kAliases[] = {{"IOT", SIGABRT}, {"CLD", SIGCHLD}, {"IO", SIGIO}, {"POLL", SIGIO}};
// As the kernel counts, and so what arrives in any container: the C library keeps 32 and 33 for itself.
constexpr int kRealTimeMin = 34;
constexpr int kRealTimeMax = 64;

Result<int> parse_real_time(const std::string& name, const std::string& text) {
  bool from_min = name.compare(0, 5, "RTMIN") == 0;
  int base = from_min ? kRealTimeMin : kRealTimeMax;
  if (name.size() == 5) return base;
  char sign = name[5];
  int offset = 0;
  auto [end, failed] = std::from_chars(name.data() + 6, name.data() + name.size(), offset);
  if (sign != (from_min ? '+' : '-') || failed != std::errc() || end != name.data() + name.size() || offset < 0 ||
      offset > kRealTimeMax - kRealTimeMin)
    return make_error(EINVAL, "unknown signal \"{}\"", text);
  return from_min ? base + offset : base - offset;
}

}  // namespace

Result<int> parse_signal(const std::string& text) {
  int number = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed == std::errc() && end == text.data() + text.size()) {
    if (number < 0 || number > kRealTimeMax)
      return make_error(EINVAL, "unknown signal \"{}\": a number from 0 to {} is expected", text, kRealTimeMax);
    return number;
  }
  std::string name = text;
  for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  if (name.compare(0, 3, "SIG") == 0) name.erase(0, 3);
  if (name.compare(0, 5, "RTMIN") == 0 || name.compare(0, 5, "RTMAX") == 0) return parse_real_time(name, text);
  for (const auto& alias : kAliases)
    if (name == alias.name) return alias.number;
  for (int signal = 1; signal < kRealTimeMin; ++signal) {
    const char* known = sigabbrev_np(signal);
    if (known != nullptr && name == known) return signal;
  }
  return make_error(EINVAL, "unknown signal \"{}\"", text);
}

}  // namespace caisson::cli
