#include "kernel/fs/proc/mapped_names.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "kernel/fs/host/host_fs.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr std::string_view kDeleted = " (deleted)";

// Where "/a/b" lies below "" or "/a"; none: not there.
std::optional<std::string_view> below(std::string_view folder, std::string_view name) {
  if (!name.starts_with(folder)) return std::nullopt;
  name.remove_prefix(folder.size());
  if (!name.empty() && name.front() != '/') return std::nullopt;
  return name;
}

}  // namespace

MappedNames::MappedNames(Task& reader, const ProcFacts& facts) : reader_(reader) {
  if (!facts.fs || !facts.spaces) return;
  const Path root = facts.fs->root();
  for (const MountRef& mount : facts.spaces->mounts->all()) {
    if (dynamic_cast<const HostFileSystem*>(mount->fs.get()) == nullptr || mount->root->inode()->type() != S_IFDIR) continue;
    const auto point = place_text(root, {mount, mount->root});
    const auto stat = point ? mount->root->inode()->stat() : Result<struct statx>(Errno(ENOENT));
    if (!stat) continue;
    const std::string in_host = root_text(mount->root, false);
    places_.push_back({mount, *point == "/" ? "" : *point, in_host == "/" ? "" : in_host, stat->stx_dev_major, stat->stx_dev_minor});
  }
}

bool MappedNames::is_there(const Place& place, std::string_view below, const File& file) {
  if (below.size() < 2) return false;
  const Result<Path> found = walk_from(reader_, {place.mount, place.mount->root}, below.substr(1), kWalkNoFollow | kWalkNoMagicLinks);
  if (!found) return false;
  const auto stat = found->inode()->stat();
  return stat && File{stat->stx_dev_major, stat->stx_dev_minor, stat->stx_ino} == file;
}

std::string MappedNames::guest_name(const File& file, const std::string& host_name) {
  std::vector<std::pair<const Place*, std::string_view>> candidates;
  for (const Place& place : places_) {
    const auto rest = below(place.in_host, host_name);
    if (rest && place.major == file.major && place.minor == file.minor) candidates.emplace_back(&place, *rest);
  }
  if (candidates.empty()) return host_name;
  // Volumes are often folders of one file system.
  if (candidates.size() > 1) std::erase_if(candidates, [&](const auto& each) { return !is_there(*each.first, each.second, file); });
  return candidates.empty() ? host_name : candidates.front().first->point + std::string(candidates.front().second);
}

std::string MappedNames::of_line(std::string_view line) {
  std::string copy(line.substr(0, 128));
  File file;
  int name_at = 0;
  if (sscanf(copy.c_str(), "%*x-%*x %*s %*x %x:%x %" SCNu64 " %n", &file.major, &file.minor, &file.inode, &name_at) != 3 ||
      static_cast<size_t>(name_at) >= line.size() || line[static_cast<size_t>(name_at)] != '/')
    return std::string(line);
  std::string name(line.substr(static_cast<size_t>(name_at)));
  auto known = known_.find({file, name});
  if (known == known_.end()) {
    const bool deleted = name.ends_with(kDeleted);
    std::string guests = guest_name(file, deleted ? name.substr(0, name.size() - kDeleted.size()) : name);
    if (deleted) guests += kDeleted;
    known = known_.insert({{file, std::move(name)}, std::move(guests)}).first;
  }
  return std::string(line.substr(0, static_cast<size_t>(name_at))) + known->second;
}

}  // namespace caisson::kernel
