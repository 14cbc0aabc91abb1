// The inodes of cgroup_fs.h: a group's folder and its files.
#pragma once

#include "kernel/fs/cgroup/cgroup_fs.h"
#include "kernel/fs/common/text.h"

namespace caisson::kernel {

class CgroupFolder : public MadeUpFolder {
 public:
  CgroupFolder(const std::shared_ptr<CgroupFileSystem>& fs, CgroupRef group);
  const CgroupRef& group() const { return group_; }
  Result<struct statx> stat() override;
  Result<void> set_attributes(Task& task, const Attributes& attributes) override;
  Result<InodeRef> lookup(Task& task, std::string_view name) override;
  // Files first, then groups in the order of their making.
  Result<std::vector<ListedEntry>> list(Task& task, int64_t position) override;
  Result<InodeRef> make(Task& task, std::string_view name, mode_t mode_and_type, dev_t device) override;
  Result<void> remove_folder(Task& task, std::string_view name) override;

 private:
  std::shared_ptr<CgroupFileSystem> cgroup_fs() const { return std::static_pointer_cast<CgroupFileSystem>(fs()); }
  const CgroupRef group_;
};

class CgroupFile : public MadeUpInode {
 public:
  CgroupFile(const std::shared_ptr<CgroupFileSystem>& fs, CgroupRef group, size_t row);
  Result<struct statx> stat() override;
  Result<void> set_attributes(Task& task, const Attributes& attributes) override;
  Result<FileRef> open(Task& task, const Path& path, int flags) override;

 private:
  const CgroupRef group_;
  const size_t row_;
};

}  // namespace caisson::kernel
