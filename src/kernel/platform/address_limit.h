// RLIMIT_AS of a stub: the host counts what the kernel has mapped there, too, which guests know nothing of.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>

namespace caisson::kernel {

// Gives the stub process this limit of the guest's, in bytes (RLIM_INFINITY: none). stack: how much is mapped for its stack, which on Linux
// grows by and by. Only the host's soft limit changes: the stub cannot ask for another, and the kernel can take it back.
void set_address_limit(pid_t host, rlim_t bytes, uint64_t stack);

// While this lives the stub may map what the kernel needs, however low the guest's limit (a fork maps the child's slots anew).
class AddressLimitLifted {
 public:
  explicit AddressLimitLifted(pid_t host);
  ~AddressLimitLifted();
  AddressLimitLifted(const AddressLimitLifted&) = delete;
  AddressLimitLifted& operator=(const AddressLimitLifted&) = delete;
  // Gives another process, which was made meanwhile, the limit that this one had.
  void hand_on(pid_t child) const;

 private:
  const pid_t host_;
  rlimit before_{RLIM_INFINITY, RLIM_INFINITY};
};

}  // namespace caisson::kernel
