// What is mounted: options, layers, numbers.
#include "kernel/fs/overlay/overlay.h"

#include <set>

#include "base/text.h"
#include "kernel/fs/host/host_fs.h"
#include "kernel/fs/tmpfs/tmpfs.h"
#include "kernel/task/task.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostLayers = 500;
constexpr int kDeepest = 2;  // FILESYSTEM_MAX_STACK_DEPTH
constexpr long kOverlayMagic = 0x794c7630;

using Identity = std::pair<uint64_t, uint64_t>;
std::mutex g_used_lock;
std::set<Identity> g_used;  // upper and work folders of overlays

// What mount(8) wrote between separators; "\x" stands for x.
std::vector<std::string> split_escaped(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == separator || text[i + 1] == '\\')) {
      // Of the option's text only the commas are resolved; a path's colons come later.
      parts.back() += text[++i];
    } else if (text[i] == separator) {
      parts.emplace_back();
    } else {
      parts.back() += text[i];
    }
  }
  return parts;
}

uint32_t device_of(const struct statx& stat) { return stat.stx_dev_major << 20 | stat.stx_dev_minor; }

}  // namespace

struct OverlayFileSystem::Options {
  std::string lower, upper, work;
  bool user_attributes = false;

  static Result<Options> parse(std::string_view text) {
    Options options;
    for (const std::string& word : split_escaped(text, ',')) {
      const size_t equals = word.find('=');
      const std::string key = word.substr(0, equals);
      const std::string value = equals == word.npos ? "" : word.substr(equals + 1);
      if (key == "lowerdir")
        options.lower = value;
      else if (key == "upperdir")
        options.upper = value;
      else if (key == "workdir")
        options.work = value;
      else if (key == "userxattr")
        options.user_attributes = true;
      else if (key == "redirect_dir" || key == "index" || key == "metacopy" || key == "nfs_export") {
        if (value == "on") return Errno(EINVAL);
      } else if (!key.empty() && key != "volatile" && key != "xino" && key != "uuid" && key != "default_permissions") {
        return Errno(EINVAL);
      }
    }
    if (options.lower.empty() || options.upper.empty() != options.work.empty()) return Errno(EINVAL);
    return options;
  }
};

Result<void> OverlayFileSystem::add_layer(Task& task, const std::string& path) {
  if (path.empty() || lowers_.size() >= kMostLayers) return Errno(EINVAL);
  const Path place = TRY(walk(task, AT_FDCWD, path, kWalkFolder));
  const auto* fs = place.mount->fs.get();
  if (const auto* overlay = dynamic_cast<const OverlayFileSystem*>(fs))
    depth_ = std::max(depth_, overlay->depth_ + 1);
  else if (dynamic_cast<const HostFileSystem*>(fs) == nullptr && dynamic_cast<const Tmpfs*>(fs) == nullptr)
    return Errno(EINVAL);
  if (depth_ > kDeepest) return Errno(EINVAL);
  const struct statx stat = TRY(place.inode()->stat());
  if (lowers_.empty()) first_device_ = device_of(stat);
  same_device_ = same_device_ && device_of(stat) == first_device_;
  lowers_.push_back(place.inode());
  return {};
}

Result<void> OverlayFileSystem::add_upper(Task& task, const Options& options) {
  const Path upper = TRY(walk(task, AT_FDCWD, options.upper, kWalkFolder)), work = TRY(walk(task, AT_FDCWD, options.work, kWalkFolder));
  const FileSystem* fs = upper.mount->fs.get();
  if (dynamic_cast<const HostFileSystem*>(fs) == nullptr && dynamic_cast<const Tmpfs*>(fs) == nullptr) return Errno(EINVAL);
  if (upper.mount != work.mount || is_below(upper.dentry, work.dentry) || is_below(work.dentry, upper.dentry)) return Errno(EINVAL);
  if (upper.mount->read_only()) return Errno(EROFS);
  // A folder of its own below, as Linux makes it; what a crash has left there goes.
  Result<InodeRef> own = work.inode()->make(*mounter_, "work", S_IFDIR | 0700, 0);
  if (!own && own.error() == Errno(EEXIST)) own = work.inode()->lookup(*mounter_, "work");
  const InodeRef folder = TRY(std::move(own));
  if (!S_ISDIR(folder->type())) return Errno(EINVAL);
  {
    std::lock_guard guard(g_used_lock);
    for (const InodeRef& each : {upper.inode(), folder})
      if (g_used.contains(each->identity())) return Errno(EBUSY);
    g_used.insert(upper.inode()->identity());
    g_used.insert(folder->identity());
    upper_ = upper.inode();
    work_ = folder;
  }
  std::vector<std::string> left;
  TRY(list_real(*this, work_, [&](const DirEntry& entry) { left.emplace_back(entry.name); }));
  for (const std::string& name : left)
    if (!work_->unlink(*mounter_, name)) (void)work_->remove_folder(*mounter_, name);
  const struct statx stat = TRY(upper_->stat());
  same_device_ = same_device_ && device_of(stat) == first_device_;
  return {};
}

