#include "kernel/platform/address_limit.h"

#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

// What is the kernel's in there; a little for thunks of patched calls.
constexpr rlim_t kOurs = STUB_SLOTS_SIZE + STUB_BLOB_SIZE + (1 << 20);

}  // namespace

void set_address_limit(pid_t host, rlim_t bytes, uint64_t stack) {
  rlimit limit;
  if (prlimit(host, RLIMIT_AS, nullptr, &limit) != 0) return;
  limit.rlim_cur = bytes >= RLIM_INFINITY - kOurs - stack ? limit.rlim_max : bytes + kOurs + stack;
  if (limit.rlim_cur > limit.rlim_max) limit.rlim_cur = limit.rlim_max;
  (void)prlimit(host, RLIMIT_AS, &limit, nullptr);
}

AddressLimitLifted::AddressLimitLifted(pid_t host) : host_(host) {
  if (prlimit(host_, RLIMIT_AS, nullptr, &before_) != 0 || before_.rlim_cur == before_.rlim_max) return;
  const rlimit lifted{before_.rlim_max, before_.rlim_max};
  (void)prlimit(host_, RLIMIT_AS, &lifted, nullptr);
}

AddressLimitLifted::~AddressLimitLifted() { hand_on(host_); }

void AddressLimitLifted::hand_on(pid_t child) const {
  if (before_.rlim_cur != before_.rlim_max) (void)prlimit(child, RLIMIT_AS, &before_, nullptr);
}

}  // namespace caisson::kernel
