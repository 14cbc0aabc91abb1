#include "container/personality.h"

#include <sys/personality.h>

namespace caisson::container {

Result<void> set_personality(const oci::Spec& spec) {
  if (!spec.linux_.personality) return {};
  const std::string& domain = spec.linux_.personality->domain;
  if (domain != "LINUX" && domain != "LINUX32")
    return make_error(EINVAL, "linux.personality.domain: \"{}\" is not LINUX or LINUX32", domain);
  if (!spec.linux_.personality->flags.empty()) return make_error(EINVAL, "linux.personality.flags: the specification has none yet");
  if (personality(domain == "LINUX" ? PER_LINUX : PER_LINUX32) < 0) return errno_error("linux.personality: cannot set {}", domain);
  return {};
}

}  // namespace caisson::container
