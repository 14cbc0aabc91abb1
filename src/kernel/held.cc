#include "kernel/held.h"

#include "kernel/task/current.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

const std::shared_ptr<HeldMemory>& held_memory() {
  static const auto* const of_nobody = new auto(std::make_shared<HeldMemory>());
  const Task* task = current_task();
  const Container* container = task != nullptr ? task->group->container : nullptr;
  return container != nullptr ? container->held : *of_nobody;
}

}  // namespace caisson::kernel
