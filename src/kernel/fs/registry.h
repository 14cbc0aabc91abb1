// File systems by the name that mount(2) knows them by, and what a container has mounted from the start.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "kernel/vfs/path.h"

namespace caisson::kernel {

class Container;
class Kernel;
class Task;

// A new file system. `options`: the text after -o, without the flags that every mount has. ENODEV: no such type; EINVAL: no such option.
Result<std::shared_ptr<FileSystem>> make_file_system(Task& task, std::string_view type, std::string_view options);
// The same, mounted at a place. flags: MS_*.
Result<MountRef> mount_file_system(Task& task, const Path& point, std::string_view type, std::string source, unsigned long flags,
                                   std::string options);
// A file system as one hangs it up in a table, with what is true of all mounts of it; point: none for the root of a table.
Result<MountRef> mount_made(Task& task, MountTable& table, const std::shared_ptr<FileSystem>& fs, const Path& point, std::string source,
                            unsigned long flags, std::string options);
// All types, for /proc/filesystems.
std::string file_system_types();

// A task that walks and mounts for a container that has no process yet: root, with every capability, at the container's root. It has no
// memory and never runs.
std::unique_ptr<Task> make_setup_task(Kernel& kernel, Container& container);
// Mounts as `mount -t type -o options source path` does; the folder is made where it is missing. Text that mount(8) would have taken for
// flags ("ro,nosuid") counts as flags.
Result<MountRef> mount_in_container(Task& setup, std::string_view path, std::string_view type, std::string source,
                                    std::string_view options);
// What a container without any wishes gets: proc, a dev with its nodes, devpts, shm, mqueue and sysfs.
Result<void> mount_usual(Task& setup);

// "ro,nosuid,size=1m": the flags of it, and what is left for the file system.
unsigned long split_mount_options(std::string_view text, std::string* rest);
// The other way, as /proc/mounts has it: "rw,nosuid".
std::string mount_flags_text(unsigned long flags);

}  // namespace caisson::kernel
