// Overlay: folders of other file systems seen as one (the kernel's Documentation/filesystems/overlayfs.rst). What is changed is copied to
// the upper layer first; whiteouts there hide names of lower layers.
//
// As Linux has it without redirect_dir, index and metacopy: folders with a lower part are not renamed (EXDEV), copying up breaks hard
// links. Different: inode numbers are those of Linux's xino=on; layers are host folders, tmpfs and, as lower layers, one overlay; on host
// folders the overlay's own attributes are user.overlay.*, since nobody here may set trusted.* ones.
//
// The layers are worked on as who mounted it; who uses it is checked against the overlay's own view (vfs does).
//
// Locks, in this order: OverlayInode::copying_, OverlayFileSystem::tree, the layers' locks. tree is shared by who looks names up, and held
// exclusively by who changes one; copying data holds copying_ only. OverlayInode::lock_ is a leaf.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "kernel/fs/common/node.h"
#include "kernel/vfs/file.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class OverlayInode;
class OverlayFolder;
using OverlayRef = std::shared_ptr<OverlayInode>;

// A file of a layer.
struct LayerFile {
  InodeRef inode;
  size_t layer = 0;
  explicit operator bool() const { return inode != nullptr; }
};

class OverlayFileSystem : public FileSystem, public std::enable_shared_from_this<OverlayFileSystem> {
 public:
  // options: lowerdir=a:b, upperdir=, workdir=, userxattr; others of Linux's that change nothing here are taken. EINVAL; EBUSY: the upper
  // or work folder is another overlay's.
  static Result<std::shared_ptr<OverlayFileSystem>> create(Task& task, std::string_view options);
  ~OverlayFileSystem() override;
  const char* name() const override { return "overlay"; }
  Result<InodeRef> root() override;
  Result<struct statfs> stat_fs() override;
  bool read_only() const { return !work_; }

  // Who acts on the layers.
  Task& mounter() const { return *mounter_; }
  // Takes from the work folder, or puts there: a name that nobody uses.
  Inode& work() const { return *work_; }
  std::string work_name() { return "#" + std::to_string(++last_work_name_); }
  // "user.overlay.opaque" and so on, as this file's layer has it.
  std::string attribute(const Inode& real, const char* name) const;
  bool is_own_attribute(std::string_view name) const;
  bool has_attribute(Inode& real, const char* name, std::string_view value) const;
  // Hides a name of lower layers: a character device 0/0, or an empty file in a folder that says so (Linux 6.7).
  bool is_whiteout(Inode& real, Inode& folder) const;
  // A number for an inode of a layer, the same for as long as it lives there.
  uint64_t number_of(size_t layer, uint64_t inode) const;
  // The one object for a file, by its upper or else its lower part.
  OverlayRef known(const Inode& real);
  void remember(const Inode& real, const OverlayRef& inode);

  mutable std::shared_mutex tree;

 private:
  struct Options;
  OverlayFileSystem() = default;
  Result<void> add_layer(Task& task, const std::string& path);
  Result<void> add_upper(Task& task, const Options& options);

  std::unique_ptr<Task> mounter_;
  std::vector<InodeRef> lowers_;
  InodeRef upper_, work_;
  bool user_attributes_ = false, same_device_ = true;
  uint32_t first_device_ = 0;
  int depth_ = 1;
  std::atomic<uint64_t> last_work_name_{0};
  std::weak_ptr<OverlayFolder> root_;
  std::mutex known_lock_;
  std::map<std::pair<uint64_t, uint64_t>, std::weak_ptr<OverlayInode>> known_;
  size_t sweep_at_ = 256;
};

// Layer 0 is the upper one, lower layers count from 1.
class OverlayInode : public Inode, public std::enable_shared_from_this<OverlayInode> {
 public:
  ~OverlayInode() override;
  OverlayInode(std::shared_ptr<OverlayFileSystem> fs, mode_t type, InodeRef upper, std::vector<LayerFile> lowers, uint64_t number);
  Result<struct statx> stat() override;
  mode_t type() const override { return type_; }
  bool names_are_stable() const override { return true; }
  std::pair<uint64_t, uint64_t> identity() const override;
  Result<std::string> read_link(Task& task) override;
  Result<FileRef> open(Task& task, const Path& path, int flags) override;
  Result<void> set_attributes(Task& task, const Attributes& attributes) override;
  Result<std::string> get_xattr(Task& task, const char* name) override;
  Result<void> set_xattr(Task& task, const char* name, std::string_view value, int flags) override;
  Result<void> remove_xattr(Task& task, const char* name) override;
  Result<std::string> list_xattr(Task& task) override;

