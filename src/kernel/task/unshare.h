// clone(2), unshare(2) and setns(2) as far as namespaces go: who may make or enter which, and what changes with it.
#pragma once

#include "kernel/task/task.h"

namespace caisson::kernel {

// CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWCGROUP and NEWTIME.
extern const uint64_t kNamespaceFlags;

struct ChangedNamespaces {
  NamespacesRef spaces;
  CredentialsRef creds;
  std::shared_ptr<FsContext> fs;  // of its own, in the new mounts; null: what it was
};
// What a task (or its child) with these flags lives in; the calling task is not changed. EPERM: it may not; EINVAL: time namespaces;
// ENOSPC: too many, or nested too deeply.
Result<ChangedNamespaces> make_namespaces(Task& task, uint64_t flags);
// unshare(2), for the task that the calling thread serves.
Result<void> unshare(Task& task, uint64_t flags);
// The task has a table of descriptors that it shares with nobody. By its own thread.
void unshare_descriptors(Task& task);
// setns(2) with a descriptor of a namespace.
Result<void> enter_namespace(Task& task, const NamespaceRef& space);
// The same with a pidfd: into all of that process's namespaces that the flags name.
Result<void> enter_namespaces_of(Task& task, ThreadGroup& group, uint64_t flags);
// "/" of a mount namespace.
Path root_of(MountTable& mounts);
// The namespace of this kind that a task is in. for_children: the one that its children begin in. Under Kernel::tasks but for the task's
// own thread.
NamespaceRef namespace_of(const Task& task, NamespaceKind kind, bool for_children = false);

}  // namespace caisson::kernel
