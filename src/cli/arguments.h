// Arguments: the options and arguments of one command: declared, then parsed. The one place that knows the command line library.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace caisson::cli {

// One declared option, for shell completion and tests.
struct OptionDescription {
  std::vector<std::string> names;  // "-b", "--bundle"
  std::string value;               // "DIR"; "" for a flag
  std::string help;
};

// Targets are borrowed and must outlive parse(); they keep their values where an option is not given.
class Arguments {
 public:
  // usage: what stands before the options in the help text, "caisson run". arguments: without the program's and the command's names.
  Arguments(std::string usage, std::string summary, std::vector<std::string> arguments);
  ~Arguments();
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  // names: "--bundle,-b". value: what the help text calls the value, "DIR".
  void flag(const char* names, bool& target, const char* help);
  void option(const char* names, std::string& target, const char* value, const char* help);
  void option(const char* names, uint32_t& target, const char* value, const char* help);
  // May be given several times.
  void option(const char* names, std::vector<std::string>& target, const char* value, const char* help);
  // Options declared from now on stand under this heading.
  void group(const char* heading);

  void positional(const char* name, std::string& target, const char* help, bool required = true);
  // Everything from the first argument that is not an option on, options of a command to run included. At least `minimum` of them.
  void rest(const char* name, std::vector<std::string>& target, const char* help, size_t minimum);
  // Text at the end of the help.
  void footer(const char* text);

  // EINVAL with one sentence for what is unknown, missing or malformed. ECANCELED after --help has been printed to standard output, and
  // always when describe_only() was called.
  Result<void> parse();

  // Makes parse() only record; for completion.
  void describe_only();
  const std::vector<OptionDescription>& options() const { return options_; }
  // Whether --help was asked for and printed.
  bool help_printed() const { return help_printed_; }
  bool given(const std::string& name) const;

 private:
  struct State;
  Result<void> take_rest();

  std::unique_ptr<State> state_;
  std::vector<OptionDescription> options_;
  bool describe_only_ = false;
  bool help_printed_ = false;
};

}  // namespace caisson::cli
