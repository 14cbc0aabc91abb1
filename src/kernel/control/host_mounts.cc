#include "kernel/control/host_mounts.h"

#include <fcntl.h>
#include <string.h>

#include "kernel/fs/host/host_fs.h"
#include "kernel/fs/registry.h"
#include "kernel/klog.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

// "\040" is a space.
std::string unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const size_t end = line.find(' ');
    words.push_back(line.substr(0, end));
    line.remove_prefix(end == line.npos ? line.size() : end + 1);
  }
  return words;
}

Result<void> import_one(Task& setup, Container& container, const HostMount& mount) {
  UniqueFd fd(open(mount.point.c_str(), O_PATH | O_CLOEXEC));
  if (!fd) return host_errno();
  const Path point = TRY(walk(setup, AT_FDCWD, mount.point));
  const auto fs = TRY(HostFileSystem::create(std::move(fd), mount.type));
  const auto root = std::make_shared<Dentry>("", nullptr, TRY(fs->root()));
  std::string rest;
  const unsigned long flags = split_mount_options(mount.options, &rest);
  (void)TRY(container.mounts->add(fs, root, point, flags, mount.source, ""));
  return {};
}

}  // namespace

std::vector<HostMount> parse_mountinfo(std::string_view text) {
  std::vector<HostMount> mounts;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::vector<std::string_view> words = words_of(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    size_t dash = 6;
    while (dash < words.size() && words[dash] != "-") ++dash;
    if (dash + 2 >= words.size()) continue;
    mounts.push_back({unescape(words[4]), unescape(words[dash + 1]), unescape(words[dash + 2]), std::string(words[5])});
  }
  return mounts;
}

void import_host_mounts(Task& setup, Container& container, const std::vector<HostMount>& mounts,
                        const std::function<bool(std::string_view)>& skip) {
  for (const HostMount& mount : mounts) {
    if (mount.point == "/" || skip(mount.point)) continue;
    if (auto imported = import_one(setup, container, mount); !imported)
      klog(LogLevel::Warning, "the mount on %s is not in the kernel's table: %s", mount.point.c_str(),
           strerrordesc_np(imported.error().value));
  }
}

}  // namespace caisson::kernel
