// The features document (features.md, features-linux.md): what this build knows, wherever it runs. Made from the tables that parsing uses.
#include "oci/annotations.h"
#include "oci/document.h"
#include "oci/mount_options.h"
#include "oci/names.h"
#include "oci/parse.h"

namespace caisson::oci {
namespace {

using Out = nlohmann::ordered_json;

template <size_t N>
Out names_json(const NamedValue (&table)[N]) {
  return names_of(table);
}

Out enabled(bool value) { return {{"enabled", value}}; }

Out seccomp_json() {
  Out json = enabled(true);
  json["actions"] = kSeccompActions;
  json["operators"] = kSeccompOperators;
  json["archs"] = kSeccompArchitectures;
  json["knownFlags"] = names_json(kSeccompFlags);
  json["supportedFlags"] = names_json(kSeccompFlags);
  return json;
}

Out linux_json() {
  Out json;
  json["namespaces"] = names_json(kNamespaces);
  json["capabilities"] = names_json(kCapabilities);
  json["cgroup"] = {{"v1", true}, {"v2", true}, {"systemd", true}, {"systemdUser", false}, {"rdma", true}};
  json["seccomp"] = seccomp_json();
  json["apparmor"] = enabled(true);
  json["selinux"] = enabled(true);
  json["intelRdt"] = {{"enabled", false}, {"schemata", false}, {"monitoring", false}};
  json["memoryPolicy"] = {{"modes", names_json(kMemoryPolicyModes)}, {"flags", names_json(kMemoryPolicyFlags)}};
  json["mountExtensions"]["idmap"] = enabled(true);
  json["netDevices"] = enabled(true);
  return json;
}

}  // namespace

std::string features_json() {
  Out json;
  json["ociVersionMin"] = "1.0.0";
  json["ociVersionMax"] = kSpecVersion;
  json["hooks"] = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};
  for (const MountOption& option : kMountOptions) json["mountOptions"].push_back(option.name);
  json["linux"] = linux_json();
  std::string isolations;
  for (std::string_view name : kIsolationValues)
    if (name != "auto") isolations += fmt::format("{}{}", isolations.empty() ? "" : ",", name);
  json["annotations"] = {{"io.caisson.isolations", isolations}};
  json["potentiallyUnsafeConfigAnnotations"] = {kAnnotationPrefix};  // ends with a dot: a prefix
  return json.dump(2);
}

}  // namespace caisson::oci
