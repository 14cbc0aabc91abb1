// Parts of the host's /proc that are true of a network: of the pod's, or of one that a guest has made. Read only, and plain files and
// folders only; what this kernel decides itself is its own.
#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <functional>

#include "kernel/fs/proc/facts.h"
#include "kernel/net/host_options.h"
#include "kernel/net/low_ports.h"
#include "kernel/net/network_namespace.h"

namespace caisson::kernel {
namespace {

using Network = std::shared_ptr<NetworkNamespace>;
// Whose it is, asked each time: a process may change its namespaces.
using NetworkOf = std::function<Result<Network>(Task&)>;
using Files = NetworkNamespace::Files;

class NetworkFolder : public MadeUpFolder {
 public:
  NetworkFolder(std::shared_ptr<FileSystem> fs, Files which, NetworkOf network, std::string path, uint64_t number)
      : MadeUpFolder(std::move(fs), number), which_(which), network_(std::move(network)), path_(std::move(path)) {}

  Result<InodeRef> lookup(Task& task, std::string_view name) override {
    const std::string path = (path_.empty() ? "" : path_ + "/") + std::string(name);
    struct stat stat {};
    TRY(TRY(network_(task))->stat_file(which_, path, &stat));
    if (S_ISDIR(stat.st_mode)) return InodeRef(std::make_shared<NetworkFolder>(fs(), which_, network_, path, number_of(name)));
    if (!S_ISREG(stat.st_mode)) return Errno(ENOENT);
    if (which_ == Files::Settings && "net/" + path == kLowPortsSetting) return InodeRef(low_ports(number_of(name)));
    return InodeRef(std::make_shared<TextInode>(fs(), number_of(name), stat.st_mode & 0444,
                                                [which = which_, network = network_, path](Task& reader) -> Result<std::string> {
                                                  return TRY(network(reader))->read_file(which, path);
                                                }));
  }

  Result<std::vector<ListedEntry>> list(Task& task, int64_t position) override {
    const std::vector<HostProcEntry> entries = TRY(TRY(network_(task))->list_files(which_, path_));
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
        fs(), number, 0644,
        [network = network_](Task& task) -> Result<std::string> {
          return std::to_string(TRY(network(task))->first_unprivileged_port) + "\n";
        },
        [network = network_](Task& task, std::string_view text) -> Result<void> {
          const Network of = TRY(network(task));
          if (of->owner->is_initial() ? !task.creds->user->is_initial() : !of->lets(*task.creds, kCapNetAdmin)) return Errno(EPERM);
          of->first_unprivileged_port = TRY(parse_first_unprivileged_port(text));
          return {};
        });
  }

  uint64_t number_of(std::string_view name) const {
    return 1ULL << 58 | std::hash<std::string>()((which_ == Files::State ? "net/" : "sys/net/") + path_ + "/" + std::string(name)) >> 8;
  }
  const Files which_;
  const NetworkOf network_;
  const std::string path_;
};

}  // namespace

InodeRef make_network_state(std::shared_ptr<FileSystem> fs, ProcSubject subject, uint64_t number) {
  const auto network = [subject = std::move(subject)](Task& task) -> Result<Network> {
    const ProcFacts facts = TRY(gather(task.kernel, subject));
    if (!facts.spaces) return Errno(ENOENT);
    return facts.spaces->network;
  };
  return std::make_shared<NetworkFolder>(std::move(fs), Files::State, network, "", number);
}

InodeRef make_network_settings(std::shared_ptr<FileSystem> fs, uint64_t number) {
  const auto network = [](Task& task) -> Result<Network> { return task.spaces->network; };
  return std::make_shared<NetworkFolder>(std::move(fs), Files::Settings, network, "", number);
}

}  // namespace caisson::kernel
