// do: the config.json that it makes.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace caisson::cli {

struct DoOptions {
  std::vector<std::string> rw;       // folders of the host, absolute
  std::vector<std::string> volumes;  // SRC:DST[:ro]
  std::vector<std::string> env;      // NAME=VALUE, or NAME for the caller's value
  std::string cwd;                   // "": the caller's where it exists inside, else /
  std::string network = "none";      // "none", "host"
  bool tty = false;
  std::vector<std::string> args;
};

// EINVAL names the option. Reads the caller's environment and current folder.
Result<std::string> do_spec_json(const DoOptions& options);

}  // namespace caisson::cli
