#include "shim/options.h"

#include "microvm/check.h"

namespace caisson::shim {

Result<sandbox::RuntimeConfig> config_from_options(const containerd::Any& options) {
  if (!options.type_url().ends_with("runtimeoptions.v1.Options")) return sandbox::load_config("");
  containerd::RuntimeOptions parsed;
  if (!parsed.ParseFromString(options.value())) return make_error(EINVAL, "runtime options: malformed runtimeoptions.v1.Options");
  if (!parsed.config_body().empty()) return sandbox::parse_config(parsed.config_body(), "config_body");
  return sandbox::load_config(parsed.config_path());
}

Result<std::string> resolve_isolation(const sandbox::RuntimeConfig& config) {
  if (config.isolation == "auto") return microvm::resolve_auto(config);
  if (config.isolation == "microvm" || config.isolation == "namespace") return config.isolation;
  return make_error(EINVAL, "isolation \"{}\" is not available: use auto, microvm or namespace", config.isolation);
}

std::string isolation_of_program(const std::string& argv0) {
  if (argv0.ends_with("containerd-shim-caisson-vm-v2")) return "microvm";
  if (argv0.ends_with("containerd-shim-caisson-namespace-v2")) return "namespace";
  return "";
}

}  // namespace caisson::shim
