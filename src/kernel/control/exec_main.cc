// kernel_exec_main: a host process that stands for a process of the guest, so that whoever waits for it, signals it or kills it needs to
// know nothing of kernels.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "kernel.pb.h"
#include "kernel/control/confine.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/kernel_main.h"
#include "kernel/control/messages.h"
#include "kernel/klog.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

UniqueFd take_signals() {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  return UniqueFd(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
}

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
  for (;;) {
    pollfd entries[] = {{kChannelFd, POLLIN, 0}, {signals.get(), POLLIN, 0}};
    if (poll(entries, 2, -1) < 0 && errno != EINTR) return host_errno();
    if (entries[1].revents != 0) {
      signalfd_siginfo info;
      if (read(signals.get(), &info, sizeof info) == sizeof info)
        TRY(send_message(kChannelFd, MessageKind::Signal, static_cast<int32_t>(info.ssi_signo)));
    }
    if (entries[0].revents == 0) continue;
    const Message message = TRY(receive_message(kChannelFd));
    if (message.kind == MessageKind::Started) close(2);  // the stream's end is the guest's alone from now on
    if (message.kind == MessageKind::Failed) return Errno(message.number);
    if (message.kind == MessageKind::Ended) return message.number;
  }
}

}  // namespace

int kernel_exec_main() {
  prctl(PR_SET_NAME, "caisson-exec");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  klog_configure(kLogFd, LogLevel::Info);
  const Result<int> status = stand_in();
  if (status) _exit(*status);
  // The kernel has gone, as it does when the container's first process has ended.
  if (status.error() == Errno(ECONNRESET) || status.error() == Errno(EPIPE)) _exit(137);
  dprintf(2, "caisson: exec failed: %s\n", strerrordesc_np(status.error().value));
  _exit(status.error() == Errno(ENOENT) ? 127 : 126);
}

}  // namespace caisson::kernel
