// What an IPC namespace allows: the files of /proc/sys/kernel that sysvipc(7) names (shmget(2), msgget(2), semget(2)) and those of
// /proc/sys/fs/mqueue (mq_overview(7)). Each namespace begins with Linux's defaults.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernel/errno.h"

namespace caisson::kernel {

class IpcNamespace;

enum class IpcLimit {
  SegmentBytes,   // of one shared memory segment
  SegmentPages,   // of all segments together
  Segments,       // how many
  RemoveForced,   // 1: a segment goes when nobody has it attached any more and its maker has ended (shm_rmid_forced)
  MessageBytes,   // of one System V message
  QueueBytes,     // of the messages of a new queue
  Queues,         // how many
  SetSemaphores,  // of one set
  Semaphores,     // of all sets together
  Operations,     // of one semop(2)
  Sets,           // how many
  PosixQueues,
  PosixMessages,             // that a queue may be made for
  PosixMessageBytes,         // the same
  PosixMessagesDefault,      // of a queue that is made without attributes
  PosixMessageBytesDefault,  // the same
  kCount,
};

// Any thread; each number by itself is right at any time, as under Linux.
class IpcLimits {
 public:
  IpcLimits();
  static IpcLimits& of(IpcNamespace& space);
  uint64_t operator[](IpcLimit limit) const { return values_[static_cast<size_t>(limit)].load(std::memory_order_relaxed); }
  void set(IpcLimit limit, uint64_t value) { values_[static_cast<size_t>(limit)].store(value, std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, static_cast<size_t>(IpcLimit::kCount)> values_;
};

// A file below /proc/sys.
struct IpcSetting {
  const char* path;  // "kernel/shmmax"
  IpcLimit first;    // of `count` numbers, one after the other in IpcLimit
  size_t count = 1;
  uint64_t least = 0, most = INT32_MAX;
  uint64_t most_of_last = INT32_MAX;  // of the last number, where there are several
};
std::span<const IpcSetting> ipc_settings();
// Null: it is not one of an IPC namespace. path: "kernel/shmmax".
const IpcSetting* find_ipc_setting(std::string_view path);

// Its numbers with tabs between them and a newline.
std::string ipc_setting_text(IpcNamespace& space, const IpcSetting& setting);
// Sets as many of its numbers as the text has, or none. EINVAL: not numbers, or out of range; ERANGE: too many sets. Who may is the
// caller's business.
Result<void> set_ipc_setting(IpcNamespace& space, const IpcSetting& setting, std::string_view text);

}  // namespace caisson::kernel
