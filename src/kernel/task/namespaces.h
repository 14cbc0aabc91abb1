// Namespaces: what a task sees of the world, each kind an object that tasks share (namespaces(7)). They are the kernel's own: none of them
// is, or opens, a namespace of the host, but for networks (net/network_namespace.h): those are the host's, in rooms of their own.
//
// A task has them in three places: `Task::spaces` (uts, ipc, mounts, network, cgroup, time, and the PID namespace of its future children),
// `ThreadGroup::pids` (the PID namespace that it lives in, for good) and `Credentials::user`.
//
// For who starts containers (control): a Container names the ones of its first processes. Fresh ones are made by std::make_shared<T>(),
// owned by the initial user namespace; containers that are to share one hold the same pointer. The root is made of mounts handed in with
// Container::mounts->add() before the first start(); a container's tasks see nothing else.
//
// Locks: TaskId and PidNamespace's numbers have a leaf of their own; so have UserNamespace's maps, UtsNamespace and IpcNamespace's parts.
// PidNamespace's maps are guarded by Kernel::tasks. MountTable is in vfs/path.h.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/errno.h"
#include "kernel/task/wait.h"

namespace caisson::kernel {

class CgroupNamespace;
class IpcNamespace;
class MountTable;
class NetworkNamespace;
class Task;
class ThreadGroup;
class UserNamespace;

enum class NamespaceKind { Mount, Uts, Ipc, Pid, User, Network, Cgroup, Time };
// As the links below /proc/PID/ns begin: "mnt", "uts"...
const char* namespace_name(NamespaceKind kind);
// CLONE_NEWNS and so on.
uint64_t namespace_flag(NamespaceKind kind);

class Namespace : public std::enable_shared_from_this<Namespace> {
 public:
  virtual ~Namespace();
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;
  const NamespaceKind kind;
  const uint64_t number;  // of its inode below /proc/PID/ns; never given twice
  // Who has its capabilities here; of a user namespace: its parent, null for the initial one.
  const std::shared_ptr<UserNamespace> owner;

  // NS_GET_PARENT: of PID and user namespaces; null: it has none.
  virtual std::shared_ptr<Namespace> parent_namespace() const { return nullptr; }

 protected:
  Namespace(NamespaceKind kind, std::shared_ptr<UserNamespace> owner);
};
using NamespaceRef = std::shared_ptr<Namespace>;

// One more of this kind may be made: ENOSPC beyond what the kernel process has memory for (like /proc/sys/user/max_*_namespaces).
Result<void> may_make_namespace(NamespaceKind kind);
inline constexpr size_t kMostNamespaces = 2048;        // of each kind but one, in the whole kernel
inline constexpr size_t kMostNetworkNamespaces = 128;  // each has a process and a network of the host's (net/room_maker.h)
inline constexpr int kDeepestNamespace = 32;           // nested user or PID namespaces

// Ids inside mean other ids outside. The kernel, and Credentials, count in the initial one's.
class UserNamespace : public Namespace {
 public:
  static const std::shared_ptr<UserNamespace>& initial();
  // creator: who owns it in the parent. EUSERS: nested too deeply; ENOSPC.
  static Result<std::shared_ptr<UserNamespace>> create(std::shared_ptr<UserNamespace> parent, uid_t creator, gid_t creators_group);

  struct Range {
    uint32_t inside = 0, outside = 0, count = 0;  // outside: of the initial namespace
  };
  enum class Ids { Users, Groups };
  // An id of this namespace as the kernel counts; none: no such id here.
  std::optional<uint32_t> to_kernel(Ids ids, uint32_t inside) const;
  // The other way.
  std::optional<uint32_t> from_kernel(Ids ids, uint32_t id) const;
  // The same, with the overflow id for what has none (stat, getuid).
  uint32_t shown(Ids ids, uint32_t id) const;
  std::vector<Range> map(Ids ids) const;
  // Of the initial one: the container has a user namespace of the host, with this map. Other ids are none, and uid_map tells of it. Before
  // the first task.
  void adopt(Ids ids, std::vector<Range> map);
  // Once only: EPERM. `map` has been checked and is in the kernel's numbers.
  Result<void> set_map(Ids ids, std::vector<Range> map);
  bool may_set_groups() const;
  // /proc/PID/setgroups. EPERM: a group map is there, or it cannot be allowed again.
  Result<void> allow_set_groups(bool allow);

  bool is_initial() const { return owner == nullptr; }
  // Is it `other`, or nested in it?
  bool is_within(const UserNamespace& other) const;
  std::shared_ptr<Namespace> parent_namespace() const override;
  const int level;
  const uid_t creator;  // as the kernel counts
  const gid_t creators_group;

  UserNamespace(std::shared_ptr<UserNamespace> parent, int level, uid_t creator, gid_t creators_group);

