#include "kernel/net/ethtool.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "kernel/net/host_options.h"

namespace caisson::kernel {
namespace {

struct Question {
  uint32_t command;
  size_t size;
};

// The structures begin with the command; none has a length of its own that the guest could choose.
constexpr Question kQuestions[] = {
    {ETHTOOL_GSET, sizeof(ethtool_cmd)},
    {ETHTOOL_GDRVINFO, sizeof(ethtool_drvinfo)},
    {ETHTOOL_GMSGLVL, sizeof(ethtool_value)},
    {ETHTOOL_GLINK, sizeof(ethtool_value)},
    {ETHTOOL_GCOALESCE, sizeof(ethtool_coalesce)},
    {ETHTOOL_GRINGPARAM, sizeof(ethtool_ringparam)},
    {ETHTOOL_GPAUSEPARAM, sizeof(ethtool_pauseparam)},
    {ETHTOOL_GRXCSUM, sizeof(ethtool_value)},
    {ETHTOOL_GTXCSUM, sizeof(ethtool_value)},
    {ETHTOOL_GSG, sizeof(ethtool_value)},
    {ETHTOOL_GTSO, sizeof(ethtool_value)},
    {ETHTOOL_GUFO, sizeof(ethtool_value)},
    {ETHTOOL_GGSO, sizeof(ethtool_value)},
    {ETHTOOL_GFLAGS, sizeof(ethtool_value)},
    {ETHTOOL_GGRO, sizeof(ethtool_value)},
    {ETHTOOL_GCHANNELS, sizeof(ethtool_channels)},
    {ETHTOOL_GET_TS_INFO, sizeof(ethtool_ts_info)},
};

}  // namespace

Result<long> ethtool_ioctl(Task& task, int fd, uint64_t argument, bool administrator) {
  ifreq request = TRY(task.read(UserPtr<ifreq>(argument)));
  const uint64_t data = reinterpret_cast<uint64_t>(request.ifr_data);
  const uint32_t command = TRY(task.read(UserPtr<uint32_t>(data)));
  const auto* question =
      std::find_if(std::begin(kQuestions), std::end(kQuestions), [&](const Question& q) { return q.command == command; });
  if (question == std::end(kQuestions)) return Errno(administrator ? EOPNOTSUPP : EPERM);
  alignas(8) char bytes[256] = {};
  static_assert(sizeof(ethtool_drvinfo) <= sizeof bytes && sizeof(ethtool_coalesce) <= sizeof bytes);
  TRY(task.read_bytes(data, bytes, question->size));
  // It may have changed since.
  memcpy(bytes, &command, sizeof command);
  request.ifr_data = bytes;
  const long result = TRY(host_result(::ioctl(fd, SIOCETHTOOL, &request)));
  TRY(task.write_bytes(data, bytes, question->size));
  return result;
}

}  // namespace caisson::kernel
