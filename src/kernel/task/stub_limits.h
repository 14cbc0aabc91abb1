// Limits of a guest process that hold while it runs: RLIMIT_AS and RLIMIT_MEMLOCK, which the host keeps on its stub, and RLIMIT_CPU
// (setrlimit(2)).
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <memory>

namespace caisson::kernel {

class AddressSpace;
class Kernel;
class Task;
class ThreadGroup;

// A limit of a process that has this stub and this memory has been set. Of other resources: nothing.
void keep_limit(const std::shared_ptr<ThreadGroup>& group, Kernel& kernel, pid_t host, AddressSpace& memory, int resource,
                const rlimit& limit);
// Where it has one: a new process, whose CPU time begins.
void keep_cpu_limit(const std::shared_ptr<ThreadGroup>& group, Kernel& kernel);
// A new stub, which has its zygote's limits, gets the task's process's.
void limit_new_stub(Task& task);

}  // namespace caisson::kernel
