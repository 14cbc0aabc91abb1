// The shim's command line (containerd core/runtime/v2 README): Go's flag package, one dash or two, then a command.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace caisson::shim {

struct Arguments {
  std::string namespace_;      // -namespace
  std::string address;         // -address: containerd's gRPC socket
  std::string publish_binary;  // -publish-binary
  std::string id;              // -id
  std::string bundle;          // -bundle; "" is the working directory
  std::string socket;          // -socket: ours to serve on, where containerd names one
  bool debug = false;          // -debug
  bool info = false;           // -info
  bool version = false;        // -v
  std::string command;         // "start", "delete", or "serve" (ours: the daemon)
};

// EINVAL names the flag.
Result<Arguments> parse_arguments(const std::vector<std::string>& words);

}  // namespace caisson::shim
