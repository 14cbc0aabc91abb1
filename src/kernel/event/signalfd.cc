#include "kernel/event/signalfd.h"

#include <signal.h>
#include <sys/signalfd.h>

#include "kernel/task/current.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

signalfd_siginfo encode(const abi::SigInfo& info) {
  signalfd_siginfo out{};
  out.ssi_signo = static_cast<uint32_t>(info.signo);
  out.ssi_errno = info.error;
  out.ssi_code = info.code;
  if (info.code == SI_TIMER) {
    out.ssi_tid = static_cast<uint32_t>(info.timer.timer);
    out.ssi_overrun = static_cast<uint32_t>(info.timer.overrun);
    out.ssi_ptr = info.timer.value;
    out.ssi_int = static_cast<int32_t>(info.timer.value);
  } else if (info.signo == SIGCHLD && info.code > 0) {
    out.ssi_pid = static_cast<uint32_t>(info.child.pid);
    out.ssi_uid = info.child.uid;
    out.ssi_status = info.child.status;
    out.ssi_utime = static_cast<uint64_t>(info.child.utime);
    out.ssi_stime = static_cast<uint64_t>(info.child.stime);
  } else if ((info.signo == SIGPOLL) && info.code > 0) {
    out.ssi_band = static_cast<uint32_t>(info.poll.band);
    out.ssi_fd = info.poll.fd;
  } else if ((abi::sig_bit(info.signo) & kFaultSignals) != 0 && info.code > 0) {
    out.ssi_addr = info.fault.address;
  } else {
    out.ssi_pid = static_cast<uint32_t>(info.rt.pid);
    out.ssi_uid = info.rt.uid;
    out.ssi_ptr = info.rt.value;
    out.ssi_int = static_cast<int32_t>(info.rt.value);
  }
  return out;
}

}  // namespace

SignalFd::SignalFd(Task& maker, abi::SigSet mask, int flags)
    : AnonymousFile("signalfd", 0600, flags), maker_(maker.group), kernel_(maker.kernel), mask_(mask & ~kUnblockable) {}

Result<size_t> SignalFd::read(Task& task, IoBuffer& buffer, off_t) {
  if (buffer.left() < sizeof(signalfd_siginfo)) return Errno(EINVAL);
  size_t done = 0;
  while (buffer.left() >= sizeof(signalfd_siginfo)) {
    abi::SigInfo info;
    {
      std::lock_guard guard(task.kernel.tasks);
      if (!task.pending.take(0, &info, mask_) && !task.group->pending.take(0, &info, mask_)) break;
    }
    const signalfd_siginfo out = encode(info);
    const size_t put = TRY(buffer.put(&out, sizeof out));
    done += put;
    if (put < sizeof out) break;
  }
  if (done == 0) return Errno(EAGAIN);
  return done;
}

Events SignalFd::poll() {
  std::lock_guard guard(kernel_.tasks);
  abi::SigSet pending = 0;
  if (const Task* task = current_task(); task != nullptr) {
    pending = task->pending.set() | task->group->pending.set();
  } else if (const auto group = maker_.lock()) {
    pending = group->pending.set();
  }
  return (pending & mask_) != 0 ? POLLIN | POLLRDNORM : 0;
}

WaitQueue* SignalFd::wait_queue() {
  if (Task* task = current_task(); task != nullptr) return &task->group->signal_events;
  return &nobody_;
}

void SignalFd::set_mask(abi::SigSet mask) {
  mask_ = mask & ~kUnblockable;
  if (const auto group = maker_.lock()) group->signal_events.wake(POLLIN);
}

}  // namespace caisson::kernel
