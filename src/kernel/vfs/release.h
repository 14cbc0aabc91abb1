// Releasing without recursion. Guests make folders, mounts and chains of them as deep as they like; objects that own their parents or
// children hand them over in their destructors, so that the stack does not grow with the depth.
#pragma once

#include <memory>

namespace caisson::kernel {

// Drops the reference, after those that are being dropped already.
void release_flat(std::shared_ptr<const void> object);

}  // namespace caisson::kernel
