#include "kernel/task/current.h"

namespace caisson::kernel {
namespace {
thread_local Task* t_current = nullptr;
}

Task* current_task() { return t_current; }
CurrentTask::CurrentTask(Task& task) { t_current = &task; }
CurrentTask::~CurrentTask() { t_current = nullptr; }

}  // namespace caisson::kernel
