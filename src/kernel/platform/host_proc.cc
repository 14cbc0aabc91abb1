#include "kernel/platform/host_proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <string_view>

namespace caisson::kernel {
namespace {

std::mutex g_lock;
int g_folder = -1;
int g_network = -1;  // sys/net

// O_PATH descriptors of files that are about the machine. Nothing that names the node, its processes, its network or its hardware.
struct KeptFile {
  const char* name;
  int fd;
};
KeptFile g_kept[] = {{"cpuinfo", -1},
                     {"loadavg", -1},
                     {"meminfo", -1},
                     {"stat", -1},
                     {"uptime", -1},
                     {"vmstat", -1},
                     {"pressure/cpu", -1},
                     {"pressure/io", -1},
                     {"pressure/memory", -1},
                     {"sys/vm/max_map_count", -1},
                     {"sys/vm/overcommit_memory", -1},
                     {"sys/vm/overcommit_ratio", -1}};

int host_proc() {
  std::lock_guard guard(g_lock);
  if (g_folder < 0) g_folder = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  return g_folder;
}

// Where a name is to be looked for. fd -1: nowhere.
struct Place {
  int folder;
  const char* path;
};
Place place_of(const char* path) {
  constexpr std::string_view kNetwork = "sys/net";
  if (g_network >= 0 && std::string_view(path).starts_with(kNetwork)) {
    const char* rest = path + kNetwork.size();
    if (*rest == '\0') return {g_network, "."};
    if (*rest == '/') return {g_network, rest + 1};
  }
  return {host_proc(), path};
}

// A descriptor of its own for each reader: they share no position.
UniqueFd open_for_reading(int folder, const char* path) {
  for (const KeptFile& kept : g_kept) {
    if (kept.fd < 0 || strcmp(kept.name, path) != 0) continue;
    char again[64];
    snprintf(again, sizeof again, "self/fd/%d", kept.fd);
    return UniqueFd(openat(folder, again, O_RDONLY | O_CLOEXEC));
  }
  return UniqueFd(openat(folder, path, O_RDONLY | O_CLOEXEC));
}

}  // namespace

void keep_host_proc_files(int whole) {
  for (KeptFile& kept : g_kept) kept.fd = openat(whole, kept.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

void keep_network_settings(UniqueFd folder) { g_network = folder.release(); }

void set_host_proc(UniqueFd folder) {
  std::lock_guard guard(g_lock);
  if (g_folder >= 0) close(g_folder);
  g_folder = folder.release();
}

Result<std::string> read_host_proc(const char* path, size_t most) {
  const Place place = place_of(path);
  if (place.folder < 0) return Errno(ENOENT);
  UniqueFd fd = open_for_reading(place.folder, place.path);
  if (!fd) return host_errno();
  return read_host_file(std::move(fd), most);
}

Result<std::string> read_host_file(UniqueFd fd, size_t most) {
  std::string text;
  for (size_t room = 4096; text.size() < most;) {
    const size_t before = text.size();
    room = std::min(room, most - before);
    text.resize(before + room);
    const ssize_t got = read(fd.get(), text.data() + before, room);
    text.resize(before + (got > 0 ? static_cast<size_t>(got) : 0));
    if (got < 0 && errno != EINTR) return host_errno();
    if (got == 0) break;
    if (room < (1 << 20)) room *= 2;
  }
  return text;
}

Result<UniqueFd> open_host_proc(const char* path) {
  const int folder = host_proc();
  if (folder < 0) return Errno(ENOENT);
  UniqueFd fd = open_for_reading(folder, path);
  if (!fd) return host_errno();
  return fd;
}

Result<std::vector<HostProcEntry>> list_host_proc(const char* path) {
  const Place place = place_of(path);
  if (place.folder < 0) return Errno(ENOENT);
  UniqueFd fd(openat(place.folder, place.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return host_errno();
  return list_host_folder(std::move(fd));
}

Result<std::vector<HostProcEntry>> list_host_folder(UniqueFd fd) {
  DIR* stream = fdopendir(fd.get());
  if (stream == nullptr) return host_errno();
  (void)fd.release();
  std::vector<HostProcEntry> result;
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || (entry->d_type != DT_REG && entry->d_type != DT_DIR)) continue;
    result.push_back({name, entry->d_type == DT_DIR});
  }
  closedir(stream);
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return result;
}

Result<UniqueFd> open_host_process(pid_t pid) {
  UniqueFd folder(openat(host_proc(), std::to_string(pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return host_errno();
  return folder;
}

Result<UniqueFd> open_network_settings_folder() {
  const Place place = place_of("sys/net");
  UniqueFd folder(openat(place.folder, place.path, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return host_errno();
  return folder;
}

Result<void> stat_host_proc(const char* path, struct stat* stat) {
  const Place place = place_of(path);
  if (place.folder < 0) return Errno(ENOENT);
  if (fstatat(place.folder, place.path, stat, AT_SYMLINK_NOFOLLOW) != 0) return host_errno();
  return {};
}

Result<UniqueFd> reopen_host_fd(int fd, int flags) {
  const int folder = host_proc();
  if (folder < 0) return Errno(ENOENT);
  char path[64];
  snprintf(path, sizeof path, "self/fd/%d", fd);
  UniqueFd again(openat(folder, path, flags | O_CLOEXEC));
  if (!again) return host_errno();
  return again;
}

}  // namespace caisson::kernel
