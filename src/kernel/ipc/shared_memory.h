// System V shared memory across the lives of processes.
#pragma once

#include <memory>

namespace caisson::kernel {

class AddressSpace;
class IpcNamespace;
class Task;
class ThreadGroup;

// fork(2): what is attached to the parent's memory is attached to its copy, too. By the parent's thread.
void inherit_attachments(Task& parent, const std::shared_ptr<AddressSpace>& child);

// Segments that nobody has attached any more go, where they have been removed (IPC_RMID) or their maker has ended and the namespace says so
// (IpcLimit::RemoveForced). To be called when an address space has gone. ended: a process that has.
void settle_shared_memory(IpcNamespace& space, const ThreadGroup* ended = nullptr);

}  // namespace caisson::kernel
