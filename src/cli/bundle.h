// Bundle: config.json as a command reads it, with what the front adds.
#pragma once

#include <string>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::cli {

struct Bundle {
  std::string path;  // absolute
  oci::Spec spec;
  std::string text;  // config.json, as it goes to the sandbox
};

// path "": the current folder. listen_fds: adds LISTEN_FDS and LISTEN_PID=1 to process.env, as runc does for socket activation.
Result<Bundle> read_bundle(const std::string& path, uint32_t listen_fds);

// Which isolation: the option, else the annotation io.caisson.isolation, else the configuration's value. May be "auto".
Result<std::string> chosen_isolation(const std::string& option, const oci::Spec& spec, const std::string& configured);

}  // namespace caisson::cli
