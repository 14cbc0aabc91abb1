// The host's file systems check permissions themselves: for them the host thread takes on the task's file-system identity.
#pragma once

#include "kernel/task/credentials.h"

namespace caisson::kernel {

// While it lives, this host thread's fsuid, fsgid, groups and file capabilities are those of `creds`. Costs nothing while they do not
// change from call to call.
void act_as(const Credentials& creds);
// The kernel process's own again: all rights on the container's files.
void act_as_kernel();

// A descriptor of /proc for the kernel process itself: how O_PATH descriptors are opened in full. Set once, before the first thread.
void set_proc_folder(int fd);
int proc_folder();
// Makes it the working folder of the kernel process, for those host calls that take names only: "self/fd/N" is what descriptor N stands
// for. Before the host filter, after the zygote: stubs do not have it.
bool enter_proc_folder();

// The name of what a descriptor stands for, for calls that know names only; from the working folder (enter_proc_folder).
struct FdName {
  explicit FdName(int fd);
  char text[32];
};

}  // namespace caisson::kernel
