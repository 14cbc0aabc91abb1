// exec: the process object made from options.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::cli {

struct ExecOptions {
  std::string process_file;
  bool tty = false;
  bool no_new_privs = false;
  std::vector<std::string> env;
  std::string cwd;
  std::string user;  // uid[:gid]
  std::vector<std::string> additional_gids;
  std::vector<std::string> caps;
  std::string apparmor;
  std::string process_label;
  std::vector<std::string> args;
};

// The container's own process with what the options change, as runc does it.
Result<oci::Process> exec_process(const oci::Process& container, const ExecOptions& options);

// "uid" or "uid:gid"; where gid is left out the one given stays.
Result<void> parse_user(const std::string& text, oci::User& user);

}  // namespace caisson::cli
