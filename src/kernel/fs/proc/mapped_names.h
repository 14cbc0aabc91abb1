// The names of mapped files. The host's maps has them as they are below the mount that the kernel process holds, which is a guest's root or
// a volume; guests are told their own.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/fs/proc/facts.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class MappedNames {
 public:
  // Those of a process, for one reading. The reader outlives it.
  MappedNames(Task& reader, const ProcFacts& facts);

  // One line of the host's maps, "start-end perms offset dev inode   name", as the guest is to see it.
  std::string of_line(std::string_view line);

 private:
  // A mount of a folder of the host's.
  struct Place {
    MountRef mount;
    std::string point;    // where the process sees it
    std::string in_host;  // the part of the host's mount that it shows: "" or "/folder"
    unsigned major = 0, minor = 0;
  };
  struct File {
    unsigned major = 0, minor = 0;
    uint64_t inode = 0;
    auto operator<=>(const File&) const = default;
  };
  std::string guest_name(const File& file, const std::string& host_name);
  bool is_there(const Place& place, std::string_view below, const File& file);

  Task& reader_;
  std::vector<Place> places_;
  std::map<std::pair<File, std::string>, std::string> known_;
};

}  // namespace caisson::kernel
