// Names in an overlay: what is merged, hidden, made and moved.
#include <dirent.h>
#include <linux/fs.h>

#include <set>

#include "kernel/fs/overlay/overlay.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

// A name of a layer's folder; null: none.
Result<InodeRef> look(Task& task, Inode& folder, std::string_view name) {
  Result<InodeRef> found = folder.lookup(task, name);
  if (!found && found.error() == Errno(ENOENT)) return InodeRef();
  return found;
}

}  // namespace

Result<InodeRef> OverlayFolder::upper_child(std::string_view name) {
  const InodeRef above = upper();
  if (!above) return InodeRef();
  return look(overlay().mounter(), *above, name);
}

Result<OverlayRef> OverlayFolder::find_locked(std::string_view name) {
  OverlayFileSystem& fs = overlay();
  Task& task = fs.mounter();
  InodeRef top;
  std::vector<LayerFile> parts;
  bool goes_on = true;
  if (const InodeRef above = upper()) {
    top = TRY(look(task, *above, name));
    if (top && fs.is_whiteout(*top, *above)) return Errno(ENOENT);
    if (top) goes_on = S_ISDIR(top->type()) && !fs.has_attribute(*top, "opaque", "y");
  }
  for (const LayerFile& lower : lowers()) {
    if (!goes_on) break;
    const InodeRef found = TRY(look(task, *lower.inode, name));
    if (!found) continue;
    if (fs.is_whiteout(*found, *lower.inode)) break;
    const bool folder = S_ISDIR(found->type());
    if (!folder && (top || !parts.empty())) break;  // hidden by the folder above it
    parts.push_back({found, lower.layer});
    goes_on = folder && !fs.has_attribute(*found, "opaque", "y");
  }
  if (!top && parts.empty()) return Errno(ENOENT);
  const InodeRef real = top ? top : parts[0].inode;
  const mode_t type = real->type() & S_IFMT;
  const struct statx stat = TRY(real->stat());
  // Several names of a lower file are several files from the moment that one of them is changed.
  const bool shared = top || S_ISDIR(type) || stat.stx_nlink == 1;
  if (shared) {
    if (OverlayRef known = fs.known(*real); known && known->type() == type) {
      known->placed(self(), name);
      return known;
    }
  }
  const size_t number_layer = S_ISDIR(type) && !parts.empty() ? parts.back().layer : top ? 0 : parts[0].layer;
  const InodeRef numbered = S_ISDIR(type) && !parts.empty() ? parts.back().inode : real;
  const uint64_t number = fs.number_of(number_layer, TRY(numbered->stat()).stx_ino);
  auto owner = std::static_pointer_cast<OverlayFileSystem>(this->fs());
  OverlayRef made;
  if (S_ISDIR(type))
    made = std::make_shared<OverlayFolder>(std::move(owner), type, top, std::move(parts), number);
  else
    made = std::make_shared<OverlayInode>(std::move(owner), type, top, std::move(parts), number);
  made->placed(self(), name);
  if (shared) fs.remember(*real, made);
  return made;
}

Result<InodeRef> OverlayFolder::lookup(Task&, std::string_view name) {
  std::shared_lock tree(overlay().tree);
  return InodeRef(TRY(find_locked(name)));
}

bool OverlayFolder::in_lowers(std::string_view name) {
  OverlayFileSystem& fs = overlay();
  for (const LayerFile& lower : lowers()) {
    const Result<InodeRef> found = look(fs.mounter(), *lower.inode, name);
    if (!found) return true;  // who knows
    if (*found) return !fs.is_whiteout(**found, *lower.inode);
  }
  return false;
}

Result<void> OverlayFolder::make_opaque(Inode& folder) {
  return folder.set_xattr(overlay().mounter(), overlay().attribute(folder, "opaque").c_str(), "y", 0);
}

Result<void> OverlayFolder::make_whiteout(const std::string& name, Inode& folder) {
  OverlayFileSystem& fs = overlay();
  Task& task = fs.mounter();
  const Result<InodeRef> device = fs.work().make(task, name, S_IFCHR, 0);
  if (device || device.error() != Errno(EPERM)) return device ? Result<void>() : device.error();
  // An overlay of the host's, as containers' roots are, keeps such devices to itself: a plain file says it, and its folder that there are
  // such ones (as Linux 6.7 reads them).
  const InodeRef file = TRY(fs.work().make(task, name, S_IFREG | 0600, 0));
  TRY(file->set_xattr(task, fs.attribute(*file, "whiteout").c_str(), "y", 0));
  return folder.set_xattr(task, fs.attribute(folder, "opaque").c_str(), "x", 0);
}

