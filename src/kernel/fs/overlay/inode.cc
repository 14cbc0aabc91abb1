// One file of an overlay, and how it comes to the upper layer.
#include <string.h>
#include <sys/sysmacros.h>

#include "kernel/fs/dev/devices.h"
#include "kernel/fs/overlay/overlay.h"
#include "kernel/task/task.h"
#include "kernel/vfs/release.h"

namespace caisson::kernel {
namespace {

constexpr const char* kNumberAttribute = "caisson.number";  // of its lower part: it stays when that is no longer seen

timespec time_of(const statx_timestamp& from) { return {from.tv_sec, from.tv_nsec}; }

Attributes times_of(const struct statx& stat) {
  return {.mask = STATX_ATIME | STATX_MTIME, .atime = time_of(stat.stx_atime), .mtime = time_of(stat.stx_mtime)};
}

Result<void> copy_data(Task& task, File& from, File& to, off_t size) {
  constexpr size_t kPiece = 256 * 1024;
  const std::unique_ptr<char[]> room(new char[kPiece]);
  for (off_t at = 0; at < size;) {
    const Result<off_t> data = from.seek(at, at, SEEK_DATA);  // holes stay holes
    if (!data && data.error() == Errno(ENXIO)) break;
    if (data) at = *data;
    IoBuffer in(room.get(), kPiece);
    const size_t got = TRY(from.read(task, in, at));
    if (got == 0) break;
    for (size_t done = 0; done < got;) {
      IoBuffer out(static_cast<const char*>(room.get()) + done, got - done);
      const size_t put = TRY(to.write(task, out, at + static_cast<off_t>(done)));
      if (put == 0) return Errno(EIO);
      done += put;
    }
    at += static_cast<off_t>(got);
  }
  return to.truncate(task, size);
}

Result<void> copy_attributes(OverlayFileSystem& fs, Inode& from, Inode& to) {
  Task& task = fs.mounter();
  const Result<std::string> names = from.list_xattr(task);
  if (!names) return {};
  for (size_t at = 0; at < names->size();) {
    const std::string name = names->c_str() + at;
    at += name.size() + 1;
    if (fs.is_own_attribute(name)) continue;
    const std::string value = TRY(from.get_xattr(task, name.c_str()));
    const Result<void> set = to.set_xattr(task, name.c_str(), value, 0);
    if (!set && set.error() != Errno(EOPNOTSUPP) && !name.starts_with("security.")) return set.error();
  }
  return {};
}

}  // namespace

OverlayInode::OverlayInode(std::shared_ptr<OverlayFileSystem> fs, mode_t type, InodeRef upper, std::vector<LayerFile> lowers,
                           uint64_t number)
    : Inode(fs), overlay_(*fs), type_(type), lowers_(std::move(lowers)), upper_(std::move(upper)), number_(number) {
  if (!upper_ || S_ISDIR(type_)) return;
  const Result<std::string> kept = upper_->get_xattr(fs->mounter(), fs->attribute(*upper_, kNumberAttribute).c_str());
  if (kept && kept->size() == sizeof number) {
    memcpy(&number, kept->data(), sizeof number);
    number_ = number;
  }
}

OverlayInode::~OverlayInode() { release_flat(std::move(parent_)); }

InodeRef OverlayInode::upper() const {
  std::lock_guard guard(lock_);
  return upper_;
}

InodeRef OverlayInode::real() const {
  std::lock_guard guard(lock_);
  return upper_ ? upper_ : lowers_[0].inode;
}

std::pair<uint64_t, uint64_t> OverlayInode::identity() const { return {reinterpret_cast<uint64_t>(&overlay_), number_}; }

void OverlayInode::placed(std::shared_ptr<OverlayFolder> parent, std::string_view name) {
  std::lock_guard guard(lock_);
  parent_ = std::move(parent);
  name_ = name;
}

Result<struct statx> OverlayInode::stat() {
  struct statx stat = TRY(real()->stat());
  stat.stx_ino = number_;
  stat.stx_dev_major = 0;
  stat.stx_dev_minor = overlay_.device;
  const InodeRef above = upper();
  if (S_ISDIR(type_) && (has_lower() || !above)) stat.stx_nlink = 1;
  if (unlinked_ && (S_ISDIR(type_) || !above)) stat.stx_nlink = 0;
  return stat;
}

Result<std::string> OverlayInode::read_link(Task&) { return real()->read_link(overlay_.mounter()); }

Result<FileRef> OverlayInode::open(Task& task, const Path& path, int flags) {
  if ((flags & O_PATH) != 0) return FileRef(std::make_shared<File>(path, flags));
  switch (type_) {
    case S_IFIFO:
      return open_named_pipe(task, path, flags, identity());
    case S_IFSOCK:
      return Errno(ENXIO);
    case S_IFCHR:
    case S_IFBLK: {
      const struct statx stat = TRY(real()->stat());
      return open_device(task, path, flags, type_, makedev(stat.stx_rdev_major, stat.stx_rdev_minor));
    }
    case S_IFDIR:
      return make_overlay_folder_file(std::static_pointer_cast<OverlayFolder>(shared_from_this()), path, flags);
  }
  const bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
  if (writes) TRY(copy_up((flags & O_TRUNC) == 0));
  const InodeRef above = upper();
  FileRef inner = TRY(open_real(overlay_, above ? above : lowers_[0].inode, flags));
  const int kept = flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_CLOEXEC | kOpenTrusted);
  return make_overlay_file(shared_from_this(), std::move(inner), above != nullptr, path, kept);
}

