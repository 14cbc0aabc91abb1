// Labels of Linux security modules: process.apparmorProfile, process.selinuxLabel, linux.mountLabel.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace caisson::container {

// What the process's next exec is to be labelled with. Opened while /proc is still the host's (a container's could be a fake), written
// later. Asking for a label that this kernel has no module for is an error, as it is to runc.
class ExecLabels {
 public:
  static Result<ExecLabels> open(const oci::Process& process);
  // Not to be called before the last exec other than the user's program.
  Result<void> apply();

 private:
  UniqueFd apparmor_, selinux_;
  std::string apparmor_text_, selinux_text_;
};

// Adds the option that labels a file system's files.
Result<void> add_mount_label(const std::string& label, std::vector<std::string>& parameters);

}  // namespace caisson::container
