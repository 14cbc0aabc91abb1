#include "kernel/task/cgroup.h"

#include <signal.h>

#include <algorithm>

#include "kernel/fs/cgroup/nodes.h"
#include "kernel/signal/send.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"

namespace caisson::kernel {
namespace {

void add(CpuUse& to, const CpuUse& use) {
  to.user_ns += use.user_ns;
  to.system_ns += use.system_ns;
  to.kernel_ns += use.kernel_ns;
}

// frozen: everybody in it stands still, nobody included.
void look_whether_frozen(Cgroup& group) {
  const bool frozen = group.freezing && group.frozen_tasks == group.tasks;
  if (frozen == group.told_frozen) return;
  group.told_frozen = frozen;
  group.nodes->tell(CgroupNodes::Events);
}

// Numbers of a group and of all above it.
void count(Cgroup& group, ptrdiff_t tasks, ptrdiff_t processes, ptrdiff_t frozen) {
  for (Cgroup* at = &group; at != nullptr; at = at->parent.get()) {
    at->tasks += static_cast<size_t>(tasks);
    at->frozen_tasks += static_cast<size_t>(frozen);
    if (processes != 0) {
      const bool was_populated = at->processes != 0;
      at->processes += static_cast<size_t>(processes);
      if (was_populated != (at->processes != 0)) at->nodes->tell(CgroupNodes::Events);
    }
    if (at->freezing || at->told_frozen) look_whether_frozen(*at);
  }
}

template <typename Body>
void for_each_process_in(const Cgroup& group, Body&& body) {
  for (const auto& [pid, process] : group.container.pids->groups)
    if (!process->zombie && process->cgroup && process->cgroup->is_within(group)) body(*process);
}

// What a process has used since it came to its group.
CpuUse use_here_locked(const ThreadGroup& process) {
  CpuUse use = cpu_use_locked(process);
  const CpuUse& before = process.used_elsewhere;
  use.user_ns -= std::min(use.user_ns, before.user_ns);
  use.system_ns -= std::min(use.system_ns, before.system_ns);
  use.kernel_ns -= std::min(use.kernel_ns, before.kernel_ns);
  return use;
}

CpuUse ended_in(const Cgroup& group) {
  CpuUse use = group.ended;
  for (const auto& [name, child] : group.children) add(use, ended_in(*child));
  return use;
}

void freeze_process_locked(ThreadGroup& process) {
  process.frozen = process.cgroup->freezing;
  for (Task* task : process.tasks) kick_locked(*task);
}

void inherit_freezing(Cgroup& group) {
  group.freezing = group.freeze || (group.parent && group.parent->freezing);
  for (const auto& [name, child] : group.children) inherit_freezing(*child);
}

// The lowest first.
void look_whether_all_frozen(Cgroup& group) {
  for (const auto& [name, child] : group.children) look_whether_all_frozen(*child);
  look_whether_frozen(group);
}

}  // namespace

Cgroup::Cgroup(Container& whose) : container(whose), nodes(std::make_shared<CgroupNodes>(0, 0, 0555)), most_tasks(Container::kMostTasks) {}

Cgroup::Cgroup(CgroupRef above, std::string called, std::shared_ptr<CgroupNodes> files, HeldBytes held)
    : container(above->container),
      parent(std::move(above)),
      name(std::move(called)),
      depth(parent->depth + 1),
      nodes(std::move(files)),
      freezing(parent->freezing),
      told_frozen(parent->freezing),
      held_(std::move(held)) {}

const Cgroup& Cgroup::root() const {
  const Cgroup* at = this;
  while (at->parent) at = at->parent.get();
  return *at;
}

bool Cgroup::is_within(const Cgroup& other) const {
  for (const Cgroup* at = this; at != nullptr; at = at->parent.get())
    if (at == &other) return true;
  return false;
}

Result<CgroupRef> Cgroup::make_locked(std::string_view called, std::shared_ptr<CgroupNodes> files, HeldBytes held) {
  if (removed) return Errno(ENODEV);
  if (children.contains(called)) return Errno(EEXIST);
  if (depth >= kDeepest || root().descendants >= kMostGroups) return Errno(EAGAIN);
  size_t level = 1;
  for (const Cgroup* at = this; at != nullptr; at = at->parent.get(), ++level)
    if (at->descendants >= at->most_descendants || level > at->deepest_descendant) return Errno(EAGAIN);
  const auto made = std::make_shared<Cgroup>(shared_from_this(), std::string(called), std::move(files), std::move(held));
  children.emplace(called, made);
  for (Cgroup* at = this; at != nullptr; at = at->parent.get()) ++at->descendants;
  return made;
}

Result<CgroupRef> Cgroup::remove_locked(std::string_view called) {
  const auto found = children.find(called);
  if (found == children.end()) return Errno(ENOENT);
  const CgroupRef child = found->second;
  if (child->processes != 0 || !child->children.empty()) return Errno(EBUSY);
  child->removed = true;
  add(ended, child->ended);
  children.erase(found);
  for (Cgroup* at = this; at != nullptr; at = at->parent.get()) --at->descendants;
  return child;
}

Result<void> Cgroup::may_host_locked() const {
  if (removed) return Errno(ENODEV);
  // As cgroup_migrate_vet_dst() has it: controllers that know of threads (pids) are no obstacle while no child has processes.
  const bool children_populated = processes != own_processes;
  if (!children_populated && (subtree_control & ~static_cast<unsigned>(Pids)) == 0) return {};
  return subtree_control != 0 ? Errno(EBUSY) : Result<void>();
}

Result<void> Cgroup::control_subtree_locked(unsigned enable, unsigned disable) {
  if (removed) return Errno(ENODEV);
  enable &= ~subtree_control;
  disable &= subtree_control;
  if ((enable & ~controllers()) != 0) return Errno(ENOENT);
  if ((enable & ~kOfGroups) != 0) return Errno(EOPNOTSUPP);
  for (const auto& [called, child] : children)
    if ((child->subtree_control & disable) != 0) return Errno(EBUSY);
  const bool threaded_only = (enable & ~static_cast<unsigned>(Pids)) == 0;
  const bool could_be_threaded = processes == own_processes && (subtree_control & ~static_cast<unsigned>(Pids)) == 0;
  if (enable != 0 && own_processes != 0 && !(threaded_only && could_be_threaded)) return Errno(EBUSY);
  subtree_control = (subtree_control | enable) & ~disable;
  // What a controller kept goes with it.
  if ((disable & Pids) != 0)
    for (const auto& [called, child] : children) {
      child->most_tasks = kNoLimit;
      child->refused_tasks = 0;
    }
  return {};
}

void Cgroup::set_freeze_locked(bool on) {
  if (freeze == on) return;
  freeze = on;
  inherit_freezing(*this);
  for_each_process_in(*this, [](ThreadGroup& process) {
    if (process.frozen != process.cgroup->freezing) freeze_process_locked(process);
  });
  look_whether_all_frozen(*this);
}

void Cgroup::kill_locked() {
  for_each_process_in(*this, [](ThreadGroup& process) { send_to_group_locked(process, user_signal(SIGKILL, nullptr)); });
}

void Cgroup::dissolve() {
  for (const auto& [called, child] : children) child->dissolve();
  children.clear();
}

std::string cgroup_path(const Cgroup& group, const Cgroup& root) {
  if (!group.is_within(root)) {
    // The way up to what both have in common, and down from there.
    std::string up;
    const Cgroup* at = &root;
    while (at != nullptr && !group.is_within(*at)) {
      up += "/..";
      at = at->parent.get();
    }
    if (at == nullptr) return "/";  // another container's
    const std::string down = cgroup_path(group, *at);
    return up + (down == "/" ? "" : down);
  }
  std::string path;
  for (const Cgroup* at = &group; at != &root; at = at->parent.get()) path = "/" + at->name + path;
  return path.empty() ? "/" : path;
}

Result<void> may_fork_locked(Cgroup& group) {
  for (Cgroup* at = &group; at != nullptr; at = at->parent.get()) {
    if (at->tasks < at->most_tasks) continue;
    ++at->refused_tasks;
    at->nodes->tell(CgroupNodes::PidsEvents);
    return Errno(EAGAIN);
  }
  return {};
}

void enter_cgroup_locked(ThreadGroup& process, CgroupRef group) {
  if (!group) return;
  process.frozen = group->freezing;
  ++group->own_processes;
  count(*group, 0, 1, 0);
  process.cgroup = std::move(group);
}

void leave_cgroup_locked(ThreadGroup& process) {
  if (!process.cgroup) return;
  Cgroup& group = *process.cgroup;
  add(group.ended, use_here_locked(process));
  --group.own_processes;
  count(group, 0, -1, 0);
}

void count_tasks_locked(ThreadGroup& process, int change) {
  if (process.cgroup) count(*process.cgroup, change, 0, 0);
}

void count_frozen_locked(ThreadGroup& process, int change) {
  if (process.cgroup) count(*process.cgroup, 0, 0, change);
}

Result<void> may_move_locked(const Credentials& opener, const Cgroup& view, const Cgroup& from, const Cgroup& to) {
  if (&from.root() != &to.root() || !from.is_within(view) || !to.is_within(view)) return Errno(ENOENT);
  const Cgroup* common = &to;
  while (!from.is_within(*common)) common = common->parent.get();
  if (!common->nodes->may_write_procs(opener)) return Errno(EACCES);
  return {};
}

Result<void> move_process(Task& writer, const Credentials& opener, const Cgroup& view, const std::shared_ptr<ThreadGroup>& process,
                          const CgroupRef& to) {
  std::lock_guard guard(writer.kernel.tasks);
  if (process->zombie || !process->cgroup) return Errno(ESRCH);
  if (to->removed) return Errno(ENODEV);
  const CgroupRef from = process->cgroup;
  TRY(may_move_locked(opener, view, *from, *to));
  if (from == to) return {};
  TRY(to->may_host_locked());
  const CpuUse here = use_here_locked(*process);
  add(from->ended, here);
  add(process->used_elsewhere, here);
  const auto tasks = static_cast<ptrdiff_t>(process->tasks.size());
  const auto frozen = std::ranges::count_if(process->tasks, [](const Task* task) { return task->frozen; });
  --from->own_processes;
  ++to->own_processes;
  process->cgroup = to;
  // First where it goes to: what both are in does not become empty in between.
  count(*to, tasks, 1, frozen);
  count(*from, -tasks, -1, -frozen);
  if (process->frozen != to->freezing) freeze_process_locked(*process);
  return {};
}

CpuUse cpu_use_locked(const ThreadGroup& process) {
  CpuUse use{static_cast<uint64_t>(process.usage.user_ns), static_cast<uint64_t>(process.usage.system_ns),
             static_cast<uint64_t>(process.kernel_ns)};
  bool first = true;
  for (Task* task : process.tasks) {
    if (!task->stub) continue;
    if (std::exchange(first, false)) {
      const ProcessCpuTime time = process_cpu_times(*task);
      use.user_ns += static_cast<uint64_t>(time.user_ns);
      use.system_ns += static_cast<uint64_t>(time.system_ns);
    }
    use.kernel_ns += static_cast<uint64_t>(served_time(*task));
  }
  return use;
}

CpuUse cpu_use_locked(const Cgroup& group) {
  CpuUse use = ended_in(group);
  for_each_process_in(group, [&](const ThreadGroup& process) { add(use, use_here_locked(process)); });
  return use;
}

}  // namespace caisson::kernel