 private:
  mutable std::mutex lock_;
  std::vector<Range> users_, groups_;  // of the initial one: outside is the host's business, and inside is what the kernel counts in
  bool set_groups_ = true;
};
inline constexpr uint32_t kOverflowId = 65534;

// Names of the machine: what uname and sethostname see.
class UtsNamespace : public Namespace {
 public:
  explicit UtsNamespace(std::shared_ptr<UserNamespace> owner = UserNamespace::initial());
  std::shared_ptr<UtsNamespace> copy(std::shared_ptr<UserNamespace> owner) const;
  std::string host() const;
  std::string domain() const;
  void set_host(std::string name);
  void set_domain(std::string name);

 private:
  mutable std::mutex lock_;
  std::string host_ = "localhost", domain_ = "(none)";
};
using UtsNames = UtsNamespace;

// System V keys and POSIX message queues; what they are made of is known to ipc/ and syscalls/ only.
class IpcNamespace : public Namespace {
 public:
  explicit IpcNamespace(std::shared_ptr<UserNamespace> owner = UserNamespace::initial());
  enum Part { Messages, Semaphores, SharedMemory, PosixQueues, kParts };
  // The part, made by its first user. T: one type for each number.
  template <typename T, typename... Arguments>
  T& part(Part which, Arguments&&... arguments) {
    std::lock_guard guard(lock_);
    std::shared_ptr<void>& slot = parts_[which];
    if (!slot) slot = std::make_shared<T>(std::forward<Arguments>(arguments)...);
    return *static_cast<T*>(slot.get());
  }

 private:
  std::mutex lock_;
  std::shared_ptr<void> parts_[kParts];
};

// Numbers of processes and threads. Tasks of a nested one have numbers in those above it, too.
class PidNamespace : public Namespace {
 public:
  PidNamespace();
  // EUSERS (as Linux: ENOSPC): nested too deeply.
  static Result<std::shared_ptr<PidNamespace>> create(std::shared_ptr<PidNamespace> parent, std::shared_ptr<UserNamespace> owner);
  ~PidNamespace() override;
  // Under Kernel::tasks, by the number here; with those of nested namespaces.
  std::map<pid_t, Task*> tasks;
  std::map<pid_t, std::shared_ptr<ThreadGroup>> groups;  // also zombies
  std::weak_ptr<ThreadGroup> init;
  bool dead = false;      // its init has ended: nothing new begins here
  WaitQueue group_ended;  // a process has become a zombie

  const std::shared_ptr<PidNamespace> parent;
  const int level = 0;
  // Is it `other`, or nested in it?
  bool is_within(const PidNamespace& other) const;
  std::shared_ptr<Namespace> parent_namespace() const override { return parent; }

  PidNamespace(std::shared_ptr<PidNamespace> parent, std::shared_ptr<UserNamespace> owner, int level);

 private:
  friend class TaskId;
  pid_t take_number();  // -1: none left
  void give_back(pid_t number);
  std::mutex lock_;  // of what follows
  std::set<pid_t> used_;
  pid_t last_ = 0;
};

// Who a task, process, process group or session is: a number in its PID namespace and one in each above it. It lives as long as anybody
// refers to it, and until then its numbers are given to nobody else.
class TaskId {
 public:
  // EAGAIN: no number is left.
  static Result<std::shared_ptr<const TaskId>> create(std::shared_ptr<PidNamespace> space);
  ~TaskId();
  TaskId(const TaskId&) = delete;
  TaskId& operator=(const TaskId&) = delete;
  // 0: it cannot be seen there.
  pid_t in(const PidNamespace& space) const;
  pid_t number() const { return numbers_.back(); }  // in its own
  const std::shared_ptr<PidNamespace>& space() const { return space_; }

 private:
  explicit TaskId(std::shared_ptr<PidNamespace> space) : space_(std::move(space)) {}
  std::shared_ptr<PidNamespace> space_;
  std::vector<pid_t> numbers_;  // by level, the outermost first
};
using TaskIdRef = std::shared_ptr<const TaskId>;
// As numbers that may be missing: 0.
inline pid_t number_in(const TaskIdRef& id, const PidNamespace& space) { return id ? id->in(space) : 0; }

// Kinds without anything of their own. Time namespaces cannot be made.
class PlainNamespace : public Namespace {
 public:
  explicit PlainNamespace(NamespaceKind kind, std::shared_ptr<UserNamespace> owner = UserNamespace::initial())
      : Namespace(kind, std::move(owner)) {}
};

// Linux's nsproxy. Never changed once a task has it.
struct Namespaces {
  std::shared_ptr<UtsNamespace> uts;
  std::shared_ptr<IpcNamespace> ipc;
  std::shared_ptr<MountTable> mounts;
  std::shared_ptr<PidNamespace> pids_for_children;
  std::shared_ptr<NetworkNamespace> network;  // net/network_namespace.h
  std::shared_ptr<CgroupNamespace> cgroup;    // task/cgroup.h
  std::shared_ptr<PlainNamespace> time;
};
using NamespacesRef = std::shared_ptr<const Namespaces>;
// The one that containers begin in, the pod's; and the kernel's one.
const std::shared_ptr<NetworkNamespace>& sandbox_network();
const std::shared_ptr<PlainNamespace>& sandbox_time();

}  // namespace caisson::kernel
