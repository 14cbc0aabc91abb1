#include "shim/arguments.h"

namespace caisson::shim {
namespace {

struct TextFlag {
  const char* name;
  std::string Arguments::*member;
};
constexpr TextFlag kTextFlags[] = {
    {"namespace", &Arguments::namespace_},
    {"address", &Arguments::address},
    {"publish-binary", &Arguments::publish_binary},
    {"id", &Arguments::id},
    {"bundle", &Arguments::bundle},
    {"socket", &Arguments::socket},
};

struct Switch {
  const char* name;
  bool Arguments::*member;
};
constexpr Switch kSwitches[] = {{"debug", &Arguments::debug}, {"info", &Arguments::info}, {"v", &Arguments::version}};

// The flag's name without dashes, and its value where one is joined by '='.
struct Word {
  std::string name;
  std::string value;
  bool has_value = false;
};

Word split_flag(const std::string& word) {
  Word flag;
  flag.name = word.substr(word.starts_with("--") ? 2 : 1);
  if (size_t equals = flag.name.find('='); equals != std::string::npos) {
    flag.value = flag.name.substr(equals + 1);
    flag.name.resize(equals);
    flag.has_value = true;
  }
  return flag;
}

}  // namespace

Result<Arguments> parse_arguments(const std::vector<std::string>& words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    if (!words[i].starts_with('-')) {
      if (!arguments.command.empty()) return make_error(EINVAL, "one command is expected, \"{}\" is the second", words[i]);
      arguments.command = words[i];
      continue;
    }
    Word flag = split_flag(words[i]);
    bool known = false;
    for (const Switch& row : kSwitches)
      if (flag.name == row.name) {
        arguments.*row.member = !flag.has_value || flag.value == "true" || flag.value == "1";
        known = true;
      }
    for (const TextFlag& row : kTextFlags)
      if (flag.name == row.name) {
        if (!flag.has_value && i + 1 == words.size()) return make_error(EINVAL, "flag -{} needs a value", flag.name);
        arguments.*row.member = flag.has_value ? flag.value : words[++i];
        known = true;
      }
    if (!known) return make_error(EINVAL, "unknown flag \"{}\"", words[i]);
  }
  return arguments;
}

}  // namespace caisson::shim
