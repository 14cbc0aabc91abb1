// How a guest thread is scheduled, as it is told: policies, and priorities of input and output (sched(7), ioprio_set(2)). The host does it:
// each change is made on the thread's stub as far as the host permits it.
#pragma once

#include <sched.h>
#include <sys/types.h>

namespace caisson::kernel {

class Task;

// SCHED_FIFO, SCHED_RR and SCHED_DEADLINE come by config.json only.
struct Scheduling {
  int policy = SCHED_OTHER;
  int priority = 0;            // of real-time policies
  bool reset_on_fork = false;  // SCHED_RESET_ON_FORK
  int io_priority = 0;         // class << 13 | level; 0: never set
  bool operator==(const Scheduling&) const = default;
  // Of a child.
  Scheduling inherited() const;
};

// A new stub, which is scheduled as its container's zygote is, becomes like the task's old one.
void schedule_new_stub(const Task& task);
// Changes the host's thread. What the host does not permit stays as it is.
void set_host_scheduling(pid_t host_tid, const Scheduling& scheduling);
void set_host_io_priority(pid_t host_tid, int io_priority);

}  // namespace caisson::kernel
