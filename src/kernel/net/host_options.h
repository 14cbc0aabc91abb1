// What guests may ask of sockets that the kernel process owns: options, control messages, netlink messages, interface ioctls. Everything
// that is not listed is refused: some options take pointers, programs or descriptors, which would be the kernel process's.
#pragma once

#include <span>
#include <string_view>

#include "kernel/errno.h"

namespace caisson::kernel {

// capabilities(7), of a guest: what the network asks for.
inline constexpr int kCapNetAdmin = 12, kCapNetRaw = 13;

struct HostOption {
  int level, name;
  bool get, set;
  size_t most;          // bytes of the value
  int capability = -1;  // of the guest, to set it; -1: none
};
std::span<const HostOption> host_options();
// Null: not allowed.
const HostOption* find_host_option(int level, int name);

// May these control messages be sent? EINVAL.
Result<void> check_host_control(std::string_view control);
// Is this kind of received control message passed on?
bool passes_host_control(int level, int type);

// ioctls on struct ifreq (and a few that take an int).
struct HostIoctl {
  unsigned command;
  size_t size;         // of the argument that is copied in and out
  bool administrator;  // needs CAP_NET_ADMIN of the guest
};
std::span<const HostIoctl> host_ioctls();
// Null: not allowed.
const HostIoctl* find_host_ioctl(unsigned command);

}  // namespace caisson::kernel
