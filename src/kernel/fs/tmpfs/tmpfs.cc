#include "kernel/fs/tmpfs/tmpfs.h"

#include <sys/sysinfo.h>
#include <sys/xattr.h>

#include <charconv>

#include "base/text.h"
#include "kernel/fs/dev/devices.h"
#include "kernel/fs/tmpfs/files.h"
#include "kernel/task/exec_credentials.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kMostInodes = 1 << 20;
constexpr size_t kMostXattrs = 64 * 1024;  // bytes of names and values of one inode
constexpr long kTmpfsMagic = 0x01021994;

uint64_t host_memory() {
  struct sysinfo info {};
  if (sysinfo(&info) != 0) return 1ULL << 30;
  return static_cast<uint64_t>(info.totalram) * info.mem_unit;
}

Result<uint64_t> parse_number(std::string_view text, int base = 10) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || text.empty()) return Errno(EINVAL);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (unit.empty()) return value;
  if (unit.size() != 1 || base != 10) return Errno(EINVAL);
  int shift = 0;
  switch (unit[0] | 0x20) {
    case 'k':
      shift = 10;
      break;
    case 'm':
      shift = 20;
      break;
    case 'g':
      shift = 30;
      break;
    case 't':
      shift = 40;
      break;
    default:
      return Errno(EINVAL);
  }
  if (value > ~0ULL >> shift) return Errno(EINVAL);
  return value << shift;
}

Result<void> parse_word(std::string_view word, Tmpfs::Options& options) {
  const size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  const std::string_view value = equals == word.npos ? std::string_view() : word.substr(equals + 1);
  if (key == "size" && value.ends_with('%')) {
    const uint64_t percent = TRY(parse_number(value.substr(0, value.size() - 1)));
    if (percent > 1000) return Errno(EINVAL);
    options.bytes = host_memory() / 100 * percent;
  } else if (key == "size") {
    options.bytes = TRY(parse_number(value));
  } else if (key == "nr_blocks") {
    const uint64_t blocks = TRY(parse_number(value));
    if (blocks > ~0ULL / 4096) return Errno(EINVAL);
    options.bytes = blocks * 4096;
  } else if (key == "nr_inodes") {
    options.inodes = TRY(parse_number(value));
  } else if (key == "mode") {
    options.mode = static_cast<mode_t>(TRY(parse_number(value, 8))) & 07777;
  } else if (key == "uid") {
    options.uid = static_cast<uid_t>(TRY(parse_number(value)));
  } else if (key == "gid") {
    options.gid = static_cast<gid_t>(TRY(parse_number(value)));
  } else if (key != "huge" && key != "mpol" && key != "inode64" && key != "inode32" && key != "noswap" && key != "rw" && key != "ro") {
    return Errno(EINVAL);
  }
  return {};
}

}  // namespace

Result<Tmpfs::Options> Tmpfs::parse(std::string_view text) {
  Options options;
  for (const std::string_view word : split_fields(text, ',')) TRY(parse_word(word, options));
  return options;
}

std::shared_ptr<Tmpfs> Tmpfs::create(const Options& options, const char* type_name) {
  std::shared_ptr<Tmpfs> fs(new Tmpfs(type_name));
  fs->budget_ = std::make_shared<Budget>(0);
  (void)fs->remount(options);
  fs->inodes_ = 1;
  NodeStat node = NodeStat::make(fs->next_++, S_IFDIR | options.mode, options.uid, options.gid);
  node.links = 2;
  fs->unused_root_ = std::make_shared<TmpfsFolder>(fs, node);
  fs->root_ = fs->unused_root_;
  return fs;
}

Tmpfs::~Tmpfs() = default;

Result<InodeRef> Tmpfs::root() {
  std::lock_guard guard(lock);
  std::shared_ptr<TmpfsFolder> root = root_.lock();
  unused_root_.reset();
  if (!root) return Errno(ENOENT);
  return InodeRef(root);
}

void Tmpfs::keep_root() {
  std::lock_guard guard(lock);
  unused_root_ = root_.lock();
}

Result<struct statfs> Tmpfs::stat_fs() {
  struct statfs result {};
  result.f_type = kTmpfsMagic;
  result.f_bsize = 4096;
  result.f_frsize = 4096;
  result.f_namelen = 255;
  result.f_blocks = budget_->limit() / 4096;
  result.f_bfree = result.f_bavail = budget_->left() / 4096;
  const uint64_t most = most_inodes_, used = inodes_;
  result.f_files = most;
  result.f_ffree = most > used ? most - used : 0;
  result.f_fsid.__val[0] = static_cast<int>(device);
  return result;
}

Result<void> Tmpfs::remount(const Options& options) {
  const uint64_t bytes = options.bytes != 0 ? options.bytes : host_memory() / 2;
  if (bytes < budget_->used()) return Errno(EINVAL);
  budget_->set_limit(bytes & ~4095ULL);
  most_inodes_ = options.inodes != 0 ? std::min(options.inodes, kMostInodes) : kMostInodes;
  return {};
}

Result<uint64_t> Tmpfs::take_inode() {
  if (held_memory()->left() < TmpfsInode::kOwnMemory) return Errno(ENOMEM);
  if (++inodes_ > most_inodes_) {
    --inodes_;
    return Errno(ENOSPC);
  }
  return next_++;
}

