// "hooks" (config.md, "POSIX-platform Hooks").
#include "oci/sections.h"

namespace caisson::oci {
namespace {

void parse_hook(const Node& node, Hook& hook) {
  node["path"].required().read(hook.path);
  node["path"].check_absolute(hook.path);
  node["args"].read(hook.args);
  node["env"].read(hook.env);
  node["timeout"].read(hook.timeout, 1, INT32_MAX);
}

}  // namespace

void parse_hooks(const Node& node, Hooks& hooks) {
  node["prestart"].read_list(hooks.prestart, parse_hook);
  node["createRuntime"].read_list(hooks.create_runtime, parse_hook);
  node["createContainer"].read_list(hooks.create_container, parse_hook);
  node["startContainer"].read_list(hooks.start_container, parse_hook);
  node["poststart"].read_list(hooks.poststart, parse_hook);
  node["poststop"].read_list(hooks.poststop, parse_hook);
}

}  // namespace caisson::oci
