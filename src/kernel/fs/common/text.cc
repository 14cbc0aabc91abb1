#include "kernel/fs/common/text.h"

#include <stdarg.h>
#include <stdio.h>

#include <algorithm>

#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostWritten = 65536;

class MadeUpFolderFile : public File {
 public:
  MadeUpFolderFile(std::shared_ptr<MadeUpFolder> inode, Path path, int flags) : File(std::move(path), flags), inode_(std::move(inode)) {}
  Result<size_t> read(Task&, IoBuffer&, off_t) override { return Errno(EISDIR); }
  bool seekable() const override { return true; }
  Result<void> read_dir(Task& task, int64_t& position, const DirSink& sink) override {
    if (!emit_dots(*this, position, sink)) return {};
    for (;;) {
      const std::vector<ListedEntry> entries = TRY(inode_->list(task, position));
      if (entries.empty()) return {};
      for (const ListedEntry& entry : entries) {
        if (!sink({entry.name, entry.inode, entry.type, entry.next})) return {};
        position = entry.next;
      }
    }
  }

 private:
  std::shared_ptr<MadeUpFolder> inode_;
};

}  // namespace

Result<size_t> TextFile::read(Task& task, IoBuffer& buffer, off_t offset) {
  if (!read_) return Errno(EIO);
  if (offset < 0) return Errno(EINVAL);
  std::shared_ptr<const std::string> text;
  {
    std::lock_guard guard(lock_);
    text = text_;
  }
  if (offset == 0 || !text) {
    text = std::make_shared<const std::string>(TRY(read_(task)));
    std::lock_guard guard(lock_);
    text_ = text;
  }
  if (static_cast<size_t>(offset) >= text->size()) return size_t{0};
  return buffer.put(text->data() + offset, text->size() - static_cast<size_t>(offset));
}

Result<size_t> TextFile::write(Task& task, IoBuffer& buffer, off_t) {
  if (!write_) return Errno(EIO);
  const size_t size = buffer.left();
  if (size > kMostWritten) return Errno(EINVAL);
  std::string text(size, '\0');
  text.resize(TRY(buffer.take(text.data(), size)));
  TRY(write_(task, text));
  return size;
}

MadeUpInode::MadeUpInode(std::shared_ptr<FileSystem> fs, uint64_t number, mode_t mode, uid_t uid, gid_t gid)
    : Inode(std::move(fs)), node_(NodeStat::make(number, mode, uid, gid)) {}

Result<FileRef> MadeUpInode::open(Task&, const Path& path, int flags) {
  if ((flags & O_PATH) != 0) return FileRef(std::make_shared<File>(path, flags));
  return Errno(ENXIO);
}

Result<FileRef> TextInode::open(Task& task, const Path& path, int flags) {
  if ((flags & O_PATH) != 0) return MadeUpInode::open(task, path, flags);
  if ((flags & O_ACCMODE) != O_RDONLY && !write_) return Errno(EACCES);
  return FileRef(std::make_shared<TextFile>(path, flags, read_, write_));
}

Result<void> TextInode::set_attributes(Task&, const Attributes& attributes) {
  return (attributes.mask & ~static_cast<uint32_t>(STATX_SIZE)) == 0 && write_ ? Result<void>() : Errno(EPERM);
}

Result<FileRef> MadeUpFolder::open(Task&, const Path& path, int flags) {
  return FileRef(std::make_shared<MadeUpFolderFile>(std::static_pointer_cast<MadeUpFolder>(path.inode()), path, flags));
}

Result<std::vector<ListedEntry>> FixedFolder::list(Task&, int64_t position) {
  std::vector<ListedEntry> result;
  for (size_t i = static_cast<size_t>(std::max<int64_t>(position, 2) - 2); i < entries_.size(); ++i) {
    const auto& [name, inode] = entries_[i];
    result.push_back({name, inode->identity().second, entry_type(inode->type()), static_cast<int64_t>(i) + 3});
  }
  return result;
}

Result<InodeRef> FixedFolder::lookup(Task&, std::string_view name) {
  for (const auto& [each, inode] : entries_)
    if (each == name) return inode;
  return Errno(ENOENT);
}

std::shared_ptr<FixedFolder> TreeBuilder::folder(const std::string& path) {
  for (const auto& [name, known] : folders_)
    if (name == path) return known;
  auto made = std::make_shared<FixedFolder>(fs_, next_++);
  add(path, made);
  folders_.emplace_back(path, made);
  return made;
}

void TreeBuilder::add(const std::string& path, InodeRef inode) {
  const size_t slash = path.rfind('/');
  if (slash == path.npos)
    root_->add(path, std::move(inode));
  else
    folder(path.substr(0, slash))->add(path.substr(slash + 1), std::move(inode));
}

void TreeBuilder::text(const std::string& path, std::string content) {
  file(path, [content = std::move(content)](Task&) -> Result<std::string> { return content; });
}

void TreeBuilder::file(const std::string& path, TextInode::Read read, mode_t permissions, TextInode::Write write) {
  add(path, std::make_shared<TextInode>(fs_, next_++, permissions, std::move(read), std::move(write)));
}

void TreeBuilder::link(const std::string& path, std::string target) {
  add(path, std::make_shared<LinkInode>(fs_, next_++, [target = std::move(target)](Task&) -> Result<std::string> { return target; }));
}

void append_format(std::string& text, const char* format, ...) {
  char piece[1024];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(piece, sizeof piece, format, arguments);
  va_end(arguments);
  if (length > 0) text.append(piece, std::min(sizeof piece - 1, static_cast<size_t>(length)));
}

}  // namespace caisson::kernel
