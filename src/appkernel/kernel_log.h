// KernelLog: what a kernel process has to say, for the sandbox's log. The kernel process may have been taken, so it writes to a pipe and
// not to the file: only so much comes through as a kernel process says that keeps to its own limits (kernel/klog.h), line by line, each of
// which says that it is the kernel's and can drive no terminal. More ends it: the pipe is closed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::appkernel {

class KernelLog {
 public:
  static constexpr int64_t kMost = 12 << 20;        // bytes, in a kernel process's life
  static constexpr int64_t kMostTraced = 72 << 20;  // more for each time that somebody wants to see system calls

  explicit KernelLog(host::EventLoop& loop) : loop_(loop) {}
  ~KernelLog();
  KernelLog(const KernelLog&) = delete;
  KernelLog& operator=(const KernelLog&) = delete;

  // The end for the kernel process: writing never waits (EAGAIN: nobody reads). Once. EMFILE.
  Result<UniqueFd> open(std::string id);
  void allow_trace() { left_ += kMostTraced; }
  // Takes what is there by now: before somebody is told of an end that the log explains.
  void drain();

 private:
  bool take();  // false: nothing more, for now or for good
  void add(std::string_view text);
  void close();

  host::EventLoop& loop_;
  std::string id_;
  UniqueFd pipe_;
  int64_t left_ = kMost;
  std::string line_;  // that has not ended yet
};

}  // namespace caisson::appkernel
