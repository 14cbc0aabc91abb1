// Programs of the system that building a guest image needs (apt-get, dpkg-deb, lz4, make...), run to their end.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace caisson::microvm {

struct Program {
  std::vector<std::string> arguments;                            // [0] is looked for in PATH
  std::string folder;                                            // working folder; "" as it is
  std::string input, output;                                     // files for standard input and output; "": /dev/null, and the log
  std::string log;                                               // file to which standard error (and output) is appended; "": dropped
  std::vector<std::pair<std::string, std::string>> environment;  // set besides what there is
  int nice = 0;
  std::string package;         // Debian package it comes in, for the error
  std::function<void()> tick;  // called every 0.2 s while it runs
};

// Blocks. ENOENT, naming the package, where the program is not there; EIO with the end of the log where it fails.
Result<void> run_program(const Program& program);

// The last lines of a file, at most `lines` of them and 4 KiB, for an error message; control characters made harmless.
std::string end_of_file(const std::string& path, size_t lines);

}  // namespace caisson::microvm
