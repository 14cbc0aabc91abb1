#include "microvm/guest/kernel_config.h"

#include <map>
#include <optional>

namespace caisson::microvm {
namespace {

struct Option {
  std::string name, value;  // value "n": not set
};

std::optional<Option> parse_option(std::string_view line) {
  constexpr std::string_view kUnset = " is not set";
  if (line.starts_with("# CONFIG_") && line.ends_with(kUnset))
    return Option{std::string(line.substr(2, line.size() - 2 - kUnset.size())), "n"};
  const size_t equals = line.find('=');
  if (!line.starts_with("CONFIG_") || equals == std::string_view::npos) return std::nullopt;
  return Option{std::string(line.substr(0, equals)), std::string(line.substr(equals + 1))};
}

template <typename Visit>
void each_option(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (auto option = parse_option(line)) visit(std::move(*option));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
}

}  // namespace

std::vector<std::string> dropped_options(std::string_view asked, std::string_view made) {
  std::map<std::string, std::string> values;
  each_option(made, [&](Option option) { values[option.name] = option.value; });
  std::vector<std::string> dropped;
  each_option(asked, [&](Option option) {
    auto found = values.find(option.name);
    const std::string value = found == values.end() ? "n" : found->second;
    if (value != option.value) dropped.push_back(option.name + "=" + option.value);
  });
  return dropped;
}

}  // namespace caisson::microvm
