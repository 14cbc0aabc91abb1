#include "cli/interrupt.h"

#include <sys/socket.h>

#include <cerrno>

namespace caisson::cli {
namespace {

volatile sig_atomic_t guarded_socket = -1;
volatile sig_atomic_t caught = 0;

void on_signal(int number) {
  int saved_errno = errno;
  caught = number;
  if (guarded_socket >= 0) shutdown(guarded_socket, SHUT_RDWR);  // async-signal-safe, as signal-safety(7) has it
  errno = saved_errno;
}

}  // namespace

InterruptGuard::InterruptGuard(int socket) {
  caught = 0;
  guarded_socket = socket;
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    sigaction(kSignals[i], nullptr, &saved_[i]);
    // nohup and shells' background jobs ignore some: so do we.
    if (saved_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptGuard::~InterruptGuard() {
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &saved_[i], nullptr);
  guarded_socket = -1;
}

int InterruptGuard::signal() { return caught; }

}  // namespace caisson::cli
