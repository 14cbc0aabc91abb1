#include "oci/pod.h"

namespace caisson::oci {
namespace {

constexpr const char* kTypeAnnotations[] = {"io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"};

}  // namespace

PodRole pod_role(const Spec& spec) {
  for (const char* name : kTypeAnnotations) {
    auto found = spec.annotations.find(name);
    if (found == spec.annotations.end()) continue;
    if (found->second == "sandbox") return PodRole::Sandbox;
    if (found->second == "container") return PodRole::Container;
  }
  return PodRole::None;
}

}  // namespace caisson::oci
