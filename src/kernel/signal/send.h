// Sending signals. "_locked": Kernel::tasks is held.
#pragma once

#include <memory>

#include "kernel/abi/signal.h"
#include "kernel/errno.h"
#include "kernel/task/namespaces.h"

namespace caisson::kernel {

class Task;
class ThreadGroup;

// From `sender` by kill(2) (SI_USER), or, without one, from the kernel (SI_KERNEL).
abi::SigInfo user_signal(int signal, Task* sender);

// preferred: the thread of the group that is to take it if it does not block it; without one, the main thread.
void send_to_group_locked(ThreadGroup& group, const abi::SigInfo& info, const Task* preferred = nullptr);
void send_to_task_locked(Task& task, const abi::SigInfo& info);
// To every process of a process group. ESRCH: there is none.
Result<void> send_to_process_group_locked(const TaskIdRef& pgid, const abi::SigInfo& info);
// A fault that the guest's own instruction caused: cannot be blocked or ignored.
void force_signal(Task& task, abi::SigInfo info);

// May sender signal this process (kill(2), "Permissions")?
bool may_signal(const Task& sender, const ThreadGroup& target, int signal);

// Ends a process: every thread leaves; `status` is what wait tells. The first reason counts.
void end_group_locked(ThreadGroup& group, int code, int status);
// Something changed that a task in a system call or in guest code must look at.
void kick_locked(Task& task);

}  // namespace caisson::kernel
