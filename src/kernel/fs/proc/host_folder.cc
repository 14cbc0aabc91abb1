// Parts of the host's /proc that are true of the pod: those of the network namespace that the kernel process lives in. Read only, and plain
// files and folders only; what this kernel decides itself is its own.
#include <dirent.h>
#include <fcntl.h>

#include <algorithm>

#include "kernel/fs/proc/proc.h"
#include "kernel/net/low_ports.h"
#include "kernel/platform/host_proc.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

class HostFolder : public MadeUpFolder {
 public:
  HostFolder(std::shared_ptr<FileSystem> fs, std::string host_path, uint64_t number)
      : MadeUpFolder(std::move(fs), number), path_(std::move(host_path)) {}

  Result<InodeRef> lookup(Task&, std::string_view name) override {
    const std::string path = path_ + "/" + std::string(name);
    struct stat stat {};
    TRY(stat_host_proc(path.c_str(), &stat));
    if (S_ISDIR(stat.st_mode)) return make_host_folder(fs(), path, number_of(name));
    if (!S_ISREG(stat.st_mode)) return Errno(ENOENT);
    if (path == std::string("sys/") + kLowPortsSetting) return InodeRef(low_ports(number_of(name)));
    return InodeRef(std::make_shared<TextInode>(fs(), number_of(name), stat.st_mode & 0444,
                                                [path](Task&) -> Result<std::string> { return read_host_proc(path.c_str()); }));
  }

  Result<std::vector<ListedEntry>> list(Task&, int64_t position) override {
    const std::vector<HostProcEntry> entries = TRY(list_host_proc(path_.c_str()));
    std::vector<ListedEntry> result;
    for (size_t i = static_cast<size_t>(std::max<int64_t>(position, 2) - 2); i < entries.size(); ++i)
      result.push_back({entries[i].name, number_of(entries[i].name), static_cast<unsigned char>(entries[i].folder ? DT_DIR : DT_REG),
                        static_cast<int64_t>(i) + 3});
    return result;
  }

 private:
  // The host's says what the kernel process may bind. To be set by who may configure the network, or root, as under Linux.
  std::shared_ptr<TextInode> low_ports(uint64_t number) {
    return std::make_shared<TextInode>(
        fs(), number, 0644, [](Task&) -> Result<std::string> { return std::to_string(first_unprivileged_port()) + "\n"; },
        [](Task& task, std::string_view text) -> Result<void> {
          if (!task.creds->user->is_initial()) return Errno(EPERM);
          first_unprivileged_port() = TRY(parse_first_unprivileged_port(text));
          return {};
        });
  }

  uint64_t number_of(std::string_view name) const { return 1ULL << 58 | std::hash<std::string>()(path_ + "/" + std::string(name)) >> 8; }
  std::string path_;
};

}  // namespace

InodeRef make_host_folder(std::shared_ptr<FileSystem> fs, std::string host_path, uint64_t number) {
  return std::make_shared<HostFolder>(std::move(fs), std::move(host_path), number);
}

}  // namespace caisson::kernel