Result<InodeRef> OverlayFolder::place_new(Task& task, std::string_view name, mode_t type, const Maker& make) {
  OverlayFileSystem& fs = overlay();
  Task& mounter = fs.mounter();
  const InodeRef above = TRY(copy_up());
  std::unique_lock tree(fs.tree);
  const Result<OverlayRef> there = find_locked(name);
  if (there) return Errno(EEXIST);
  if (there.error() != Errno(ENOENT)) return there.error();
  // In the work folder until it is as it has to be.
  const std::string temporary = fs.work_name();
  const InodeRef made = TRY(make(fs.work(), temporary));
  const auto give_up = [&](Errno error) {
    if (!fs.work().unlink(mounter, temporary)) (void)fs.work().remove_folder(mounter, temporary);
    return error;
  };
  const InodeRef whiteout = TRY(upper_child(name));
  const auto finish = [&]() -> Result<void> {
    const struct statx folder = TRY(above->stat()), now = TRY(made->stat());
    const bool inherits = (folder.stx_mode & S_ISGID) != 0;
    const gid_t group = inherits ? folder.stx_gid : task.creds->fsgid;
    const bool by_link = now.stx_nlink > 1 && type != S_IFDIR;  // link(2): its owner stays
    if (!by_link && (now.stx_uid != task.creds->fsuid || now.stx_gid != group))
      TRY(made->set_attributes(mounter, {.mask = STATX_UID | STATX_GID, .uid = task.creds->fsuid, .gid = group}));
    const mode_t mode = now.stx_mode & 07777U, wanted = inherits && type == S_IFDIR ? mode | S_ISGID : mode;
    if (!by_link && type != S_IFLNK && TRY(made->stat()).stx_mode % 010000 != wanted)
      TRY(made->set_attributes(mounter, {.mask = STATX_MODE, .mode = wanted}));
    if (type != S_IFDIR || !whiteout) return fs.work().rename(mounter, temporary, *above, name, 0);
    TRY(make_opaque(*made));
    TRY(fs.work().rename(mounter, temporary, *above, name, RENAME_EXCHANGE));
    return fs.work().unlink(mounter, temporary);  // the whiteout
  };
  if (const Result<void> done = finish(); !done) return give_up(done.error());
  return InodeRef(TRY(find_locked(name)));
}

Result<InodeRef> OverlayFolder::make(Task& task, std::string_view name, mode_t mode, dev_t device) {
  if (S_ISCHR(mode) && device == 0) return Errno(EPERM);  // it would be a whiteout
  return place_new(task, name, mode & S_IFMT,
                   [&](Inode& folder, const std::string& text) { return folder.make(overlay().mounter(), text, mode, device); });
}

Result<InodeRef> OverlayFolder::make_link(Task& task, std::string_view name, std::string_view target) {
  return place_new(task, name, S_IFLNK,
                   [&](Inode& folder, const std::string& text) { return folder.make_link(overlay().mounter(), text, target); });
}

Result<void> OverlayFolder::link(Task& task, std::string_view name, const InodeRef& existing) {
  const auto file = std::dynamic_pointer_cast<OverlayInode>(existing);
  if (!file || &file->overlay() != &overlay()) return Errno(EXDEV);
  const InodeRef real = TRY(file->copy_up());
  TRY(place_new(task, name, file->type(), [&](Inode& folder, const std::string& text) -> Result<InodeRef> {
    TRY(folder.link(overlay().mounter(), text, real));
    return real;
  }));
  return {};
}

Result<void> OverlayFolder::check_empty(OverlayFolder& folder) {
  if (!TRY(folder.list()).empty()) return Errno(ENOTEMPTY);
  return {};
}

Result<void> OverlayFolder::clear_upper(const InodeRef& folder) {
  Task& task = overlay().mounter();
  std::vector<std::string> names;
  TRY(list_real(overlay(), folder, [&](const DirEntry& entry) { names.emplace_back(entry.name); }));
  for (const std::string& name : names) TRY(folder->unlink(task, name));
  return {};
}

Result<void> OverlayFolder::remove_locked(std::string_view name, OverlayInode& child) {
  OverlayFileSystem& fs = overlay();
  Task& task = fs.mounter();
  const InodeRef above = upper(), real = child.upper();
  const bool folder = S_ISDIR(child.type()), hides = in_lowers(name);
  if (folder && real && !hides) {
    TRY(clear_upper(real));
    TRY(above->remove_folder(task, name));
  } else if (!hides) {
    TRY(above->unlink(task, name));
  } else {
    const std::string temporary = fs.work_name();
    TRY(make_whiteout(temporary, *above));
    const bool exchange = folder && real;
    const Result<void> moved = fs.work().rename(task, temporary, *above, name, exchange ? RENAME_EXCHANGE : 0);
    if (!moved) {
      (void)fs.work().unlink(task, temporary);
      return moved.error();
    }
    if (exchange) {
      (void)clear_upper(real);
      (void)fs.work().remove_folder(task, temporary);
    }
  }
  if (folder || !real) child.unlinked();
  return {};
}

Result<void> OverlayFolder::unlink(Task&, std::string_view name) {
  TRY(copy_up());
  std::unique_lock tree(overlay().tree);
  const OverlayRef child = TRY(find_locked(name));
  if (S_ISDIR(child->type())) return Errno(EISDIR);
  return remove_locked(name, *child);
}

