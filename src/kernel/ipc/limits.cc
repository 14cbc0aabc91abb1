#include "kernel/ipc/limits.h"

#include <ctype.h>
#include <stdlib.h>

#include <algorithm>
#include <vector>

#include "kernel/ipc/message_queue.h"
#include "kernel/ipc/shared_memory.h"

namespace caisson::kernel {
namespace {

// Numbers of objects are indices of Linux's tables (IPCMNI).
constexpr uint64_t kMostObjects = 32768;
constexpr uint64_t kNoLimit = UINT64_MAX - (1ULL << 24);  // SHMMAX and SHMALL

// By IpcLimit.
constexpr uint64_t kDefaults[] = {kNoLimit,      kNoLimit, 4096,  0,   8192, 16384, 32000, 32000,
                                  1'024'000'000, 500,      32000, 256, 10,   8192,  10,    8192};
static_assert(std::size(kDefaults) == static_cast<size_t>(IpcLimit::kCount));

constexpr IpcSetting kSettings[] = {
    {.path = "fs/mqueue/msg_default", .first = IpcLimit::PosixMessagesDefault, .least = 1, .most = 65536},
    {.path = "fs/mqueue/msg_max", .first = IpcLimit::PosixMessages, .least = 1, .most = 65536},
    {.path = "fs/mqueue/msgsize_default", .first = IpcLimit::PosixMessageBytesDefault, .least = 128, .most = 1 << 24},
    {.path = "fs/mqueue/msgsize_max", .first = IpcLimit::PosixMessageBytes, .least = 128, .most = 1 << 24},
    {.path = "fs/mqueue/queues_max", .first = IpcLimit::PosixQueues},
    {.path = "kernel/msgmax", .first = IpcLimit::MessageBytes},
    {.path = "kernel/msgmnb", .first = IpcLimit::QueueBytes},
    {.path = "kernel/msgmni", .first = IpcLimit::Queues, .most = kMostObjects},
    {.path = "kernel/sem", .first = IpcLimit::SetSemaphores, .count = 4, .most_of_last = kMostObjects},
    {.path = "kernel/shm_rmid_forced", .first = IpcLimit::RemoveForced, .most = 1},
    {.path = "kernel/shmall", .first = IpcLimit::SegmentPages, .most = UINT64_MAX},
    {.path = "kernel/shmmax", .first = IpcLimit::SegmentBytes, .most = UINT64_MAX},
    {.path = "kernel/shmmni", .first = IpcLimit::Segments, .most = kMostObjects},
};

IpcLimit number(const IpcSetting& setting, size_t index) { return static_cast<IpcLimit>(static_cast<size_t>(setting.first) + index); }

// As strtoul(3) reads them with base 0, with white space between them. EINVAL.
Result<std::vector<uint64_t>> read_numbers(std::string_view text, size_t most) {
  // The end of the text is the end of a C string.
  const std::string copy(text.substr(0, text.find('\0')));
  std::vector<uint64_t> numbers;
  const char* at = copy.c_str();
  for (;;) {
    while (isspace(static_cast<unsigned char>(*at)) != 0) ++at;
    if (*at == '\0' || numbers.size() == most) return numbers;
    if (isdigit(static_cast<unsigned char>(*at)) == 0) return Errno(EINVAL);  // also what is below 0
    char* end = nullptr;
    errno = 0;
    const unsigned long long value = strtoull(at, &end, 0);
    if (errno != 0 || (*end != '\0' && isspace(static_cast<unsigned char>(*end)) == 0)) return Errno(EINVAL);
    numbers.push_back(value);
    at = end;
  }
}

}  // namespace

IpcLimits::IpcLimits() {
  for (size_t i = 0; i < values_.size(); ++i) values_[i] = kDefaults[i];
}

// They lie with the POSIX queues, as a part that every namespace has.
IpcLimits& IpcLimits::of(IpcNamespace& space) { return MessageQueues::of(space).limits; }

std::span<const IpcSetting> ipc_settings() { return kSettings; }

const IpcSetting* find_ipc_setting(std::string_view path) {
  const auto* const found =
      std::find_if(std::begin(kSettings), std::end(kSettings), [&](const IpcSetting& row) { return row.path == path; });
  return found == std::end(kSettings) ? nullptr : found;
}

std::string ipc_setting_text(IpcNamespace& space, const IpcSetting& setting) {
  const IpcLimits& limits = IpcLimits::of(space);
  std::string text;
  for (size_t i = 0; i < setting.count; ++i) text += (i > 0 ? "\t" : "") + std::to_string(limits[number(setting, i)]);
  return text + "\n";
}

Result<void> set_ipc_setting(IpcNamespace& space, const IpcSetting& setting, std::string_view text) {
  const std::vector<uint64_t> numbers = TRY(read_numbers(text, setting.count));
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] < setting.least || numbers[i] > setting.most) return Errno(EINVAL);
    if (setting.count > 1 && i + 1 == setting.count && numbers[i] > setting.most_of_last) return Errno(ERANGE);
  }
  IpcLimits& limits = IpcLimits::of(space);
  for (size_t i = 0; i < numbers.size(); ++i) limits.set(number(setting, i), numbers[i]);
  if (setting.first == IpcLimit::RemoveForced && !numbers.empty()) settle_shared_memory(space);
  return {};
}

}  // namespace caisson::kernel
