#include "microvm/mount_table.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace caisson::microvm {
namespace {

constexpr std::array<std::string_view, 20> kKernelInterfaces = {
    "proc",     "sysfs",       "cgroup",  "cgroup2", "debugfs",   "tracefs", "securityfs", "bpf",        "configfs", "mqueue",
    "efivarfs", "binfmt_misc", "fusectl", "pstore",  "selinuxfs", "smackfs", "nsfs",       "rpc_pipefs", "nfsd",     "resctrl"};

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// The kernel writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) && is_octal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// The number-th field, counted from 0.
std::string_view field(std::string_view line, int number) {
  for (; number > 0; --number) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) return {};
    line.remove_prefix(space + 1);
  }
  return line.substr(0, line.find(' '));
}

}  // namespace

std::vector<MountedAt> parse_mount_table(std::string_view mountinfo) {
  std::vector<MountedAt> mounts;
  for (size_t at = 0; at < mountinfo.size();) {
    const size_t end = std::min(mountinfo.find('\n', at), mountinfo.size());
    const std::string_view line = mountinfo.substr(at, end - at);
    at = end + 1;
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    MountedAt mount{0, unescape(field(line.substr(0, dash), 4)), std::string(field(line.substr(dash + 3), 0))};
    const std::string_view id = field(line, 0);
    if (std::from_chars(id.data(), id.data() + id.size(), mount.id).ec != std::errc()) continue;
    if (!mount.point.empty() && !mount.type.empty()) mounts.push_back(std::move(mount));
  }
  return mounts;
}

bool is_below(std::string_view path, std::string_view folder) {
  return path.size() > folder.size() + 1 && path.starts_with(folder) && path[folder.size()] == '/';
}

bool is_kernel_interface(std::string_view type) {
  return std::find(kKernelInterfaces.begin(), kKernelInterfaces.end(), type) != kKernelInterfaces.end();
}

}  // namespace caisson::microvm