Result<std::shared_ptr<OverlayFileSystem>> OverlayFileSystem::create(Task& task, std::string_view text) {
  const Options options = TRY(Options::parse(text));
  std::shared_ptr<OverlayFileSystem> fs(new OverlayFileSystem);
  fs->mounter_ = std::make_unique<Task>(task.kernel);
  fs->mounter_->creds = task.creds;
  fs->user_attributes_ = options.user_attributes;
  for (const std::string& path : split_escaped(options.lower, ':')) TRY(fs->add_layer(task, path));
  if (!options.upper.empty()) TRY(fs->add_upper(task, options));
  return fs;
}

OverlayFileSystem::~OverlayFileSystem() {
  if (!upper_) return;
  std::lock_guard guard(g_used_lock);
  g_used.erase(upper_->identity());
  g_used.erase(work_->identity());
}

Result<InodeRef> OverlayFileSystem::root() {
  if (std::shared_ptr<OverlayFolder> made = root_.lock()) return InodeRef(made);
  std::vector<LayerFile> lowers;
  for (size_t i = 0; i < lowers_.size(); ++i) lowers.push_back({lowers_[i], i + 1});
  const InodeRef seen = upper_ ? upper_ : lowers_[0];
  const uint64_t number = number_of(upper_ ? 0 : 1, TRY(seen->stat()).stx_ino);
  auto made = std::make_shared<OverlayFolder>(shared_from_this(), S_IFDIR, upper_, std::move(lowers), number);
  root_ = made;
  return InodeRef(made);
}

Result<struct statfs> OverlayFileSystem::stat_fs() {
  struct statfs result = TRY((upper_ ? upper_ : lowers_[0])->fs()->stat_fs());
  result.f_type = kOverlayMagic;
  return result;
}

std::string OverlayFileSystem::attribute(const Inode& real, const char* name) const {
  const bool user = user_attributes_ || real.host_fd() >= 0;
  return std::string(user ? "user.overlay." : "trusted.overlay.") + name;
}

bool OverlayFileSystem::is_own_attribute(std::string_view name) const {
  return name.starts_with("user.overlay.") || name.starts_with("trusted.overlay.");
}

bool OverlayFileSystem::has_attribute(Inode& real, const char* name, std::string_view value) const {
  const Result<std::string> found = real.get_xattr(*mounter_, attribute(real, name).c_str());
  return found && *found == value;
}

bool OverlayFileSystem::is_whiteout(Inode& real, Inode& folder) const {
  const bool plain = S_ISREG(real.type());
  if (!S_ISCHR(real.type()) && !plain) return false;
  const Result<struct statx> stat = real.stat();
  if (!stat) return false;
  if (!plain) return stat->stx_rdev_major == 0 && stat->stx_rdev_minor == 0;
  return stat->stx_size == 0 && has_attribute(folder, "opaque", "x") && real.get_xattr(*mounter_, attribute(real, "whiteout").c_str()).ok();
}

uint64_t OverlayFileSystem::number_of(size_t layer, uint64_t inode) const {
  // Numbers of one device are unique as they are; otherwise the layer is in the high bits, as with xino=on.
  return same_device_ ? inode : (inode & 0x007fffffffffffff) | static_cast<uint64_t>(layer + 1) << 55;
}

OverlayRef OverlayFileSystem::known(const Inode& real) {
  std::lock_guard guard(known_lock_);
  const auto found = known_.find(real.identity());
  return found == known_.end() ? nullptr : found->second.lock();
}

void OverlayFileSystem::remember(const Inode& real, const OverlayRef& inode) {
  std::lock_guard guard(known_lock_);
  if (known_.size() >= sweep_at_) {
    std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(256, known_.size() * 2);
  }
  known_[real.identity()] = inode;
}

}  // namespace caisson::kernel
