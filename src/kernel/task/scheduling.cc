#include "kernel/task/scheduling.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/task/kernel.h"

namespace caisson::kernel {

Scheduling Scheduling::inherited() const {
  if (!reset_on_fork) return *this;
  const bool real_time = policy == SCHED_FIFO || policy == SCHED_RR;
  return {real_time ? SCHED_OTHER : policy, real_time ? 0 : priority, false, io_priority};
}

void set_host_scheduling(pid_t host_tid, const Scheduling& scheduling) {
  if (scheduling.policy != SCHED_OTHER && scheduling.policy != SCHED_BATCH && scheduling.policy != SCHED_IDLE) return;
  const sched_param none{};
  (void)syscall(SYS_sched_setscheduler, host_tid, scheduling.policy | (scheduling.reset_on_fork ? SCHED_RESET_ON_FORK : 0), &none);
}

void set_host_io_priority(pid_t host_tid, int io_priority) {
  constexpr int kOneThread = 1;  // IOPRIO_WHO_PROCESS
  (void)syscall(SYS_ioprio_set, kOneThread, host_tid, io_priority);
}

void schedule_new_stub(const Task& task) {
  const Container* container = task.group->container;
  const Scheduling zygote = container != nullptr ? container->scheduling : Scheduling();
  const int zygote_nice = container != nullptr ? container->nice : 0;
  // With the lock held: what others set meanwhile comes after.
  std::lock_guard guard(task.kernel.tasks);
  if (task.group->nice != zygote_nice) (void)setpriority(PRIO_PROCESS, static_cast<id_t>(task.host_tid()), task.group->nice);
  if (task.scheduling == zygote) return;
  set_host_scheduling(task.host_tid(), task.scheduling);
  if (task.scheduling.io_priority != zygote.io_priority) set_host_io_priority(task.host_tid(), task.scheduling.io_priority);
}

}  // namespace caisson::kernel
