// Cgroup: a control group (cgroups(7), version 2). A container has a tree of them, whose root is the group that the container itself is to
// its processes; the groups below are the guest's making. All of it is the kernel's own: the node's groups hold the container as a whole.
//
// Controllers below the root are those that can be kept there: `pids` is enforced at fork; of `memory` the use is told, but there are no
// limits (the host gives pages to stubs without asking the kernel), so their files are not there. What `cpu` and `cpuset` would promise,
// nobody could keep: they are the root's only. Groups are of processes; there is no threaded mode.
//
// Locks: everything is under Kernel::tasks but what is said to be constant. A new or ended task costs a walk up its group's few parents.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kernel/errno.h"
#include "kernel/held.h"
#include "kernel/limits.h"
#include "kernel/task/namespaces.h"

namespace caisson::kernel {

class CgroupNodes;
class Container;
class FileSystem;
class Task;
class ThreadGroup;
struct Credentials;

class Cgroup;
using CgroupRef = std::shared_ptr<Cgroup>;

class Cgroup : public std::enable_shared_from_this<Cgroup> {
 public:
  enum Controller : unsigned { Cpuset = 1, Cpu = 2, Memory = 4, Pids = 8 };
  static constexpr unsigned kOfContainer = Cpuset | Cpu | Memory | Pids, kOfGroups = Memory | Pids;
  static constexpr size_t kNoLimit = SIZE_MAX;
  static constexpr size_t kMostGroups = 4096;  // of one container
  static constexpr size_t kDeepest = 64;
  static constexpr uint64_t kOwnMemory = 4096;  // what one takes of the kernel's memory, with its files' attributes

  // Constant.
  Container& container;
  const CgroupRef parent;  // null: the container's own group
  const std::string name;
  const size_t depth = 0;
  const std::shared_ptr<CgroupNodes> nodes;  // what its files are (fs/cgroup)

  std::map<std::string, CgroupRef, std::less<>> children;
  bool removed = false;
  unsigned subtree_control = 0;  // controllers that its children have
  size_t most_descendants = kNoLimit, deepest_descendant = kNoLimit;

  // With those of the groups below.
  size_t tasks = 0, processes = 0, descendants = 0;
  size_t own_processes = 0;
  size_t most_tasks = kNoLimit;  // pids.max
  uint64_t refused_tasks = 0;    // forks that it has refused
  CpuUse ended;                  // of processes that have ended in it or have left it, and of groups below that have been removed

  std::weak_ptr<FileSystem> file_system;  // of the root: that shows the tree

  bool freeze = false;      // asked for here
  bool freezing = false;    // here or above
  size_t frozen_tasks = 0;  // that stand still for it, with those of the groups below
  bool told_frozen = false;

  // The group that a container is.
  explicit Cgroup(Container& container);
  Cgroup(CgroupRef parent, std::string name, std::shared_ptr<CgroupNodes> nodes, HeldBytes held);

  const Cgroup& root() const;
  bool is_within(const Cgroup& other) const;
  unsigned controllers() const { return parent ? parent->subtree_control : kOfContainer; }
  // EAGAIN: there are too many, or it would be too deep; EEXIST; ENODEV: removed.
  Result<CgroupRef> make_locked(std::string_view name, std::shared_ptr<CgroupNodes> nodes, HeldBytes held);
  // Gives it back. EBUSY: it has processes or groups; ENOENT.
  Result<CgroupRef> remove_locked(std::string_view name);
  // Processes may be put into it: EBUSY where its children have controllers ("no internal processes").
  Result<void> may_host_locked() const;
  // ENOENT: it has no such controller itself; EOPNOTSUPP: not for groups; EBUSY: in use, or it has processes.
  Result<void> control_subtree_locked(unsigned enable, unsigned disable);
  void set_freeze_locked(bool on);
  // SIGKILL for everybody in it.
  void kill_locked();
  // At the end of the container's object: groups refer to each other.
  void dissolve();

 private:
  HeldBytes held_;
};

// As seen from a root: "/", "/a/b", or "/../b" where it is not below.
std::string cgroup_path(const Cgroup& group, const Cgroup& root);

// The view of a container's groups: paths begin at `root`.
class CgroupNamespace : public Namespace {
 public:
  explicit CgroupNamespace(CgroupRef from, std::shared_ptr<UserNamespace> owner = UserNamespace::initial())
      : Namespace(NamespaceKind::Cgroup, std::move(owner)), root(std::move(from)) {}
  const CgroupRef root;
};

// One task more would be too many for the group or one above it: EAGAIN, and pids.events of that group says so.
Result<void> may_fork_locked(Cgroup& group);
// A new process, without tasks as yet; and its end, after which it still refers to the group that it was in.
void enter_cgroup_locked(ThreadGroup& process, CgroupRef group);
void leave_cgroup_locked(ThreadGroup& process);
// Of a process that is in a group: tasks come (1) and go (-1).
void count_tasks_locked(ThreadGroup& process, int change);
// A task of it stands still because of cgroup.freeze, or goes on.
void count_frozen_locked(ThreadGroup& process, int change);
// cgroup.procs: by `writer`, with the rights and the view of who opened the file. ESRCH, ENOENT: out of its view, EACCES, EBUSY, ENODEV.
Result<void> move_process(Task& writer, const Credentials& opener, const Cgroup& view, const std::shared_ptr<ThreadGroup>& process,
                          const CgroupRef& to);
// Its rules, and those of CLONE_INTO_CGROUP, as far as rights go.
Result<void> may_move_locked(const Credentials& opener, const Cgroup& view, const Cgroup& from, const Cgroup& to);

// Processor time of a process since it began, and of all that have been in a group or below it, while they were.
CpuUse cpu_use_locked(const ThreadGroup& process);
CpuUse cpu_use_locked(const Cgroup& group);

}  // namespace caisson::kernel
