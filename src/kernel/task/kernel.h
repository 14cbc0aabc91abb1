// Kernel: the one object of a kernel process: containers, tasks, the zygote and the watcher of host descriptors.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "kernel/task/task.h"

namespace caisson::kernel {

class StubPool;
class HostWatcher;

// A container: a root file system, names, and the processes that started here.
class Container {
 public:
  std::string id;
  std::shared_ptr<PidNamespace> pids;
  std::shared_ptr<MountTable> mounts;
  std::shared_ptr<UtsNames> uts;
  Path root;
  std::shared_ptr<ThreadGroup> init;
};

// A process to be started from outside (create, exec).
struct StartProcess {
  std::vector<std::string> arguments, environment;
  std::string cwd = "/";
  CredentialsRef creds;
  mode_t umask = 022;
  std::vector<std::pair<int, rlimit>> limits;
  std::vector<FileRef> files;          // 0, 1, 2, then the preserved ones; null: closed
  std::shared_ptr<Terminal> terminal;  // becomes the controlling terminal
};

class Kernel {
 public:
  // Before the first thread: forks the zygote.
  static Result<std::unique_ptr<Kernel>> create();
  ~Kernel();

  // Guards what task.h says it does.
  std::mutex tasks;

  StubPool& stubs() { return *stubs_; }
  HostWatcher& watcher() { return *watcher_; }

  // Starts a process in a container: its first (which becomes `init`, pid 1), or one more. Returns when its program has been loaded, with
  // exec's error otherwise. The process waits for `go`, called later by whoever started it, before its first instruction.
  struct Started {
    std::shared_ptr<ThreadGroup> group;
    std::function<void()> go;
  };
  Result<Started> start(Container& container, StartProcess process);

 private:
  Kernel() = default;
  std::unique_ptr<StubPool> stubs_;
  std::unique_ptr<HostWatcher> watcher_;
};

}  // namespace caisson::kernel
