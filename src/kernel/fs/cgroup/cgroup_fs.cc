#include "kernel/fs/cgroup/cgroup_fs.h"

#include <dirent.h>

#include <algorithm>

#include "base/text.h"
#include "kernel/fs/cgroup/inodes.h"
#include "kernel/task/current.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/notify.h"

namespace caisson::kernel {
namespace {

// An open file of a group. Of those that change by themselves poll(2) tells: POLLPRI and POLLERR since the last read.
class OpenCgroupFile : public TextFile {
 public:
  OpenCgroupFile(Path path, int flags, TextInode::Read read, TextInode::Write write, CgroupRef group, CgroupNodes::Change change)
      : TextFile(std::move(path), flags, std::move(read), std::move(write)),
        group_(std::move(group)),
        change_(change),
        seen_(group_->nodes->version(change)) {}
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override {
    if (offset == 0) seen_ = group_->nodes->version(change_);
    return TextFile::read(task, buffer, offset);
  }
  Events poll() override {
    const Events always = TextFile::poll();
    return group_->nodes->version(change_) != seen_ ? always | POLLPRI | POLLERR : always;
  }
  WaitQueue* wait_queue() override { return &group_->nodes->changes; }

 private:
  const CgroupRef group_;
  const CgroupNodes::Change change_;
  std::atomic<uint32_t> seen_;
};

std::optional<CgroupNodes::Change> change_of(std::string_view name) {
  if (name == "cgroup.events") return CgroupNodes::Events;
  if (name == "pids.events") return CgroupNodes::PidsEvents;
  return std::nullopt;
}

}  // namespace

bool has_file_locked(const Cgroup& group, const CgroupFileRow& row) {
  if (row.where == CgroupFileRow::Root && group.parent) return false;
  return row.controller == 0 || (group.controllers() & row.controller) != 0;
}

Result<std::shared_ptr<FileSystem>> make_cgroup_file_system(Task& task, std::string_view options) {
  // What nsdelegate asks for is so anyway; the others are about what is not there.
  constexpr std::string_view kOptions[] = {"nsdelegate", "favordynmods", "memory_localevents", "memory_recursiveprot"};
  for (const std::string_view option : split_fields(options, ','))
    if (std::ranges::find(kOptions, option) == std::end(kOptions)) return Errno(EINVAL);
  if (!task.creds->has_in(*task.spaces->cgroup->owner, kCapSysAdmin)) return Errno(EPERM);
  Cgroup& root = *task.group->container->groups;
  std::lock_guard guard(task.kernel.tasks);
  std::shared_ptr<FileSystem> fs = root.file_system.lock();
  if (!fs) root.file_system = fs = std::make_shared<CgroupFileSystem>(root.shared_from_this());
  return fs;
}

CgroupRef cgroup_of_folder(const File& file) {
  if (!file.path()) return nullptr;
  const auto* folder = dynamic_cast<const CgroupFolder*>(file.path().inode().get());
  return folder != nullptr ? folder->group() : nullptr;
}

// Asked for by who mounts it.
Result<InodeRef> CgroupFileSystem::root() {
  const Task* mounter = current_task();
  const CgroupRef& view = mounter != nullptr && mounter->spaces ? mounter->spaces->cgroup->root : group_;
  const CgroupRef& top = &view->root() == group_.get() ? view : group_;
  return top->nodes->folder(shared_from_this(), top);
}

CgroupFolder::CgroupFolder(const std::shared_ptr<CgroupFileSystem>& fs, CgroupRef group)
    : MadeUpFolder(fs, group->nodes->number << 8), group_(std::move(group)) {}

Result<struct statx> CgroupFolder::stat() { return to_statx(*fs(), group_->nodes->attributes(CgroupNodes::kFolder)); }

Result<void> CgroupFolder::set_attributes(Task& task, const Attributes& attributes) {
  return group_->nodes->set_attributes(task, CgroupNodes::kFolder, attributes);
}

Result<InodeRef> CgroupFolder::lookup(Task& task, std::string_view name) {
  CgroupRef child;
  std::optional<size_t> row;
  {
    std::lock_guard guard(task.kernel.tasks);
    if (group_->removed) return Errno(ENOENT);
    if (const auto found = group_->children.find(name); found != group_->children.end()) child = found->second;
    for (size_t i = 0; !child && !row && i < kCgroupFiles.size(); ++i)
      if (name == kCgroupFiles[i].name && has_file_locked(*group_, kCgroupFiles[i])) row = i;
  }
  if (child) return child->nodes->folder(cgroup_fs(), child);
  if (row) return group_->nodes->file(cgroup_fs(), group_, *row);
  return Errno(name.size() > 255 ? ENAMETOOLONG : ENOENT);
}

Result<std::vector<ListedEntry>> CgroupFolder::list(Task& task, int64_t position) {
  // A file's position is its row, a group's its number behind all rows: what comes and goes moves nobody else.
  const auto first_group = static_cast<int64_t>(kCgroupFiles.size()) + 2;
  std::vector<ListedEntry> entries;
  std::lock_guard guard(task.kernel.tasks);
  if (group_->removed) return entries;
  for (int64_t at = std::max<int64_t>(position, 2); at < first_group; ++at) {
    const auto row = static_cast<size_t>(at - 2);
    if (has_file_locked(*group_, kCgroupFiles[row]))
      entries.push_back({kCgroupFiles[row].name, (group_->nodes->number << 8) + row + 1, DT_REG, at + 1});
  }
  const size_t files = entries.size();
  for (const auto& [name, child] : group_->children) {
    const int64_t at = first_group + static_cast<int64_t>(child->nodes->number);
    if (at >= position) entries.push_back({name, child->nodes->number << 8, DT_DIR, at + 1});
  }
  std::sort(entries.begin() + static_cast<ptrdiff_t>(files), entries.end(),
            [](const ListedEntry& one, const ListedEntry& other) { return one.next < other.next; });
  return entries;
}

Result<InodeRef> CgroupFolder::make(Task& task, std::string_view name, mode_t mode_and_type, dev_t) {
  if (!S_ISDIR(mode_and_type)) return S_ISREG(mode_and_type) ? Errno(EACCES) : Errno(EPERM);
  if (name.find('\n') != name.npos) return Errno(EINVAL);
  if (name.size() > 255) return Errno(ENAMETOOLONG);
  HeldBytes held = TRY(HeldBytes::take(Cgroup::kOwnMemory));
  auto nodes = std::make_shared<CgroupNodes>(task.creds->fsuid, task.creds->fsgid, mode_and_type & 07777);
  CgroupRef made;
  {
    std::lock_guard guard(task.kernel.tasks);
    made = TRY(group_->make_locked(name, std::move(nodes), std::move(held)));
  }
  ++group_->nodes->folders;
  return made->nodes->folder(cgroup_fs(), made);
}

Result<void> CgroupFolder::remove_folder(Task& task, std::string_view name) {
  CgroupRef removed;
  {
    std::lock_guard guard(task.kernel.tasks);
    removed = TRY(group_->remove_locked(name));
  }
  --group_->nodes->folders;
  removed->nodes->end_watches();
  return {};
}

CgroupFile::CgroupFile(const std::shared_ptr<CgroupFileSystem>& fs, CgroupRef group, size_t row)
    : MadeUpInode(fs, (group->nodes->number << 8) + row + 1, S_IFREG | kCgroupFiles[row].mode), group_(std::move(group)), row_(row) {}

Result<struct statx> CgroupFile::stat() { return to_statx(*fs(), group_->nodes->attributes(row_)); }

Result<void> CgroupFile::set_attributes(Task& task, const Attributes& attributes) {
  return group_->nodes->set_attributes(task, row_, attributes);
}

Result<FileRef> CgroupFile::open(Task& task, const Path& path, int flags) {
  if ((flags & O_PATH) != 0) return MadeUpInode::open(task, path, flags);
  const CgroupFileRow& row = kCgroupFiles[row_];
  // What has been removed answers no more, also to who has it open.
  const auto check = [group = group_](Task& caller) -> Result<void> {
    std::lock_guard guard(caller.kernel.tasks);
    return group->removed ? Errno(ENODEV) : Result<void>();
  };
  TRY(check(task));
  const TextInode::Read read = [check, group = group_, &row](Task& reader) -> Result<std::string> {
    TRY(check(reader));
    return row.read != nullptr ? row.read(reader, *group) : Errno(EINVAL);
  };
  const TextInode::Write write = [check, group = group_, &row, opener = CgroupFileRow::Opener{task.creds, task.spaces->cgroup->root}](
                                     Task& writer, std::string_view text) -> Result<void> {
    TRY(check(writer));
    if (row.write == nullptr) return Errno(EINVAL);
    if (!row.delegated && (!group->parent || group == opener.view)) return Errno(EPERM);
    while (!text.empty() && isspace(text.back())) text.remove_suffix(1);
    while (!text.empty() && isspace(text.front())) text.remove_prefix(1);
    return row.write(writer, group, text, opener);
  };
  if (const auto change = change_of(row.name)) return FileRef(std::make_shared<OpenCgroupFile>(path, flags, read, write, group_, *change));
  return FileRef(std::make_shared<TextFile>(path, flags, read, write));
}

}  // namespace caisson::kernel
