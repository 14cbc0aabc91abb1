// System V shared memory across fork.
#pragma once

#include <memory>

namespace caisson::kernel {

class AddressSpace;
class Task;

// fork(2): what is attached to the parent's memory is attached to its copy, too. By the parent's thread.
void inherit_attachments(Task& parent, const std::shared_ptr<AddressSpace>& child);

}  // namespace caisson::kernel
