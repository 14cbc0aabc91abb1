#include "kernel/fs/proc/proc.h"

#include <dirent.h>

#include <charconv>

#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

constexpr long kProcMagic = 0x9fa0;
constexpr uint64_t kRootNumber = 1, kFixedNumbers = 10;
// Folder positions: what is fixed comes first, as numbers below this, then processes by their pid.
constexpr int64_t kProcesses = 1 << 16;
constexpr size_t kMostListed = 256;

Result<pid_t> parse_pid(std::string_view name) {
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc() || end != name.data() + name.size() || pid <= 0 || name.front() == '0') return Errno(ENOENT);
  return pid;
}

class ProcRoot : public MadeUpFolder {
 public:
  ProcRoot(std::shared_ptr<ProcFileSystem> fs, std::shared_ptr<FixedFolder> fixed)
      : MadeUpFolder(fs, kRootNumber), proc_(*fs), fixed_(std::move(fixed)) {}

  Result<InodeRef> lookup(Task& task, std::string_view name) override {
    const Result<pid_t> pid = parse_pid(name);
    if (!pid) return fixed_->lookup(task, name);
    std::shared_ptr<ThreadGroup> group;
    pid_t tid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    {
      std::lock_guard guard(proc_.kernel().tasks);
      const PidNamespace& pids = *proc_.pids();
      const auto found = pids.groups.find(*pid);
      if (found != pids.groups.end()) {
        group = found->second;
      } else if (const auto thread = pids.tasks.find(*pid); thread != pids.tasks.end()) {
        // Threads can be looked up here although they are not listed (proc(5), /proc/TID).
        group = thread->second->group;
        tid = *pid;
      } else {
        return Errno(ENOENT);
      }
      if (!group->tasks.empty() && group->dumpable) {
        uid = group->tasks.front()->creds->euid;
        gid = group->tasks.front()->creds->egid;
      }
    }
    return make_process_folder(std::static_pointer_cast<ProcFileSystem>(fs()), {group, *pid, tid, proc_.pids()}, uid, gid);
  }

  Result<std::vector<ListedEntry>> list(Task& task, int64_t position) override {
    if (position < kProcesses) {
      std::vector<ListedEntry> fixed = TRY(fixed_->list(task, position));
      if (!fixed.empty()) return fixed;
      position = kProcesses;
    }
    std::vector<ListedEntry> result;
    std::lock_guard guard(proc_.kernel().tasks);
    const auto& groups = proc_.pids()->groups;
    for (auto it = groups.lower_bound(static_cast<pid_t>(position - kProcesses)); it != groups.end() && result.size() < kMostListed; ++it)
      result.push_back({std::to_string(it->first), static_cast<uint64_t>(it->first) << 16, DT_DIR, kProcesses + it->first + 1});
    return result;
  }

 private:
  ProcFileSystem& proc_;
  std::shared_ptr<FixedFolder> fixed_;
};

}  // namespace

std::shared_ptr<ProcFileSystem> ProcFileSystem::create(Kernel& kernel, std::shared_ptr<PidNamespace> pids) {
  return std::shared_ptr<ProcFileSystem>(new ProcFileSystem(kernel, std::move(pids)));
}

Result<InodeRef> ProcFileSystem::root() {
  TreeBuilder tree(shared_from_this(), kFixedNumbers);
  add_global_files(tree, pids_);
  add_sysctl_files(tree);
  return InodeRef(std::make_shared<ProcRoot>(shared_from_this(), tree.root()));
}

Result<struct statfs> ProcFileSystem::stat_fs() { return plain_statfs(kProcMagic); }

}  // namespace caisson::kernel
