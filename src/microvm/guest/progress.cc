#include "microvm/guest/progress.h"

#include <fmt/format.h>
#include <unistd.h>

namespace caisson::microvm {
namespace {

void put(const std::string& text) { (void)!write(STDERR_FILENO, text.data(), text.size()); }

}  // namespace

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (!quiet_ && terminal_ && !text_.empty()) put("\n");
}

void Progress::step(std::string text) {
  text_ = std::move(text);
  tenths_ = 0;
  draw(-1);
}

void Progress::update(double share) {
  if (terminal_) return draw(share);
  const int tenths = static_cast<int>(share * 10);
  if (tenths <= tenths_) return;
  tenths_ = tenths;
  draw(share);
}

void Progress::done(const std::string& text) {
  if (!quiet_) put(fmt::format("{}{}\n", terminal_ ? "\r\x1b[K" : "", text));
  text_.clear();
}

void Progress::draw(double share) {
  if (quiet_) return;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begun_).count();
  const std::string percent = share < 0 ? "" : fmt::format(", {:.0f} %", std::min(share, 0.99) * 100);
  const std::string line = fmt::format("[{}:{:02}] {}{}", seconds / 60, seconds % 60, text_, percent);
  put(terminal_ ? fmt::format("\r\x1b[K{}", line) : line + "\n");
}

}  // namespace caisson::microvm
