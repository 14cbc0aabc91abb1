// The host's /proc, of the kernel's own PID namespace: the only way to see what a stub has mapped, and to open a descriptor again with
// other rights. The kernel process has no other files of the host, and of /proc only what is about processes and the few named files.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/errno.h"

namespace caisson::kernel {

// The folder to be used from now on, before the first thread; until then /proc is opened by its name.
void set_host_proc(UniqueFd folder);

// Takes descriptors of the files about the whole machine that guests may read ("meminfo"...) from a whole /proc, so that it need not stay
// reachable. Once, before the first thread.
void keep_host_proc_files(int whole);
// The settings of the network namespace, "sys/net": a read-only mount of that folder alone, with no way up. Where there is none, nothing of
// it is found. Once, before the first thread.
void keep_network_settings(UniqueFd folder);

// That folder, to be opened from: what is found there is the network's of who looks.
Result<UniqueFd> open_network_settings_folder();

// The content of a file below it, such as "12/maps", no more than `most` bytes.
Result<std::string> read_host_proc(const char* path, size_t most = 16 << 20);
// A file below it, for reading or to be handed on.
Result<UniqueFd> open_host_proc(const char* path);
// What lies in a folder below it: files and folders only, sorted.
struct HostProcEntry {
  std::string name;
  bool folder = false;
};
Result<std::vector<HostProcEntry>> list_host_proc(const char* path);
// The same of files that are open.
Result<std::string> read_host_file(UniqueFd fd, size_t most = 16 << 20);
Result<std::vector<HostProcEntry>> list_host_folder(UniqueFd fd);
// The folder of a process, to be opened from: once that has ended nothing is found there.
Result<UniqueFd> open_host_process(pid_t pid);
Result<void> stat_host_proc(const char* path, struct stat* stat);
// The same file, opened again: O_RDONLY, O_PATH... with O_CLOEXEC.
Result<UniqueFd> reopen_host_fd(int fd, int flags);

}  // namespace caisson::kernel
