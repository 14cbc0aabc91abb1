// What the kernel process and the stand-in of a container that is to live in it say to each other before the container's first process is
// there (control/messages.h: Welcome, Mounts, Container). Each reads the other's words as a stranger's: the stand-in has the privileges of
// a container's init on the node by then, and the kernel process may have been taken from another container.
#pragma once

#include <vector>

#include "base/unique_fd.h"
#include "kernel.pb.h"
#include "kernel/control/host_mounts.h"
#include "kernel/control/messages.h"
#include "kernel/platform/stub_thread.h"

namespace caisson::kernel {

// A container, as its stand-in has described it.
struct Handover {
  v1::Start start;
  std::vector<OpenMount> mounts;
  Zygote zygote;
  std::vector<UniqueFd> streams;  // the standard ones, then those to be preserved
};
// mounts: the descriptors of all Mounts messages before. EPROTO: what it says does not fit what it has handed over.
Result<Handover> read_handover(Message message, std::vector<UniqueFd> mounts);

// The kernel process's user namespace, without which the stand-in's zygote could not be looked into; none where it has none of its own.
Result<UniqueFd> read_welcome(Message message);

}  // namespace caisson::kernel