Result<void> OverlayFolder::remove_folder(Task&, std::string_view name) {
  TRY(copy_up());
  std::unique_lock tree(overlay().tree);
  const OverlayRef child = TRY(find_locked(name));
  if (!S_ISDIR(child->type())) return Errno(ENOTDIR);
  TRY(check_empty(static_cast<OverlayFolder&>(*child)));
  return remove_locked(name, *child);
}

Result<void> OverlayFolder::rename(Task&, std::string_view name, Inode& to_inode, std::string_view new_name, unsigned flags) {
  auto* to = dynamic_cast<OverlayFolder*>(&to_inode);
  OverlayFileSystem& fs = overlay();
  if (to == nullptr || &to->overlay() != &fs) return Errno(EXDEV);
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return Errno(EINVAL);
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  Task& task = fs.mounter();
  const InodeRef from_above = TRY(copy_up()), to_above = TRY(to->copy_up());
  // What moves is brought up before the tree is locked; it may be another file by then.
  const auto bring_up = [&](OverlayFolder& folder, std::string_view each) -> Result<void> {
    const InodeRef moving = TRY(folder.lookup(task, each));
    auto& inode = static_cast<OverlayInode&>(*moving);
    if (S_ISDIR(inode.type()) && inode.has_lower()) return Errno(EXDEV);  // without redirect_dir
    TRY(inode.copy_up());
    return {};
  };
  TRY(bring_up(*this, name));
  if (exchange) TRY(bring_up(*to, new_name));
  std::unique_lock tree(fs.tree);
  const OverlayRef source = TRY(find_locked(name));
  const Result<OverlayRef> target = to->find_locked(new_name);
  if (!target && target.error() != Errno(ENOENT)) return target.error();
  if (!target && exchange) return Errno(ENOENT);
  if (target && (flags & RENAME_NOREPLACE) != 0) return Errno(EEXIST);
  const auto movable = [](OverlayInode& inode) { return inode.upper() && !(S_ISDIR(inode.type()) && inode.has_lower()); };
  if (!movable(*source) || (exchange && !movable(**target))) return Errno(EXDEV);
  const bool folder = S_ISDIR(source->type());
  if (target && !exchange) {
    if (target->get() == source.get()) return {};
    if (S_ISDIR((*target)->type())) {
      auto& replaced = static_cast<OverlayFolder&>(**target);
      TRY(check_empty(replaced));
      if (const InodeRef real = replaced.upper()) {
        TRY(make_opaque(*real));  // what its whiteouts hide stays hidden while they go
        TRY(clear_upper(real));
      }
    }
  }
  // A folder that comes to lie over something below must not show it.
  if (folder && to->in_lowers(new_name)) TRY(make_opaque(*source->upper()));
  if (exchange && S_ISDIR((*target)->type()) && in_lowers(name)) TRY(make_opaque(*(*target)->upper()));
  const InodeRef whiteout = TRY(to->upper_child(new_name));
  if (folder && whiteout && !S_ISDIR(whiteout->type()) && !exchange) {
    // A whiteout makes way for a folder in one step, and then goes. The folder is opaque instead.
    TRY(make_opaque(*source->upper()));
    TRY(from_above->rename(task, name, *to_above, new_name, RENAME_EXCHANGE));
    if (!in_lowers(name)) TRY(from_above->unlink(task, name));  // else it goes on hiding the old name
  } else {
    TRY(from_above->rename(task, name, *to_above, new_name, exchange ? RENAME_EXCHANGE : 0));
    if (!exchange && in_lowers(name)) {
      const std::string temporary = fs.work_name();
      TRY(make_whiteout(temporary, *from_above));
      TRY(fs.work().rename(task, temporary, *from_above, name, 0));
    }
  }
  source->placed(to->self(), new_name);
  if (exchange) (*target)->placed(self(), name);
  if (target && !exchange && (S_ISDIR((*target)->type()) || !(*target)->upper())) (*target)->unlinked();
  return {};
}

Result<std::vector<OverlayFolder::Listed>> OverlayFolder::list() {
  OverlayFileSystem& fs = overlay();
  std::vector<Listed> result;
  std::set<std::string, std::less<>> seen;
  std::vector<LayerFile> layers;
  if (const InodeRef above = upper()) layers.push_back({above, 0});
  layers.insert(layers.end(), lowers().begin(), lowers().end());
  for (const LayerFile& layer : layers) {
    const bool marked = fs.has_attribute(*layer.inode, "opaque", "x");
    std::vector<Listed> entries;
    TRY(list_real(fs, layer.inode, [&](const DirEntry& entry) {
      if (!seen.contains(entry.name)) entries.push_back({std::string(entry.name), fs.number_of(layer.layer, entry.inode), entry.type});
    }));
    for (Listed& entry : entries) {
      seen.insert(entry.name);
      if (entry.type == DT_CHR || entry.type == DT_UNKNOWN || (marked && entry.type == DT_REG)) {
        const InodeRef real = TRY(look(fs.mounter(), *layer.inode, entry.name));
        if (!real || fs.is_whiteout(*real, *layer.inode)) continue;
      }
      result.push_back(std::move(entry));
    }
  }
  return result;
}

}  // namespace caisson::kernel