Result<void> OverlayInode::set_attributes(Task&, const Attributes& attributes) {
  const bool empties = (attributes.mask & STATX_SIZE) != 0 && attributes.size == 0;
  return TRY(copy_up(!empties))->set_attributes(overlay_.mounter(), attributes);
}

Result<std::string> OverlayInode::get_xattr(Task& task, const char* name) {
  if (overlay_.is_own_attribute(name)) return Errno(ENODATA);
  if (std::string_view(name).starts_with("trusted.") && !task.creds->has(kCapSysAdmin)) return Errno(ENODATA);
  return real()->get_xattr(overlay_.mounter(), name);
}

namespace {

Result<void> may_set(Task& task, const OverlayFileSystem& fs, Inode& inode, const char* name) {
  if (fs.is_own_attribute(name)) return Errno(EOPNOTSUPP);
  const std::string_view text = name;
  if (text.starts_with("trusted.") && !task.creds->has(kCapSysAdmin)) return Errno(EPERM);
  if (text == "security.capability" && !task.creds->has(kCapSetfcap)) return Errno(EPERM);
  if (text.starts_with("system.")) {
    const struct statx stat = TRY(inode.stat());
    if (task.creds->fsuid != stat.stx_uid && !task.creds->has(kCapFowner)) return Errno(EPERM);
  }
  return {};
}

}  // namespace

Result<void> OverlayInode::set_xattr(Task& task, const char* name, std::string_view value, int flags) {
  TRY(may_set(task, overlay_, *this, name));
  return TRY(copy_up())->set_xattr(overlay_.mounter(), name, value, flags);
}

Result<void> OverlayInode::remove_xattr(Task& task, const char* name) {
  TRY(may_set(task, overlay_, *this, name));
  if (!upper()) TRY(real()->get_xattr(overlay_.mounter(), name));  // nothing is copied up for what is not there
  return TRY(copy_up())->remove_xattr(overlay_.mounter(), name);
}

Result<std::string> OverlayInode::list_xattr(Task& task) {
  const std::string all = TRY(real()->list_xattr(overlay_.mounter()));
  std::string names;
  for (size_t at = 0; at < all.size();) {
    const std::string name = all.c_str() + at;
    at += name.size() + 1;
    if (overlay_.is_own_attribute(name) || (name.starts_with("trusted.") && !task.creds->has(kCapSysAdmin))) continue;
    names += name;
    names.push_back('\0');
  }
  return names;
}

