// kernel_exec_main: a host process that stands for a process of the guest, so that whoever waits for it, signals it or kills it needs to
// know nothing of kernels.
#include <sys/prctl.h>
#include <unistd.h>

#include "kernel.pb.h"
#include "kernel/control/confine.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/kernel_main.h"
#include "kernel/control/messages.h"
#include "kernel/control/relay.h"
#include "kernel/klog.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

Result<int> stand_in() {
  v1::Process description;
  if (!description.ParseFromString(TRY(read_description(kDescriptionFd)))) return Errno(EPROTO);
  close(kProgramFd);
  const UniqueFd signals = take_signals();
  if (description.terminal()) leave_terminal(0);
  std::vector<int> fds = {kDescriptionFd, 0, 1, 2};
  for (unsigned i = 0; i < description.preserved(); ++i) fds.push_back(kFirstPreservedFd + static_cast<int>(i));
  TRY(send_message(kChannelFd, MessageKind::Process, 0, fds));
  for (int fd : fds)
    if (fd != 2) close(fd);
  TRY(drop_everything(make_exec_filter()));
  return relay(kChannelFd, signals.get());
}

}  // namespace

int kernel_exec_main() {
  prctl(PR_SET_NAME, "caisson-exec");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  klog_configure(kLogFd, LogLevel::Info);
  end_as(stand_in(), "exec failed");
}

}  // namespace caisson::kernel
