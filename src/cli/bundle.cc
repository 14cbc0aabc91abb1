#include "cli/bundle.h"

#include <stdlib.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/lifecycle.h"
#include "oci/annotations.h"
#include "oci/names.h"
#include "oci/parse.h"
#include "oci/reader.h"

namespace caisson::cli {
namespace {

using Json = nlohmann::ordered_json;

Result<std::string> with_listen_fds(const std::string& text, uint32_t count) {
  try {
    Json json = Json::parse(text);
    Json& env = json["process"]["env"];
    env.push_back(fmt::format("LISTEN_FDS={}", count));
    env.push_back("LISTEN_PID=1");
    return json.dump();
  } catch (const std::exception& error) {
    return make_error(EINVAL, "config.json: {}", error.what());
  }
}

}  // namespace

Result<Bundle> read_bundle(const std::string& path, uint32_t listen_fds) {
  Bundle bundle;
  std::unique_ptr<char, void (*)(void*)> absolute(realpath(path.empty() ? "." : path.c_str(), nullptr), free);
  if (!absolute) return errno_error("the bundle {}", path.empty() ? "(the current folder)" : path);
  bundle.path = absolute.get();
  bundle.spec = TRY(oci::load_bundle(bundle.path, &bundle.text));
  if (listen_fds > 0) {
    bundle.text = TRY(with_listen_fds(bundle.text, listen_fds));
    bundle.spec.process.env.push_back(fmt::format("LISTEN_FDS={}", listen_fds));
  }
  return bundle;
}

Result<std::string> chosen_isolation(const std::string& option, const oci::Spec& spec, const std::string& configured) {
  if (!option.empty()) return option;
  auto annotation = spec.annotations.find(std::string(oci::kIsolationAnnotation));
  if (annotation == spec.annotations.end()) return configured.empty() ? std::string("auto") : configured;
  const std::string& value = annotation->second;
  if (!oci::contains(oci::kIsolationValues, value))
    return make_error(EINVAL, "config.json: annotations[\"{}\"]: must be {}, is \"{}\"", oci::kIsolationAnnotation,
                      oci::list_names(oci::kIsolationValues), value);
  return value;
}

}  // namespace caisson::cli
