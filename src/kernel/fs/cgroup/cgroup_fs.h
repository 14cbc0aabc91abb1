// The cgroup2 file system: a container's control groups (task/cgroup.h) as folders, with the files of cgroups(7). There is one of it for
// each container, however often it is mounted; what a mount shows begins at the mounter's cgroup namespace's root.
#pragma once

#include <vector>

#include "kernel/fs/cgroup/nodes.h"
#include "kernel/task/cgroup.h"
#include "kernel/task/credentials.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

// That of the task's container. EINVAL: no such option; EPERM: the task does not administer its cgroup namespace.
Result<std::shared_ptr<FileSystem>> make_cgroup_file_system(Task& task, std::string_view options);
// The group whose folder the file is; null: it is none.
CgroupRef cgroup_of_folder(const File& file);

class CgroupFileSystem : public FileSystem, public std::enable_shared_from_this<CgroupFileSystem> {
 public:
  explicit CgroupFileSystem(CgroupRef group) : group_(std::move(group)) {}
  const char* name() const override { return "cgroup2"; }
  Result<InodeRef> root() override;
  Result<struct statfs> stat_fs() override { return plain_statfs(0x63677270); }

 private:
  const CgroupRef group_;  // the container's
};

// A file of a group.
struct CgroupFileRow {
  const char* name;
  mode_t mode;
  unsigned controller = 0;  // Cgroup::Controller that it belongs to; 0: every group has it
  enum Where { Everywhere, Root } where = Everywhere;
  Result<std::string> (*read)(Task& task, Cgroup& group) = nullptr;
  // With the rights and the view of who opened the file.
  struct Opener {
    CredentialsRef creds;
    CgroupRef view;
  };
  Result<void> (*write)(Task& task, const CgroupRef& group, std::string_view text, const Opener& opener) = nullptr;
  bool delegated = false;  // may be written in the root of a view, too (cgroups(7), "nsdelegate")
};
extern const std::vector<CgroupFileRow> kCgroupFiles;
bool has_file_locked(const Cgroup& group, const CgroupFileRow& row);

}  // namespace caisson::kernel
