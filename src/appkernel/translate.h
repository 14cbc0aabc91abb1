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

// Takes out of the specification what the kernel does itself, into `start`; what is left is for the host, once live_with() has said which
// kernel process that is.
Result<void> divide(oci::Spec& spec, kernel::v1::Start& start, const Sharing& sharing = {});

// The kernel process of such a container as the host is to make it: it has the container's network and user namespaces, of its own making
// where the container is to have fresh ones, a PID namespace whose first process it is, and none of the container's mounts.
oci::Spec kernel_spec(const oci::Spec& spec, const std::string& id);
// A network broker beside that process.
oci::Spec broker_spec(const std::string& id, pid_t kernel, bool user_namespace);
// Puts what divide() has left into the PID namespace of that process of the node, and into those that it has made.
void live_with(oci::Spec& spec, pid_t kernel);

}  // namespace caisson::appkernel