Result<InodeRef> Tmpfs::add(std::string_view path, mode_t mode_and_type, dev_t device, std::string_view link_target) {
  std::shared_ptr<TmpfsFolder> folder = root_.lock();
  for (;;) {
    if (!folder) return Errno(ENOTDIR);
    const size_t slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    const bool last = slash == path.npos;
    std::shared_ptr<TmpfsInode> found = folder->find(name);
    if (found && last) return Errno(EEXIST);
    if (!found) {
      NodeStat node = NodeStat::make(TRY(take_inode()), last ? mode_and_type : S_IFDIR | 0755, 0, 0);
      node.device = device;
      if (S_ISDIR(node.mode)) {
        node.links = 2;
        found = std::make_shared<TmpfsFolder>(shared_from_this(), node);
      } else if (S_ISLNK(node.mode)) {
        node.size = link_target.size();
        found = std::make_shared<TmpfsLink>(shared_from_this(), node, std::string(link_target));
      } else if (S_ISREG(node.mode)) {
        found = std::make_shared<TmpfsRegular>(shared_from_this(), node);
      } else {
        found = std::make_shared<TmpfsInode>(shared_from_this(), node);
      }
      TRY(folder->insert(name, found));
    }
    if (last) return InodeRef(found);
    path.remove_prefix(slash + 1);
    folder = std::dynamic_pointer_cast<TmpfsFolder>(found);
  }
}

Result<struct statx> TmpfsInode::stat() {
  std::lock_guard guard(tmpfs.lock);
  return to_statx(tmpfs, node);
}

Result<void> TmpfsInode::set_attributes(Task& task, const Attributes& attributes) {
  Attributes allowed = attributes;
  std::lock_guard guard(tmpfs.lock);
  TRY(may_change(task, node, allowed));
  change(node, allowed);
  if ((allowed.mask & (STATX_UID | STATX_GID)) != 0) drop_capabilities_locked();
  return {};
}

Result<FileRef> TmpfsInode::open(Task& task, const Path& path, int flags) {
  if ((flags & O_PATH) != 0) return FileRef(std::make_shared<File>(path, flags));
  switch (type_) {
    case S_IFCHR:
    case S_IFBLK:
      return open_device(task, path, flags, type_, node.device);  // the number never changes
    case S_IFIFO:
      return open_named_pipe(task, path, flags, identity());
    default:
      return Errno(ENXIO);
  }
}

namespace {

constexpr std::string_view kCapabilities = "security.capability";

// Whether the task may touch this attribute at all (xattr(7)): "trusted." is for CAP_SYS_ADMIN, others than "user." have no meaning here.
Result<void> check_xattr_name(Task& task, const NodeStat& node, std::string_view name, bool write) {
  if (name.starts_with("user.")) {
    if (!S_ISREG(node.mode) && !S_ISDIR(node.mode)) return write ? Errno(EPERM) : Errno(ENODATA);
    return {};
  }
  if (name.starts_with("trusted.")) {
    if (task.creds->has(kCapSysAdmin)) return {};
    return write ? Errno(EPERM) : Errno(ENODATA);
  }
  if (name.starts_with("security.")) {
    if (!write) return {};
    return task.creds->has(name == kCapabilities ? kCapSetfcap : kCapSysAdmin) ? Result<void>() : Errno(EPERM);
  }
  return Errno(EOPNOTSUPP);
}

}  // namespace

Result<std::string> TmpfsInode::get_xattr(Task& task, const char* name) {
  std::lock_guard guard(tmpfs.lock);
  TRY(check_xattr_name(task, node, name, false));
  const auto found = xattrs_.find(name);
  if (found == xattrs_.end()) return Errno(ENODATA);
  return found->second;
}

Result<void> TmpfsInode::set_xattr(Task& task, const char* name, std::string_view value, int flags) {
  std::lock_guard guard(tmpfs.lock);
  TRY(check_xattr_name(task, node, name, true));
  if (name == kCapabilities && !parse_file_capabilities(value)) return Errno(EINVAL);
  const auto found = xattrs_.find(name);
  if (found != xattrs_.end() && (flags & XATTR_CREATE) != 0) return Errno(EEXIST);
  if (found == xattrs_.end() && (flags & XATTR_REPLACE) != 0) return Errno(ENODATA);
  const size_t own = std::string_view(name).size(), before = attribute_bytes_locked();
  const size_t total = before + own + value.size() - (found != xattrs_.end() ? own + found->second.size() : 0);
  if (total > kMostXattrs) return Errno(ENOSPC);
  if (total > before && total - before > held_.left()) return Errno(ENOMEM);
  xattrs_.insert_or_assign(name, std::string(value));
  held_.become(kOwnMemory + total);
  node.ctime = now_realtime();
  return {};
}

size_t TmpfsInode::attribute_bytes_locked() const {
  size_t total = 0;
  for (const auto& [name, value] : xattrs_) total += name.size() + value.size();
  return total;
}

bool TmpfsInode::drop_attribute_locked(std::string_view name) {
  const auto found = xattrs_.find(name);
  if (found == xattrs_.end()) return false;
  xattrs_.erase(found);
  held_.become(kOwnMemory + attribute_bytes_locked());
  return true;
}

void TmpfsInode::drop_capabilities_locked() { drop_attribute_locked(kCapabilities); }

Result<void> TmpfsInode::remove_xattr(Task& task, const char* name) {
  std::lock_guard guard(tmpfs.lock);
  TRY(check_xattr_name(task, node, name, true));
  if (!drop_attribute_locked(name)) return Errno(ENODATA);
  node.ctime = now_realtime();
  return {};
}

Result<std::string> TmpfsInode::list_xattr(Task& task) {
  std::string names;
  std::lock_guard guard(tmpfs.lock);
  for (const auto& [name, value] : xattrs_) {
    if (name.starts_with("trusted.") && !task.creds->has(kCapSysAdmin)) continue;
    names += name;
    names.push_back('\0');
  }
  return names;
}

}  // namespace caisson::kernel
