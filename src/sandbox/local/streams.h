// A request's streams as descriptors for a container's process.
#pragma once

#include "container/container.h"
#include "sandbox/sandbox.h"

namespace caisson::sandbox::local {

// EINVAL for an index that names no descriptor. A descriptor may be named more than once.
Result<container::Stdio> take_stdio(const v1::Streams& streams, const google::protobuf::RepeatedField<uint32_t>& preserved,
                                    const rpc::Descriptors& fds);
// All that are valid: what a worker has to keep.
std::vector<int> descriptors_of(const container::Stdio& stdio);

}  // namespace caisson::sandbox::local
