// spec, features, and the commands that are refused.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "cli/command.h"
#include "host/files.h"
#include "oci/parse.h"

namespace caisson::cli {

Result<int> spec_command(Context& context) {
  std::string bundle = ".";
  bool rootless = false;
  context.arguments.option("--bundle,-b", bundle, "DIR", "Folder to write config.json to (default: the current folder)");
  context.arguments.flag("--rootless", rootless, "With a user namespace that maps the caller's ids");
  TRY(context.parse());
  std::string file = bundle + "/config.json";
  struct stat status {};
  if (stat(bundle.c_str(), &status) != 0) return errno_error("--bundle {}", bundle);
  if (lstat(file.c_str(), &status) == 0) return make_error(EEXIST, "File {} exists. Remove it first", file);
  TRY(host::write_file_atomic(file, oci::default_spec_json(rootless, geteuid(), getegid()), 0644));
  return 0;
}

Result<int> features_command(Context& context) {
  TRY(context.parse());
  std::puts(oci::features_json().c_str());
  return 0;
}

Result<int> checkpoint_command(Context& context) {
  std::vector<std::string> ignored;
  context.arguments.rest("ARGUMENTS", ignored, "", 0);
  // Whatever is asked for, this is the answer: their many options are not ours to judge.
  Result<void> parsed = context.parse();
  if (context.arguments.help_printed()) return std::move(parsed).error();
  return Error(ENOTSUP, "checkpoint and restore are not supported: a sandbox's state is not only its processes'");
}

}  // namespace caisson::cli
