// Kernel: the one object of a kernel process: containers, tasks, the zygote and the watcher of host descriptors.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "kernel/held.h"
#include "kernel/limits.h"
#include "kernel/task/cgroup.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

// What uname(2) says. The release is one that programs know how to take.
inline constexpr const char* kKernelRelease = "6.1.0-caisson";
inline constexpr const char* kKernelVersion = "#1 Caisson application kernel";

class StubPool;
class HostWatcher;
class StubProcess;

// A container: a root file system, names, and the processes that started here. One object for the life of the kernel process: processes
// refer to it, also those that have ended.
class Container {
 public:
  ~Container() { groups->dissolve(); }
  std::string id;
  std::shared_ptr<PidNamespace> pids;
  std::shared_ptr<MountTable> mounts;
  std::shared_ptr<UtsNames> uts;
  std::shared_ptr<IpcNamespace> ipc;            // null: one of its own is made with the first process
  std::shared_ptr<CgroupNamespace> cgroup;      // the same
  std::shared_ptr<const SeccompState> seccomp;  // of every process that is started from outside; null: none
  Path root;
  std::shared_ptr<ThreadGroup> init;  // set by the first start()
  // What its first processes live in; makes those that are missing.
  NamespacesRef namespaces();
  // Of processes that are started from outside; and how the zygote, and each new stub of it, is scheduled on the host.
  uint32_t personality = 0;
  Scheduling scheduling;
  int nice = 0;
  std::shared_ptr<Terminal> console;  // /dev/console: the terminal of its first process, or none
  // Where its processes' stubs come from; null: Kernel::stubs(). Set before the first start().
  std::shared_ptr<StubPool> stubs;
  // The group that it is itself; it counts its tasks, and how many they may be.
  const CgroupRef groups = std::make_shared<Cgroup>(*this);
  static constexpr size_t kMostTasks = 32768;

  // What the kernel holds for it.
  const std::shared_ptr<HeldMemory> held = std::make_shared<HeldMemory>();

  // Own lock, a leaf.
  CgroupLimits limits() const;
  void set_limits(const CgroupLimits& limits);

 private:
  mutable std::mutex limits_lock_;
  CgroupLimits limits_;
};

// A process to be started from outside (create, exec).
struct StartProcess {
  std::vector<std::string> arguments, environment;
  std::string cwd = "/";
  CredentialsRef creds;
  mode_t umask = 022;
  std::vector<std::pair<int, rlimit>> limits;
  int oom_score_adj = 0;
  Scheduling scheduling;
  int nice = 0;
  std::vector<FileRef> files;          // 0, 1, 2, then the preserved ones; null: closed
  std::shared_ptr<Terminal> terminal;  // becomes the controlling terminal
};

class Kernel {
 public:
  // Before the first thread: forks the zygote. zygote: false where every container brings its own (Container::stubs).
  static Result<std::unique_ptr<Kernel>> create(bool zygote = true);
  ~Kernel();

  // Guards what task.h says it does.
  std::mutex tasks;

  // One for the life of the process.
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  StubPool& stubs() { return *stubs_; }
  // That of the task's container.
  StubPool& stubs_of(const Task& task);
  HostWatcher& watcher() { return *watcher_; }

  // Starts a process in a container: its first (which becomes `init`, pid 1), or one more. Returns when its program has been loaded, with
  // exec's error otherwise. The process waits for `go`, called later by whoever started it, before its first instruction.
  struct Started {
    std::shared_ptr<ThreadGroup> group;
    std::function<void()> go;
    std::shared_ptr<Terminal> terminal;  // of the process, if it has one
  };
  Result<Started> start(Container& container, StartProcess process);

  // Notices when a stub's process ends by itself, and has its tasks end.
  void watch(const std::shared_ptr<StubProcess>& process);
  // Host threads of tasks; shutdown() waits until there are none.
  void thread_began();
  void thread_ended();
  // Blocks the calling thread (no task's) until the process is a zombie.
  void wait_for_end(ThreadGroup& group);
  // Ends every process. Afterwards the object may be destroyed.
  void shutdown();

 private:
  void stub_died(const std::shared_ptr<StubProcess>& process);
  std::mutex threads_lock_;
  std::condition_variable threads_gone_;
  size_t threads_ = 0;
  std::list<std::shared_ptr<PidNamespace>> namespaces_;  // under tasks
  Kernel() = default;
  std::unique_ptr<StubPool> stubs_;
  std::unique_ptr<HostWatcher> watcher_;
};

}  // namespace caisson::kernel
