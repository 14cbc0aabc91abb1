#include "kernel/task/stub_limits.h"

#include "kernel/platform/address_limit.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/task/kernel.h"
#include "kernel/time/process_timers.h"

namespace caisson::kernel {
namespace {

bool is_limited(const rlimit& limit) { return limit.rlim_cur != RLIM_INFINITY || limit.rlim_max != RLIM_INFINITY; }

}  // namespace

void keep_limit(const std::shared_ptr<ThreadGroup>& group, Kernel& kernel, pid_t host, AddressSpace& memory, int resource,
                const rlimit& limit) {
  switch (resource) {
    case RLIMIT_AS: {
      std::lock_guard guard(memory.lock);
      return set_address_limit(host, limit.rlim_cur, memory.layout.stack_high - memory.layout.stack_low);
    }
    case RLIMIT_CPU:
      return ProcessTimers::of(kernel, group)->limit_cpu(limit);
    case RLIMIT_MEMLOCK:
      (void)prlimit(host, RLIMIT_MEMLOCK, &limit, nullptr);
      return;
  }
}

void keep_cpu_limit(const std::shared_ptr<ThreadGroup>& group, Kernel& kernel) {
  const rlimit limit = group->limit(RLIMIT_CPU);
  if (is_limited(limit)) ProcessTimers::of(kernel, group)->limit_cpu(limit);
}

void limit_new_stub(Task& task) {
  const pid_t host = task.stub->process()->pid();
  for (const int resource : {RLIMIT_AS, RLIMIT_CPU, RLIMIT_MEMLOCK}) {
    const rlimit limit = task.group->limit(resource);
    if (is_limited(limit)) keep_limit(task.group, task.kernel, host, *task.memory, resource, limit);
  }
}

}  // namespace caisson::kernel
