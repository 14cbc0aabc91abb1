// Devpts: a node for each pseudo-terminal, and ptmx, which makes them (devpts in Linux's Documentation/filesystems). Each mount is an
// instance of its own.
//
// Lock: Devpts::lock_, of the level of inodes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "kernel/fs/common/node.h"
#include "kernel/tty/terminal.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class Kernel;
class DevptsRoot;

class Devpts : public FileSystem, public std::enable_shared_from_this<Devpts> {
 public:
  struct Options {
    mode_t mode = 0600, ptmx_mode = 0;
    bool has_uid = false, has_gid = false;
    uid_t uid = 0;
    gid_t gid = 0;
    int most = 4096;
  };
  // "newinstance,ptmxmode=0666,mode=0620,gid=5,max=...". EINVAL.
  static Result<Options> parse(std::string_view text);
  static std::shared_ptr<Devpts> create(const Options& options);
  const char* name() const override { return "devpts"; }
  Result<InodeRef> root() override;
  Result<struct statfs> stat_fs() override;

  // A new terminal with the lowest free number, owned by uid and gid (but where the options say otherwise). ENOSPC.
  Result<std::shared_ptr<Terminal>> make_terminal(Kernel& kernel, uid_t uid, gid_t gid);
  // Its node goes; whoever has it open keeps it.
  void remove(int index);
  Result<InodeRef> node(int index);
  std::vector<int> list() const;

 private:
  friend class DevptsRoot;
  explicit Devpts(const Options& options) : options_(options) {}
  const Options options_;
  mutable std::mutex lock_;
  std::map<int, InodeRef> nodes_;
  NodeStat root_node_, ptmx_node_;
};

// The devpts that a task's /dev/ptmx makes terminals in: the one mounted last. ENODEV.
Result<std::shared_ptr<Devpts>> devpts_of(Task& task);

}  // namespace caisson::kernel
