#include "cli/sandbox_log.h"

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "host/files.h"

namespace caisson::cli {

void show_sandbox_warnings(const std::string& dir) {
  Result<std::string> text = host::read_file(dir + "/sandbox.log", 1 << 20);
  if (!text.ok()) return;
  constexpr std::string_view kLevel = " level=warning msg=";
  size_t start = 0;
  while (start < text->size()) {
    size_t end = std::min(text->find('\n', start), text->size());
    std::string_view line(text->data() + start, end - start);
    start = end + 1;
    if (line.starts_with("kernel: ")) continue;  // words of guests are in these
    size_t level = line.find(kLevel);
    if (level == std::string_view::npos) continue;
    auto message = nlohmann::json::parse(line.substr(level + kLevel.size()), nullptr, false);
    if (message.is_string()) log::warning("{}", message.get<std::string>());
  }
}

}  // namespace caisson::cli
