// From a description to a container of the kernel's: its root, mounts and names.
#pragma once

#include <memory>
#include <vector>

#include "kernel/control/host_mounts.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {

namespace v1 {
class House;
class Limits;
class Start;
}  // namespace v1

// What a stand-in that begins a container has been started with, and the log where it says; closes what it was read from. EPROTO.
Result<v1::Start> take_start();
// The same of a kernel process.
Result<v1::House> take_house();
// The mounts of this process's namespace that the container's kernel does not make itself.
Result<std::vector<OpenMount>> open_mounts(const v1::Start& start);

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
