// How each guest image is made. build_guest_image (hypervisor.h) chooses.
#pragma once

#include "microvm/guest/progress.h"
#include "microvm/guest/store.h"
#include "microvm/hypervisor.h"

namespace caisson::microvm {

// The distribution's cloud kernel: downloaded, unpacked (not installed), its vmlinux extracted, with the modules that a sandbox needs.
Result<ImageManifest> build_stock(ImageBuild& build, Progress& progress);
// A kernel compiled from the distribution's source with guest.config: all that a sandbox needs built in, and nothing else.
Result<ImageManifest> build_tuned(ImageBuild& build, Progress& progress, int jobs);

// Name what build_stock and build_tuned make an image of (modules, configuration): an image with another is made again.
std::string stock_recipe_hash();
std::string tuned_config_hash();

// The release ("6.12.0-caisson") in a kernel's own banner, "" where there is none.
std::string kernel_release_of(std::string_view vmlinux);
// What a kernel has built in, told by the names of its drivers.
bool has_builtin_9p(std::string_view vmlinux);
bool has_builtin_mmio(std::string_view vmlinux);
// Now, RFC 3339, UTC.
std::string timestamp();

}  // namespace caisson::microvm
