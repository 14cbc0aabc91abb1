// A container's statistics in the form that containerd's metrics have for the host's cgroup version.
#pragma once

#include "containerd.pb.h"
#include "host/cgroup.h"
#include "sandbox.pb.h"

namespace caisson::shim {

containerd::Any metrics_of(const sandbox::v1::StatsResponse& stats, host::CgroupVersion version);

}  // namespace caisson::shim
