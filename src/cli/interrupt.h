// InterruptGuard: lets Ctrl-C end a blocking call into a sandbox, so that what is half made can be freed.
#pragma once

#include <signal.h>

#include "base/result.h"

namespace caisson::cli {

// While it lives, SIGINT, SIGTERM, SIGHUP and SIGQUIT shut the given socket down: the call that waits on it fails, and signal() says why.
// One at a time.
class InterruptGuard {
 public:
  explicit InterruptGuard(int socket);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  // The signal that came, 0 if none did.
  static int signal();

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  struct sigaction saved_[4];
};

}  // namespace caisson::cli
