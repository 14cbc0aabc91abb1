#include "cli/arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

namespace caisson::cli {
namespace {

// CLI11 takes the next argument for the value of "--name="; this stands for the empty value while it parses.
constexpr const char* kEmptyValue = "\x01";

std::vector<std::string> split_names(const std::string& names) {
  std::vector<std::string> parts;
  size_t start = 0;
  while (start <= names.size()) {
    size_t comma = std::min(names.find(',', start), names.size());
    parts.push_back(names.substr(start, comma - start));
    start = comma + 1;
  }
  return parts;
}

bool has_empty_value(const std::string& argument) {
  return argument.size() > 3 && argument.compare(0, 2, "--") == 0 && argument.back() == '=';
}

void restore_empty(std::string& value) {
  if (value == kEmptyValue) value.clear();
}

// Of what() the first line: the second only says "Run with --help for more information."
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

struct Arguments::State {
  CLI::App app;
  std::vector<std::string> arguments;
  std::string usage;
  std::string heading = "Options";
  std::vector<std::string>* rest = nullptr;
  std::string rest_name;
  std::string rest_help;
  size_t rest_minimum = 0;
  std::vector<const CLI::Option*> required;
  std::vector<std::string*> texts;
  std::vector<std::vector<std::string>*> lists;
};

Arguments::Arguments(std::string usage, std::string summary, std::vector<std::string> arguments) : state_(std::make_unique<State>()) {
  state_->usage = std::move(usage);
  state_->arguments = std::move(arguments);
  state_->app.name(state_->usage);
  state_->app.description(std::move(summary));
  state_->app.set_help_flag("--help,-h", "Print this help and exit");
  state_->app.get_formatter()->column_width(34);
}

Arguments::~Arguments() = default;

void Arguments::flag(const char* names, bool& target, const char* help) {
  state_->app.add_flag(names, target, help)->group(state_->heading);
  options_.push_back({split_names(names), "", help});
}

void Arguments::option(const char* names, std::string& target, const char* value, const char* help) {
  state_->app.add_option(names, target, help)
      ->type_name(value)
      ->group(state_->heading)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  state_->texts.push_back(&target);
  options_.push_back({split_names(names), value, help});
}

void Arguments::option(const char* names, uint32_t& target, const char* value, const char* help) {
  state_->app.add_option(names, target, help)
      ->type_name(value)
      ->group(state_->heading)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  options_.push_back({split_names(names), value, help});
}

void Arguments::option(const char* names, std::vector<std::string>& target, const char* value, const char* help) {
  state_->app.add_option(names, target, help)->type_name(value)->group(state_->heading)->allow_extra_args(false);
  state_->lists.push_back(&target);
  options_.push_back({split_names(names), value, help});
}

void Arguments::group(const char* heading) { state_->heading = heading; }

void Arguments::positional(const char* name, std::string& target, const char* help, bool required) {
  CLI::Option* option = state_->app.add_option(name, target, help)->type_name("");
  // Not by CLI11's required(): that would hide an unknown option behind a missing argument.
  if (required) state_->required.push_back(option);
}

void Arguments::rest(const char* name, std::vector<std::string>& target, const char* help, size_t minimum) {
  state_->rest = &target;
  state_->rest_name = name;
  state_->rest_help = help;
  state_->rest_minimum = minimum;
  state_->app.prefix_command();
}

void Arguments::footer(const char* text) { state_->app.footer(text); }

Result<void> Arguments::take_rest() {
  std::vector<std::string> left = state_->app.remaining();
  if (!left.empty() && left.front() == "--") {
    left.erase(left.begin());
  } else {
    // An option that is not known ends up among what remains, in front of the first argument proper.
    for (const std::string& argument : left) {
      if (argument.size() < 2 || argument[0] != '-') break;
      return make_error(EINVAL, "unknown option {}; see {} --help", argument.substr(0, argument.find('=')), state_->usage);
    }
  }
  for (std::string& argument : left)
    if (!argument.empty() && argument.back() == kEmptyValue[0]) argument.pop_back();
  if (left.size() < state_->rest_minimum) return make_error(EINVAL, "{} is missing; see {} --help", state_->rest_name, state_->usage);
  *state_->rest = std::move(left);
  return {};
}

Result<void> Arguments::parse() {
  if (describe_only_) return Error(ECANCELED, "described");
  std::vector<std::string> arguments = state_->arguments;
  for (std::string& argument : arguments)
    if (has_empty_value(argument)) argument += kEmptyValue;
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants a vector
  try {
    state_->app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    std::string help = state_->app.help();
    if (state_->rest != nullptr) help.insert(help.find('\n', help.find("Usage:")), " " + state_->rest_name);
    std::fputs(help.c_str(), stdout);
    help_printed_ = true;
    return Error(ECANCELED, "help was asked for");
  } catch (const CLI::ExtrasError&) {
    std::string extra = state_->app.remaining().empty() ? "" : state_->app.remaining().front();
    return make_error(EINVAL, "{} {}; see {} --help", extra.size() > 1 && extra[0] == '-' ? "unknown option" : "unexpected argument", extra,
                      state_->usage);
  } catch (const CLI::ParseError& error) {
    return make_error(EINVAL, "{}; see {} --help", first_line(error.what()), state_->usage);
  } catch (const std::exception& error) {
    return make_error(EINVAL, "{}", error.what());
  }
  for (std::string* text : state_->texts) restore_empty(*text);
  for (auto* list : state_->lists)
    for (std::string& text : *list) restore_empty(text);
  for (const CLI::Option* option : state_->required)
    if (option->count() == 0) return make_error(EINVAL, "{} is missing; see {} --help", option->get_name(), state_->usage);
  if (state_->rest != nullptr) return take_rest();
  return {};
}

void Arguments::describe_only() { describe_only_ = true; }

bool Arguments::given(const std::string& name) const {
  const CLI::Option* option = state_->app.get_option_no_throw(name);
  return option != nullptr && option->count() > 0;
}

}  // namespace caisson::cli
