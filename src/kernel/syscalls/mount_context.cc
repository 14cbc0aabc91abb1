// File systems in the making: fsopen, fsconfig, fsmount, fspick. What is asked for is kept as the options of mount(8), and the file system
// made of them with FSCONFIG_CMD_CREATE.
#include <linux/mount.h>
#include <string.h>

#include <deque>

#include "kernel/fs/registry.h"
#include "kernel/fs/tmpfs/tmpfs.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/mount_tree.h"
#include "kernel/syscalls/mounting.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/anonymous.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostOptions = 64 * 1024;  // bytes: of overlays with many layers
constexpr size_t kLongest = 256;            // of a key, a value

// Own lock, a leaf; but for create and reconfigure, which take those of file systems and mounts.
class MountContext : public AnonymousFile {
 public:
  enum class Phase { Parameters, Made, Done, Changing, Failed };
  MountContext(std::string type, Phase phase, Path place)
      : AnonymousFile("fscontext", 0600, O_RDWR), type_(std::move(type)), place_(std::move(place)), phase_(phase) {}

  // What has gone wrong, a message for each call.
  Result<size_t> read(Task&, IoBuffer& buffer, off_t) override {
    std::lock_guard guard(lock_);
    if (messages_.empty()) return Errno(ENODATA);
    if (buffer.left() < messages_.front().size()) return Errno(EMSGSIZE);
    const std::string text = std::move(messages_.front());
    messages_.pop_front();
    return buffer.put(text.data(), text.size());
  }

  Result<void> set_flag(const std::string& key) {
    std::lock_guard guard(lock_);
    TRY(may_change());
    std::string rest;
    const unsigned long before = flags_;
    flags_ |= split_mount_options(key, &rest) & kOfFileSystems;
    if (key == "rw") flags_ = before & ~static_cast<unsigned long>(MS_RDONLY);
    if (key == "async") flags_ = before & ~static_cast<unsigned long>(MS_SYNCHRONOUS);
    return rest.empty() ? Result<void>() : add(rest, nullptr);
  }

  Result<void> set_string(const std::string& key, const std::string& value) {
    std::lock_guard guard(lock_);
    TRY(may_change());
    if (key == "source") {
      if (!source_.empty()) return refuse("source: is given twice", EINVAL);
      source_ = value;
      return {};
    }
    return add(key, &value);
  }

  Result<void> create(Task& task) {
    std::lock_guard guard(lock_);
    if (phase_ != Phase::Parameters) return Errno(EBUSY);
    Result<std::shared_ptr<FileSystem>> made = make_file_system(task, type_, options());
    phase_ = made ? Phase::Made : Phase::Failed;
    if (!made) return refuse("cannot be made: " + std::string(strerrordesc_np(made.error().value)), made.error().value);
    fs_ = *std::move(made);
    return {};
  }

  Result<void> reconfigure(Task& task) {
    std::lock_guard guard(lock_);
    if (phase_ != Phase::Changing || !place_) return Errno(EBUSY);
    if (const auto tmpfs = std::dynamic_pointer_cast<Tmpfs>(place_.mount->fs); tmpfs && !words_.empty()) {
      const Result<Tmpfs::Options> parsed = Tmpfs::parse(options());
      if (!parsed) return refuse("has no such option", EINVAL);
      TRY(tmpfs->remount(*parsed));
    }
    words_.clear();
    return task.spaces->mounts->set_flags(place_.mount, (place_.mount->flags & ~kOfFileSystems) | flags_);
  }

  Result<FileRef> mount(Task& task, uint64_t attributes) {
    std::lock_guard guard(lock_);
    if (phase_ == Phase::Done || phase_ == Phase::Changing) return Errno(EBUSY);
    if (phase_ != Phase::Made) return Errno(EINVAL);
    const auto table = std::make_shared<MountTable>(task.spaces->mounts->owner);
    (void)TRY(mount_made(task, *table, fs_, Path(), source_.empty() ? "none" : source_, flags_ | mount_flags_of(attributes), options()));
    phase_ = Phase::Done;
    return make_tree_file(table);
  }

 private:
  // The superblock's own in Linux; a mount's here.
  static constexpr unsigned long kOfFileSystems = MS_RDONLY | MS_SYNCHRONOUS | MS_DIRSYNC | MS_MANDLOCK;

  Result<void> may_change() const {
    return phase_ == Phase::Parameters || phase_ == Phase::Changing ? Result<void>() : Result<void>(Errno(EBUSY));
  }

  Result<void> add(std::string key, const std::string* value) {
    const bool overlay = type_ == "overlay";
    std::string text = value != nullptr ? *value : "";
    if (overlay && key == "lowerdir+" && value != nullptr) return add_layer(text);
    if (overlay) text = escaped(text, ',');
    if (key.find_first_of(",=") != key.npos || (!overlay && text.find(',') != text.npos)) return refuse(key + ": cannot be taken", EINVAL);
    const std::string word = value != nullptr ? key + "=" + text : key;
    if (const bool tmpfs = type_ == "tmpfs" || type_ == "ramfs"; tmpfs && !Tmpfs::parse(word))
      return refuse(key + ": no such option", EINVAL);
    return take(word);
  }

  // One layer more, below those that are there; its colons are no separators.
  Result<void> add_layer(const std::string& path) {
    const std::string text = escaped(escaped(path, ':'), ',');
    for (std::string& word : words_) {
      if (!word.starts_with("lowerdir=")) continue;
      if (size_ + text.size() > kMostOptions) return Errno(EINVAL);
      size_ += text.size() + 1;
      word += ":" + text;
      return {};
    }
    return take("lowerdir=" + text);
  }

