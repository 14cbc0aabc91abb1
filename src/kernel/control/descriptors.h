// The descriptors that the kernel process and the processes that stand for execs and further containers begin with; agreed with
// src/appkernel.
#pragma once

namespace caisson::kernel {

inline constexpr const char* kKernelCommand = "kernel-process";  // hidden subcommands
inline constexpr const char* kExecCommand = "kernel-exec";
inline constexpr const char* kJoinCommand = "kernel-container";
inline constexpr const char* kEarlyCommand = "kernel-container-early";
inline constexpr const char* kBrokerCommand = "kernel-broker";

inline constexpr int kChannelFd = 3;      // kernel: to the sandbox process; exec, container: to the kernel
inline constexpr int kDescriptionFd = 4;  // v1::House, v1::Start or v1::Process
inline constexpr int kProgramFd = 5;      // the program itself
inline constexpr int kLogFd = 6;          // /dev/null where there is none
inline constexpr int kPlaceFd = 7;        // of the kernel process: where it is told its cgroup
inline constexpr int kFirstPreservedFd = 7;
inline constexpr int kOwnDescriptors = 4;  // of Stdio::preserved, before the user's

}  // namespace caisson::kernel
