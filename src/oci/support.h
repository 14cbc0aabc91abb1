// What each isolation does with each member of config.json: honours it, ignores it with a warning, or refuses it. Nothing is ignored in
// silence. The rows are in support.cc; docs/config-json.md shows them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::oci {

// One sentence for each member that the document uses and the isolation ("namespace", "appkernel", "microvm") ignores. Where it uses one
// that the isolation refuses: ENOTSUP, with its name and the reason.
Result<std::vector<std::string>> check_support(const Spec& spec, std::string_view isolation);

// A config.json for an isolation: without the members that it ignores, so that what makes the container does not meet them.
struct Adapted {
  std::string json;
  std::vector<std::string> warnings;  // as check_support's
};
Result<Adapted> adapt_config(std::string_view config_json, std::string_view isolation);
// The same for the "process" object that exec has.
Result<Adapted> adapt_process(std::string_view process_json, std::string_view isolation);

// The table of docs/config-json.md.
std::string support_markdown();

}  // namespace caisson::oci