  InodeRef upper() const;
  // The layer's file that is seen.
  InodeRef real() const;
  bool has_lower() const { return !lowers_.empty(); }
  const std::vector<LayerFile>& lowers() const { return lowers_; }
  // Afterwards it has an upper part. with_data: false if the content is about to go. EROFS. Not with tree held.
  Result<InodeRef> copy_up(bool with_data = true);
  void placed(std::shared_ptr<OverlayFolder> parent, std::string_view name);  // under tree
  void unlinked() { unlinked_ = true; }
  OverlayFileSystem& overlay() const { return overlay_; }

 private:
  Result<InodeRef> copy_one(bool with_data);
  Result<InodeRef> make_copy(const std::string& name, const struct statx& stat, bool with_data);

  OverlayFileSystem& overlay_;
  const mode_t type_;
  const std::vector<LayerFile> lowers_;  // topmost first
  std::mutex copying_;
  mutable std::mutex lock_;
  InodeRef upper_;  // set once
  std::shared_ptr<OverlayFolder> parent_;
  std::string name_;
  std::atomic<uint64_t> number_;
  std::atomic<bool> unlinked_{false};
};

class OverlayFolder : public OverlayInode {
 public:
  using OverlayInode::OverlayInode;
  Result<InodeRef> lookup(Task& task, std::string_view name) override;
  Result<InodeRef> make(Task& task, std::string_view name, mode_t mode_and_type, dev_t device) override;
  Result<InodeRef> make_link(Task& task, std::string_view name, std::string_view target) override;
  Result<void> link(Task& task, std::string_view name, const InodeRef& existing) override;
  Result<void> unlink(Task& task, std::string_view name) override;
  Result<void> remove_folder(Task& task, std::string_view name) override;
  Result<void> rename(Task& task, std::string_view name, Inode& to, std::string_view new_name, unsigned flags) override;

  struct Listed {
    std::string name;
    uint64_t inode;
    unsigned char type;
  };
  // All names of all layers, each once.
  Result<std::vector<Listed>> list();

 private:
  using Maker = std::function<Result<InodeRef>(Inode& folder, const std::string& name)>;
  std::shared_ptr<OverlayFolder> self() { return std::static_pointer_cast<OverlayFolder>(shared_from_this()); }
  Result<OverlayRef> find_locked(std::string_view name);
  Result<InodeRef> upper_child(std::string_view name);  // null: none
  // Would the name be seen, were there no upper layer?
  bool in_lowers(std::string_view name);
  // Puts what `make` makes at a name where the overlay shows nothing.
  Result<InodeRef> place_new(Task& task, std::string_view name, mode_t type, const Maker& make);
  // In the work folder, for an upper folder.
  Result<void> make_whiteout(const std::string& name, Inode& folder);
  Result<void> remove_locked(std::string_view name, OverlayInode& child);
  static Result<void> check_empty(OverlayFolder& folder);
  // Takes the whiteouts out of an upper folder that shows nothing.
  Result<void> clear_upper(const InodeRef& folder);
  Result<void> make_opaque(Inode& folder);
};

// Whose content is what inode->real() has.
FileRef make_overlay_file(std::shared_ptr<OverlayInode> inode, FileRef real, bool is_upper, Path path, int flags);
FileRef make_overlay_folder_file(std::shared_ptr<OverlayFolder> inode, Path path, int flags);
// The layer's file, opened as who mounted it.
Result<FileRef> open_real(const OverlayFileSystem& fs, const InodeRef& real, int flags);
// Lists a layer's folder, without "." and "..".
Result<void> list_real(const OverlayFileSystem& fs, const InodeRef& real, const std::function<void(const DirEntry&)>& entry);

}  // namespace caisson::kernel