  Result<void> take(std::string word) {
    if (size_ + word.size() > kMostOptions) return Errno(EINVAL);
    size_ += word.size() + 1;
    words_.push_back(std::move(word));
    return {};
  }

  static std::string escaped(const std::string& text, char separator) {
    std::string result;
    for (const char c : text) {
      if (c == separator || c == '\\') result.push_back('\\');
      result.push_back(c);
    }
    return result;
  }

  std::string options() const {
    std::string text;
    for (const std::string& word : words_) text += (text.empty() ? "" : ",") + word;
    return text;
  }

  Errno refuse(const std::string& why, int error) {
    if (messages_.size() < 8) messages_.push_back("e " + type_ + ": " + why + "\n");
    return Errno(error);
  }

  std::mutex lock_;
  const std::string type_;
  const Path place_;  // of fspick: what is to be changed
  Phase phase_;
  std::string source_;
  std::vector<std::string> words_;
  size_t size_ = 0;
  unsigned long flags_ = 0;
  std::shared_ptr<FileSystem> fs_;
  std::deque<std::string> messages_;
};

bool is_known_type(std::string_view type) { return file_system_types().find("\t" + std::string(type) + "\n") != std::string::npos; }

// As strndup_user in Linux: EINVAL where it is too long.
Result<std::string> read_word(Task& task, UserPtr<const char> from) {
  Result<std::string> text = task.read_string(from, kLongest);
  if (!text && text.error() == Errno(ENAMETOOLONG)) return Errno(EINVAL);
  return text;
}

Result<long> sys_fsopen(Task& task, UserPtr<const char> type_text, unsigned flags) {
  TRY(may_mount(task));
  if ((flags & ~FSOPEN_CLOEXEC) != 0) return Errno(EINVAL);
  const std::string type = TRY(read_word(task, type_text));
  if (!is_known_type(type)) return Errno(ENODEV);
  return install(task, std::make_shared<MountContext>(type, MountContext::Phase::Parameters, Path()), (flags & FSOPEN_CLOEXEC) != 0);
}

Result<long> sys_fspick(Task& task, Fd dirfd, UserPtr<const char> path_text, unsigned flags) {
  TRY(may_mount(task));
  if ((flags & ~(FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW | FSPICK_NO_AUTOMOUNT | FSPICK_EMPTY_PATH)) != 0) return Errno(EINVAL);
  const std::string text = TRY(task.read_string(path_text));
  const unsigned how =
      ((flags & FSPICK_SYMLINK_NOFOLLOW) != 0 ? kWalkNoFollow : 0) | ((flags & FSPICK_EMPTY_PATH) != 0 ? kWalkEmptyPath : 0);
  const Path place = TRY(walk(task, number(dirfd), text, how));
  if (!is_mount_root(place)) return Errno(EINVAL);
  return install(task, std::make_shared<MountContext>(place.mount->fs->name(), MountContext::Phase::Changing, place),
                 (flags & FSPICK_CLOEXEC) != 0);
}

Result<long> sys_fsconfig(Task& task, Fd fd, unsigned command, UserPtr<const char> key, UserPtr<const char> value, int more) {
  if (number(fd) < 0) return Errno(EINVAL);
  switch (command) {
    case FSCONFIG_SET_FLAG:
      if (!key || value || more != 0) return Errno(EINVAL);
      break;
    case FSCONFIG_SET_STRING:
      if (!key || !value || more != 0) return Errno(EINVAL);
      break;
    case FSCONFIG_CMD_CREATE:
    case FSCONFIG_CMD_RECONFIGURE:
      if (key || value || more != 0) return Errno(EINVAL);
      break;
    default:
      // Binary values, files and descriptors as values: nothing here takes them.
      return Errno(EOPNOTSUPP);
  }
  const auto context = TRY(file_as<MountContext>(task, fd, EINVAL));
  if (command == FSCONFIG_SET_FLAG) TRY(context->set_flag(TRY(read_word(task, key))));
  if (command == FSCONFIG_SET_STRING) {
    const std::string name = TRY(read_word(task, key));
    TRY(context->set_string(name, TRY(read_word(task, value))));
  }
  if (command == FSCONFIG_CMD_CREATE || command == FSCONFIG_CMD_RECONFIGURE) TRY(may_mount(task));
  if (command == FSCONFIG_CMD_CREATE) TRY(context->create(task));
  if (command == FSCONFIG_CMD_RECONFIGURE) TRY(context->reconfigure(task));
  return 0L;
}

Result<long> sys_fsmount(Task& task, Fd fd, unsigned flags, unsigned attributes) {
  TRY(may_mount(task));
  if ((flags & ~FSMOUNT_CLOEXEC) != 0 || !are_mount_attributes(attributes)) return Errno(EINVAL);
  const auto context = TRY(file_as<MountContext>(task, fd, EINVAL));
  return install(task, TRY(context->mount(task, attributes)), (flags & FSMOUNT_CLOEXEC) != 0);
}

}  // namespace

std::span<const SyscallRow> mount_context_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(fsopen, 430, Full, ""),
      SYSCALL(fsconfig, 431, Partial, "flags and strings; what a file system does not know may be told with FSCONFIG_CMD_CREATE only"),
      SYSCALL(fsmount, 432, Full, ""),
      SYSCALL(fspick, 433, Partial, "the flags of the mount are changed, and the options of a tmpfs"),
  };
  return rows;
}

}  // namespace caisson::kernel
