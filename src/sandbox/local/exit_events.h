// How a process that is not our child has ended, on kernels before 6.15, whose process descriptors do not tell: the process connector
// (linux/cn_proc.h, CONFIG_PROC_EVENTS, which Debian has) reports every end to root of the node.
#pragma once

#include <sys/types.h>

#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::sandbox::local {

class ExitEvents {
 public:
  // Whether this kernel has them and we may listen: asked once.
  static bool supported();
  // Listens from now on to what becomes of process pid (in the node's PID namespace), which lives and makes no thread at this moment.
  static Result<ExitEvents> listen(pid_t pid);

  // Readable when there is something for read().
  int descriptor() const { return socket_.get(); }
  // Takes what has come, without waiting.
  void read();
  // The process's wait status, once its last thread has ended.
  std::optional<int> status() const { return threads_ > 0 ? std::nullopt : last_; }
  // What is known where events were lost: how the thread that ended last did.
  std::optional<int> best_guess() const { return last_; }

 private:
  ExitEvents(pid_t pid, UniqueFd socket, long threads) : pid_(pid), socket_(std::move(socket)), threads_(threads) {}
  static Result<UniqueFd> open(pid_t pid);
  void take(const char* bytes, size_t size);

  pid_t pid_;
  UniqueFd socket_;
  long threads_;
  std::optional<int> last_;
};

}  // namespace caisson::sandbox::local
