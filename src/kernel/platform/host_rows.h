// What the kernel process asks of the host: its system calls and capabilities, one row each with the reason. The filter and the dropping of
// capabilities are made from these rows, and `caisson surface` prints them.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel/errno.h"
#include "kernel/platform/call_rows.h"

namespace caisson::kernel {

// Every call that the kernel process makes once it serves a guest, and those that end it because nobody but an intruder makes them.
const std::vector<CallRow>& host_calls();

// The calls of the process that stands for an exec, once it only waits (control/exec_main.cc).
const std::vector<CallRow>& exec_calls();
std::vector<sock_filter> make_exec_filter();

// The calls of the worker of the sandbox process that reads what a kernel process says of its processes (src/appkernel/answer.cc).
const std::vector<CallRow>& answer_calls();
std::vector<sock_filter> make_answer_filter();

struct CapabilityRow {
  const char* name;
  int number;
  bool if_guest_has;  // only where the guest may have it, too
  const char* reason;
};
const std::vector<CapabilityRow>& host_capabilities();
// Those that stay for a kernel whose guest has `guest` (a bounding set).
uint64_t kept_capabilities(uint64_t guest);

// The calls of the network broker (net/broker.h), any other ends it; and what it keeps.
const std::vector<CallRow>& broker_calls();
const std::vector<CapabilityRow>& broker_capabilities();
// Those of them that a guest with `guest` (a bounding set) may need.
uint64_t brokered_capabilities(uint64_t guest);
std::vector<sock_filter> make_broker_filter(uint64_t capabilities);

// The calls of a room (net/room_maker.h) and of the room maker, any other ends them; and what they keep, in a user namespace that is
// theirs.
const std::vector<CallRow>& room_calls();
const std::vector<CapabilityRow>& room_capabilities();
uint64_t room_capability_bits();
std::vector<sock_filter> make_room_filter();
// Those that a child of the maker's makes to become a room, and the room's own, are among them.
const std::vector<CallRow>& room_maker_calls();
const std::vector<CapabilityRow>& room_maker_capabilities();
std::vector<sock_filter> make_room_maker_filter();
extern const uint32_t kRoomCloneFlags;

std::vector<sock_filter> make_host_filter(uint64_t guest_capabilities);

// Loads the filter into every thread of this process, for ever. Needs no_new_privs. A call that is not in the rows fails with EPERM from
// then on, with one line in the log for each kind.
Result<void> load_host_filter(uint64_t guest_capabilities);

}  // namespace caisson::kernel
