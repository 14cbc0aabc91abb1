#include "kernel/fs/dev/devices.h"

#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <map>

#include "kernel/fs/dev/device_rules.h"
#include "kernel/fs/devpts/devpts.h"
#include "kernel/ipc/pipe.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"
#include "kernel/tty/pty.h"

namespace caisson::kernel {
namespace {

// /dev/null, zero, full, random and urandom (major 1).
class MemoryDevice : public File {
 public:
  enum Kind { Null = 3, Zero = 5, Full = 7, Random = 8, Urandom = 9 };
  MemoryDevice(Path path, int flags, Kind kind) : File(std::move(path), flags), kind_(kind) {}

  Result<size_t> read(Task& task, IoBuffer& buffer, off_t) override {
    if (kind_ == Null) return size_t{0};
    if (kind_ == Zero || kind_ == Full) return buffer.put_zeros(buffer.left());
    size_t done = 0;
    while (!buffer.empty()) {
      if (done > 0 && task.interrupted()) break;
      char bytes[4096];
      const long got = TRY(host_result(getrandom(bytes, std::min(sizeof bytes, buffer.left()), 0)));
      Result<size_t> put = buffer.put(bytes, static_cast<size_t>(got));
      if (!put) return done > 0 ? Result<size_t>(done) : put;
      if (*put == 0) break;
      done += *put;
    }
    return done;
  }
  Result<size_t> write(Task&, IoBuffer& buffer, off_t) override {
    if (kind_ == Full) return Errno(ENOSPC);
    const size_t size = buffer.left();
    buffer.skip(size);
    return size;
  }
  bool seekable() const override { return true; }
  Result<off_t> seek(off_t, off_t, int) override { return off_t{0}; }
  Result<MapSource> map(uint64_t, uint64_t, int, int) override {
    if (kind_ != Zero) return Errno(ENODEV);
    return MapSource{-1, 0, true};
  }
  Result<void> sync(bool) override { return Errno(EINVAL); }

 private:
  Kind kind_;
};

Result<FileRef> open_terminal_device(Task& task, const Path& path, int flags, unsigned number) {
  std::shared_ptr<Terminal> terminal;
  switch (number) {
    case 0: {  // /dev/tty
      std::lock_guard guard(task.kernel.tasks);
      terminal = task.group->terminal;
      break;
    }
    case 1:  // /dev/console
      if (task.group->container != nullptr) terminal = task.group->container->console;
      break;
    case 2:
      return PtyMasterFile::open(task, TRY(devpts_of(task)), path, flags);
    default:
      break;
  }
  if (!terminal) return Errno(ENXIO);
  return TerminalFile::open(task, std::move(terminal), path, flags | (number == 0 ? O_NOCTTY : 0));
}

}  // namespace

Result<FileRef> open_device(Task& task, const Path& path, int flags, mode_t type, dev_t device) {
  const int mode = flags & O_ACCMODE;
  const uint32_t access = mode == O_RDONLY ? kDeviceRead : mode == O_WRONLY ? kDeviceWrite : kDeviceRead | kDeviceWrite;
  // The console is the container's own terminal, which on Linux is a pty: no rule is about it.
  if (device != makedev(5, 1) && !device_allowed(task, type, device, access)) return Errno(EPERM);
  if (type == S_IFCHR && major(device) == 5) return open_terminal_device(task, path, flags, minor(device));
  flags &= ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_CLOEXEC | kOpenTrusted);
  if (type == S_IFCHR && major(device) == 1) {
    switch (minor(device)) {
      case MemoryDevice::Null:
      case MemoryDevice::Zero:
      case MemoryDevice::Full:
      case MemoryDevice::Random:
      case MemoryDevice::Urandom:
        return FileRef(std::make_shared<MemoryDevice>(path, flags, static_cast<MemoryDevice::Kind>(minor(device))));
    }
  }
  return type == S_IFCHR && major(device) == 10 ? Errno(ENODEV) : Errno(ENXIO);  // 10: one driver has them all, and misses this one
}

Result<FileRef> open_named_pipe(Task& task, const Path& path, int flags, std::pair<uint64_t, uint64_t> identity) {
  // Pipes of FIFOs that are open somewhere, by the node's identity.
  static std::mutex lock;
  static std::map<std::pair<uint64_t, uint64_t>, std::weak_ptr<Pipe>> pipes;
  std::shared_ptr<Pipe> pipe;
  {
    std::lock_guard guard(lock);
    std::erase_if(pipes, [&](const auto& entry) { return entry.first != identity && entry.second.expired(); });
    std::weak_ptr<Pipe>& known = pipes[identity];
    pipe = known.lock();
    if (!pipe) known = pipe = std::make_shared<Pipe>();
  }
  return open_fifo(task, pipe, path, flags);
}

Result<void> make_default_devices(Task& task, const Path& folder) {
  struct Node {
    const char* name;
    mode_t mode;
    unsigned major, minor;
  };
  static constexpr Node kNodes[] = {{"null", 0666, 1, 3},    {"zero", 0666, 1, 5}, {"full", 0666, 1, 7},   {"random", 0666, 1, 8},
                                    {"urandom", 0666, 1, 9}, {"tty", 0666, 5, 0},  {"console", 0620, 5, 1}};
  static constexpr std::pair<const char*, const char*> kLinks[] = {{"ptmx", "pts/ptmx"},
                                                                   {"fd", "/proc/self/fd"},
                                                                   {"stdin", "/proc/self/fd/0"},
                                                                   {"stdout", "/proc/self/fd/1"},
                                                                   {"stderr", "/proc/self/fd/2"}};
  const InodeRef inode = folder.inode();
  const auto made = [](const auto& result) { return result.ok() || result.error() == Errno(EEXIST) ? Result<void>() : result.error(); };
  for (const Node& node : kNodes) TRY(made(inode->make(task, node.name, S_IFCHR | node.mode, makedev(node.major, node.minor))));
  for (const auto& [name, target] : kLinks) TRY(made(inode->make_link(task, name, target)));
  for (const char* name : {"pts", "shm", "mqueue"}) TRY(made(inode->make(task, name, S_IFDIR | 0755, 0)));
  return {};
}

}  // namespace caisson::kernel
