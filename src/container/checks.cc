#include "container/checks.h"

#include "container/sysctl.h"
#include "host/namespaces.h"

namespace caisson::container {
namespace {

// Without a mount namespace of the container's own these would change the host. (oci/validate.cc has refused the rest.)
Result<void> check_mounts(const oci::Spec& spec) {
  if (spec.find_namespace("mount") != nullptr) return {};
  if (!spec.mounts.empty()) return make_error(EINVAL, "mounts: need a namespace of type mount in linux.namespaces");
  if (spec.root.readonly) return make_error(EINVAL, "root.readonly: needs a namespace of type mount in linux.namespaces");
  return {};
}

}  // namespace

Result<void> check_spec(const oci::Spec& spec, const CreateOptions& options, const Stdio& stdio) {
  if (!spec.has_process) return make_error(EINVAL, "process: must be there to create a container");
  if (spec.root.path.empty()) return make_error(EINVAL, "root.path: must be set");
  if (spec.process.terminal && !stdio.console_socket)
    return make_error(EINVAL, "process.terminal: is set, but there is no console socket to send the terminal to");
  if (spec.linux_.intel_rdt) return make_error(ENOTSUP, "linux.intelRdt: cannot be honoured by this runtime; remove it");
  TRY(check_mounts(spec));
  return check_sysctls(spec, options.in_guest);
}

}  // namespace caisson::container
