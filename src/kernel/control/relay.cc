#include "kernel/control/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "kernel/control/messages.h"

namespace caisson::kernel {

UniqueFd take_signals() {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  return UniqueFd(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
}

Result<int> relay(int channel, int signals) {
  for (;;) {
    pollfd entries[] = {{channel, POLLIN, 0}, {signals, POLLIN, 0}};
    if (poll(entries, 2, -1) < 0 && errno != EINTR) return host_errno();
    if (entries[1].revents != 0) {
      signalfd_siginfo info;
      if (read(signals, &info, sizeof info) == sizeof info && info.ssi_signo != SIGCHLD)
        TRY(send_message(channel, MessageKind::Signal, static_cast<int32_t>(info.ssi_signo)));
    }
    if (entries[0].revents == 0) continue;
    const Message message = TRY(receive_message(channel));
    if (message.kind == MessageKind::Started) close(2);  // the stream's end is the guest's alone from now on
    if (message.kind == MessageKind::Failed) return Errno(message.number);
    if (message.kind == MessageKind::Ended) return message.number;
  }
}

void end_as(const Result<int>& status, const char* what) {
  if (status) _exit(*status);
  // The kernel has gone, as it does when the first process of its own container has ended.
  if (status.error() == Errno(ECONNRESET) || status.error() == Errno(EPIPE)) _exit(137);
  dprintf(2, "caisson: %s: %s\n", what, strerrordesc_np(status.error().value));
  _exit(status.error() == Errno(ENOENT) ? 127 : 126);
}

}  // namespace caisson::kernel
