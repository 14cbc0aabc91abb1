// From a description to a container of the kernel's: its root, mounts and names.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/control/host_mounts.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {

namespace v1 {
class Limits;
class Start;
}  // namespace v1

// Whether the kernel mounts something of its own on that place, or above it.
bool is_ours(const v1::Start& start, std::string_view point);
// The host's name for this process's machine.
std::string own_hostname();

// What a container shares with others of its pod; null: nothing.
struct SharedNamespaces {
  std::shared_ptr<PidNamespace> pids;
  std::shared_ptr<IpcNamespace> ipc;
  std::shared_ptr<UtsNames> uts;
};
// A container with everything mounted. ENOENT: `mounts` has no root.
Result<std::unique_ptr<Container>> make_container(Kernel& kernel, const v1::Start& start, std::vector<OpenMount> mounts,
                                                  const SharedNamespaces& shared = {});

void apply_limits(Kernel& kernel, Container& container, const v1::Limits& limits);

}  // namespace caisson::kernel
