// The files that namespaces are to who opens or binds a link of /proc/PID/ns: setns(2) and ioctl_ns(2) take them.
#pragma once

#include "kernel/task/namespaces.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

// The place that stands for a namespace; keeps it alive.
Path namespace_place(const NamespaceRef& space);
// "uts:[4026531838]".
std::string namespace_text(const Namespace& space);
// What the file is a descriptor of; null: of no namespace.
NamespaceRef namespace_of_file(const File& file);

}  // namespace caisson::kernel
