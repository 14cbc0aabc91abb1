// A user's specification divided in two: what the host is to make, and what the application kernel is told. Pure.
#pragma once

#include <string>

#include "appkernel/pod.h"
#include "base/result.h"
#include "kernel.pb.h"
#include "oci/spec.h"

namespace caisson::appkernel {

// What the kernel is told of a process. EINVAL naming the field.
Result<kernel::v1::Process> describe_process(const oci::Process& process);

// Changes the process into that of the kernel (or of what stands for an exec): its name and command, and what it needs to be.
void become_stand_in(oci::Process& process, const std::string& name, const char* command);

// Takes out of the specification what the kernel does itself, into `start`; what is left is for the host. sharing: of a container that will
// live in a kernel process that is there, whose process on the node is `kernel`.
Result<void> divide(oci::Spec& spec, kernel::v1::Start& start, const Sharing& sharing = {}, pid_t kernel = 0);

}  // namespace caisson::appkernel
