// A container's place in a pod, as its engine's annotations tell.
#pragma once

#include "oci/spec.h"

namespace caisson::oci {

enum class PodRole {
  None,       // a container by itself
  Sandbox,    // the pod's first container (Kubernetes' pause), whose namespaces the others share
  Container,  // one of the others
};
// By containerd's (io.kubernetes.cri.container-type) and CRI-O's (io.kubernetes.cri-o.ContainerType) annotations.
PodRole pod_role(const Spec& spec);

}  // namespace caisson::oci
