// mounts, mountinfo, mountstats.
#include <poll.h>

#include "kernel/fs/common/text.h"
#include "kernel/fs/proc/facts.h"
#include "kernel/fs/registry.h"
#include "kernel/vfs/mount_tree.h"

namespace caisson::kernel {
namespace {

// Blanks and the like as octal escapes (fstab(5)).
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\\' || c == '#')
      append_format(result, "\\%03o", static_cast<unsigned>(static_cast<unsigned char>(c)));
    else
      result.push_back(c);
  }
  return result;
}

struct Row {
  MountRef mount;
  std::string point;
};

Result<std::vector<Row>> rows_of(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  std::vector<Row> rows;
  if (!facts.fs || !facts.spaces) return rows;
  const Path root = facts.fs->root();
  for (const MountRef& mount : facts.spaces->mounts->all()) {
    const auto point = place_text(root, {mount, mount->root});
    if (point) rows.push_back({mount, escaped(*point)});
  }
  return rows;
}

// How it spreads (mount_namespaces(7)).
std::string optional_fields(const MountRef& mount) {
  const PropagationFacts facts = MountTable::propagation(mount);
  std::string text;
  if (facts.shared != 0) text += " shared:" + std::to_string(facts.shared);
  if (facts.master != 0) text += " master:" + std::to_string(facts.master);
  if (facts.unbindable) text += " unbindable";
  return text;
}

std::string source_of(const Mount& mount) { return mount.source.empty() ? "none" : escaped(mount.source); }
std::string own_options(const Mount& mount) { return mount.options.empty() ? "" : "," + escaped(mount.options); }

}  // namespace

std::string root_text(const DentryRef& root, bool says_all) {
  if (says_all) return root->name();
  std::string text;
  for (DentryRef at = root; at && at->parent() && text.size() < 65536; at = at->parent()) text = "/" + at->name() + text;
  return text.empty() ? "/" : text;
}

Result<std::string> proc_mounts(Task& reader, const ProcSubject& subject) {
  std::string text;
  for (const Row& row : TRY(rows_of(reader, subject)))
    text += source_of(*row.mount) + " " + row.point + " " + row.mount->fs->name() + " " + mount_flags_text(row.mount->flags) +
            own_options(*row.mount) + " 0 0\n";
  return text;
}

Result<std::string> proc_mountinfo(Task& reader, const ProcSubject& subject) {
  std::string text;
  for (const Row& row : TRY(rows_of(reader, subject))) {
    const Mount& mount = *row.mount;
    const MountRef above = mount.point().mount;
    append_format(text, "%lu %lu 0:%u ", static_cast<unsigned long>(mount.id), static_cast<unsigned long>(above ? above->id : mount.id - 1),
                  mount.fs->device);
    text += escaped(root_text(mount.root, mount.fs->names_say_all())) + " " + row.point + " " + mount_flags_text(mount.flags) +
            optional_fields(row.mount) + " - " + mount.fs->name() + " " + source_of(mount) + " " + (mount.read_only() ? "ro" : "rw") +
            own_options(mount) + "\n";
  }
  return text;
}

namespace {

// Always readable; POLLPRI and POLLERR at the first look after a change, as Linux has it.
class MountsFile : public TextFile {
 public:
  MountsFile(Path path, int flags, TextInode::Read read, std::shared_ptr<MountChanges> changes)
      : TextFile(std::move(path), flags, std::move(read), nullptr), changes_(std::move(changes)), seen_(changes_->count.load()) {}
  Events poll() override {
    const uint32_t now = changes_->count.load();
    return POLLIN | POLLRDNORM | (seen_.exchange(now) != now ? POLLPRI | POLLERR : 0);
  }
  WaitQueue* wait_queue() override { return &changes_->queue; }

 private:
  const std::shared_ptr<MountChanges> changes_;
  std::atomic<uint32_t> seen_;
};

class MountsInode : public MadeUpInode {
 public:
  MountsInode(std::shared_ptr<FileSystem> fs, uint64_t number, mode_t mode, ProcSubject subject, ProcText text)
      : MadeUpInode(std::move(fs), number, S_IFREG | mode), subject_(std::move(subject)), text_(text) {}
  Result<FileRef> open(Task& task, const Path& path, int flags) override {
    if ((flags & O_PATH) != 0) return MadeUpInode::open(task, path, flags);
    if ((flags & O_ACCMODE) != O_RDONLY) return Errno(EACCES);
    const ProcFacts facts = TRY(gather(task.kernel, subject_));
    if (!facts.spaces) return Errno(EINVAL);  // a zombie
    return FileRef(std::make_shared<MountsFile>(
        path, flags, [subject = subject_, text = text_](Task& reader) { return text(reader, subject); },
        mount_changes_of(*facts.spaces->mounts)));
  }

 private:
  const ProcSubject subject_;
  const ProcText text_;
};

}  // namespace

InodeRef make_mounts_file(std::shared_ptr<FileSystem> fs, uint64_t number, mode_t mode, const ProcSubject& subject, ProcText text) {
  return std::make_shared<MountsInode>(std::move(fs), number, mode, subject, text);
}

Result<std::string> proc_mountstats(Task& reader, const ProcSubject& subject) {
  std::string text;
  for (const Row& row : TRY(rows_of(reader, subject)))
    text += "device " + source_of(*row.mount) + " mounted on " + row.point + " with fstype " + row.mount->fs->name() + "\n";
  return text;
}

}  // namespace caisson::kernel
