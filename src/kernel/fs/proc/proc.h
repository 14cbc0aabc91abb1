// Proc: processes and the kernel's state as text (proc(5)). What belongs to a stub's memory comes from the host's /proc of that stub,
// through platform/host_proc.h; everything else from the kernel's own objects.
//
// Locks: Kernel::tasks while facts about a process are gathered; never over host calls.
#pragma once

#include <memory>

#include "kernel/fs/common/text.h"
#include "kernel/task/namespaces.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class Kernel;
class ThreadGroup;

class ProcFileSystem : public FileSystem, public std::enable_shared_from_this<ProcFileSystem> {
 public:
  static std::shared_ptr<ProcFileSystem> create(Kernel& kernel, std::shared_ptr<PidNamespace> pids);
  const char* name() const override { return "proc"; }
  Result<InodeRef> root() override;
  Result<struct statfs> stat_fs() override;
  Kernel& kernel() const { return kernel_; }
  const std::shared_ptr<PidNamespace>& pids() const { return pids_; }

 private:
  ProcFileSystem(Kernel& kernel, std::shared_ptr<PidNamespace> pids) : kernel_(kernel), pids_(std::move(pids)) {}
  Kernel& kernel_;
  std::shared_ptr<PidNamespace> pids_;
};

// A process, or one thread of it, as a folder of proc stands for it.
struct ProcSubject {
  std::weak_ptr<ThreadGroup> group;
  pid_t pid = 0;
  pid_t tid = 0;                             // 0: the process as a whole
  std::shared_ptr<const PidNamespace> pids;  // whose numbers these are
};
// /proc/PID and /proc/PID/task/TID.
InodeRef make_process_folder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uid_t uid, gid_t gid);
// The process whose folder /proc/PID this open file is; null: it is something else, or the process is gone.
std::shared_ptr<ThreadGroup> process_of_folder(const File& file);

// /proc/PID/fd, fdinfo and task. `number`: of the folder's inode; those of its entries follow.
InodeRef make_fd_folder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uint64_t number, bool info, uid_t uid, gid_t gid);
InodeRef make_task_folder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uint64_t number);

// Takes the id maps of the user namespace that this process is in on the host for those of the initial one. Before the first task, and
// before it enters one of its own.
Result<void> adopt_host_id_maps();

// Adds everything that is not about a process, and /proc/sys.
void add_global_files(TreeBuilder& tree, std::shared_ptr<const PidNamespace> pids);
void add_sysctl_files(TreeBuilder& tree);
// Folders of a network: /proc/PID/net, and /proc/sys/net of whoever looks.
InodeRef make_network_state(std::shared_ptr<FileSystem> fs, ProcSubject subject, uint64_t number);
InodeRef make_network_settings(std::shared_ptr<FileSystem> fs, uint64_t number);

}  // namespace caisson::kernel