Result<InodeRef> OverlayInode::copy_up(bool with_data) {
  if (InodeRef there = upper()) return there;
  if (overlay_.read_only()) return Errno(EROFS);
  // The folders above first, from the top; a loop, since a guest's folders may be deep.
  std::vector<OverlayRef> chain = {shared_from_this()};
  for (;;) {
    std::shared_ptr<OverlayFolder> parent;
    {
      std::lock_guard guard(chain.back()->lock_);
      parent = chain.back()->parent_;
    }
    if (!parent || parent->upper()) break;
    chain.push_back(parent);
  }
  for (size_t i = chain.size(); i-- > 1;) TRY(chain[i]->copy_one(true));
  return copy_one(with_data);
}

Result<InodeRef> OverlayInode::copy_one(bool with_data) {
  std::lock_guard one_at_a_time(copying_);
  if (InodeRef there = upper()) return there;
  Task& task = overlay_.mounter();
  const struct statx stat = TRY(lowers_[0].inode->stat());
  const std::string temporary = overlay_.work_name();
  Result<InodeRef> copy = make_copy(temporary, stat, with_data);
  const auto give_up = [&](Errno error) {
    if (!overlay_.work().unlink(task, temporary)) (void)overlay_.work().remove_folder(task, temporary);
    return error;
  };
  if (!copy) return give_up(copy.error());
  std::unique_lock tree(overlay_.tree);
  std::shared_ptr<OverlayFolder> parent;
  std::string name;
  {
    std::lock_guard guard(lock_);
    parent = parent_;
    name = name_;
  }
  if (unlinked_) {  // an open file without a name is changed: so is its copy
    (void)give_up(Errno(0));
  } else {
    const InodeRef above = parent ? parent->upper() : nullptr;
    if (!above) return give_up(Errno(EIO));
    const struct statx before = TRY(above->stat());
    if (const Result<void> moved = overlay_.work().rename(task, temporary, *above, name, 0); !moved) return give_up(moved.error());
    (void)above->set_attributes(task, times_of(before));  // the folder shows the same as before
  }
  {
    std::lock_guard guard(lock_);
    upper_ = *copy;
  }
  if (S_ISREG(type_) && stat.stx_nlink != 1) number_ = overlay_.number_of(0, TRY((*copy)->stat()).stx_ino);
  overlay_.remember(**copy, shared_from_this());
  return copy;
}

Result<InodeRef> OverlayInode::make_copy(const std::string& name, const struct statx& stat, bool with_data) {
  Task& task = overlay_.mounter();
  Inode& work = overlay_.work();
  const InodeRef from = lowers_[0].inode;
  const dev_t device = makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
  const InodeRef copy =
      S_ISLNK(type_) ? TRY(work.make_link(task, name, TRY(from->read_link(task)))) : TRY(work.make(task, name, type_ | 0600, device));
  if (S_ISREG(type_) && with_data && stat.stx_size > 0) {
    const FileRef in = TRY(open_real(overlay_, from, O_RDONLY)), out = TRY(open_real(overlay_, copy, O_WRONLY));
    TRY(copy_data(task, *in, *out, static_cast<off_t>(stat.stx_size)));
  }
  Attributes attributes = times_of(stat);
  attributes.mask |= STATX_UID | STATX_GID;
  attributes.uid = stat.stx_uid;
  attributes.gid = stat.stx_gid;
  TRY(copy->set_attributes(task, {.mask = STATX_UID | STATX_GID, .uid = stat.stx_uid, .gid = stat.stx_gid}));
  if (!S_ISLNK(type_)) {
    TRY(copy_attributes(overlay_, *from, *copy));
    // Hard links are broken: such a file is another from now on.
    if (S_ISREG(type_) && stat.stx_nlink == 1) {
      const uint64_t number = number_;
      const std::string_view bytes(reinterpret_cast<const char*>(&number), sizeof number);
      (void)copy->set_xattr(task, overlay_.attribute(*copy, kNumberAttribute).c_str(), bytes, 0);
    }
    TRY(copy->set_attributes(task, {.mask = STATX_MODE, .mode = stat.stx_mode & 07777U}));
  }
  TRY(copy->set_attributes(task, times_of(stat)));
  return copy;
}

}  // namespace caisson::kernel
