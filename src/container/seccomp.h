// linux.seccomp: compiled before the process is confined (seccomp_program.h; libseccomp knows the names), loaded at the last moment.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace caisson::container {

struct SeccompFilter {
  std::vector<sock_filter> program;
  unsigned flags = 0;  // for seccomp(2)
  bool wants_listener = false;
};
// Errors name "linux.seccomp...". An unknown system call name is skipped (debug line), as runc does; an unknown action or operator is
// EINVAL. Calls with a number above every one in the profile fail with ENOSYS unless the default action lets them pass, so that programs
// newer than the profile fall back; runc does so too.
Result<SeccompFilter> compile_seccomp(const oci::Seccomp& seccomp);
// Loads it into the calling thread (needs no_new_privs or CAP_SYS_ADMIN); returns the listener when there is one.
Result<UniqueFd> load_seccomp(const SeccompFilter& filter);
// Sends the listener to linux.seccomp.listenerPath with the ContainerProcessState document (runtime-spec, "The container process state").
Result<void> send_seccomp_listener(const oci::Seccomp& seccomp, int listener, pid_t pid, const oci::Spec& spec, const std::string& id,
                                   const std::string& bundle);

}  // namespace caisson::container
