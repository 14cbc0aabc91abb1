#include "kernel/task/answers.h"

#include "kernel/platform/stub_thread.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {

pid_t parent_number_locked(const ThreadGroup& group) {
  const auto parent = group.parent.lock();
  return parent ? number_in(parent->id, *group.pids) : 0;
}

void prepare_answers(Task& task) {
  StubThread& stub = *task.stub;
  if (!stub.knows_numbers()) {
    std::lock_guard guard(task.kernel.tasks);
    stub.answer_numbers({task.group->pid, task.tid, parent_number_locked(*task.group)});
  }
  stub.answer_credentials(task.creds);
  // Who looks at every call sees these as well; in a nested user namespace ids can change their names at any time. Asked once more: another
  // thread may just now give the task a filter (seccomp(2), TSYNC).
  stub.answer(!task.seccomp.wants_answered_calls() && !task.trace_calls && !strace_is_on() && task.creds->user->is_initial());
  if (task.seccomp.wants_answered_calls()) stub.answer_nothing();
}

void tell_parent_locked(Task& task) {
  if (task.stub) task.stub->answer_parent(parent_number_locked(*task.group));
}

}  // namespace caisson::kernel
