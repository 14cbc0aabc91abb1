// kernel_join_main: what the host knows as the first process of a further container of a pod. All that needs the container's own
// namespaces, cgroup and privileges is done here, before a guest runs in it; what the kernel process gets are descriptors.
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>

#include "kernel.pb.h"
#include "kernel/control/confine.h"
#include "kernel/control/container_setup.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/handover.h"
#include "kernel/control/host_mounts.h"
#include "kernel/control/kernel_main.h"
#include "kernel/control/messages.h"
#include "kernel/control/relay.h"
#include "kernel/klog.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/host_rows.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/task/namespace_numbers.h"

namespace caisson::kernel {
namespace {

Result<void> send_mounts(const std::vector<OpenMount>& mounts) {
  for (size_t at = 0; at < mounts.size(); at += kMostDescriptors) {
    std::vector<int> fds;
    for (size_t i = at; i < std::min(mounts.size(), at + kMostDescriptors); ++i) fds.push_back(mounts[i].fd.get());
    TRY(send_message(kChannelFd, MessageKind::Mounts, 0, fds));
  }
  return {};
}

Result<void> hand_over(v1::Start& start, const std::vector<OpenMount>& mounts, const Zygote& zygote, const std::vector<uint64_t>& numbers,
                       bool held) {
  for (const OpenMount& open : mounts) {
    auto* mount = start.add_host_mounts();
    mount->set_point(open.mount.point);
    mount->set_type(open.mount.type);
    mount->set_source(open.mount.source);
    mount->set_options(open.mount.options);
    mount->set_tags(open.mount.tags);
    mount->set_super_options(open.mount.super_options);
  }
  start.set_vdso(zygote.vdso);
  start.mutable_namespace_numbers()->Assign(numbers.begin(), numbers.end());
  TRY(send_mounts(mounts));
  const UniqueFd description = TRY(make_description("kernel-container", start.SerializeAsString()));
  std::vector<int> fds = {description.get(), zygote.socket.get(), zygote.process.get(), 0, 1, 2};
  for (unsigned i = 0; i < start.process().preserved(); ++i) fds.push_back(kFirstPreservedFd + static_cast<int>(i));
  return send_message(kChannelFd, MessageKind::Container, held ? 1 : 0, fds);
}

// Whether it has been handed over before.
Result<bool> join(v1::Start& start, bool held) {
  const std::vector<OpenMount> mounts = TRY(open_mounts(start));
  if (mounts.size() > kMostMounts) return Errno(E2BIG);
  std::vector<uint64_t> numbers;
  for (const std::string& name : start.own_namespaces()) numbers.push_back(host_namespace_number(name.c_str()));
  if (start.process().terminal()) leave_terminal(0);
  Message message = TRY(receive_message(kChannelFd));
  if (message.kind == MessageKind::Failed) return Errno(message.number);
  const bool before = message.kind == MessageKind::Welcome && message.number == 1;
  const UniqueFd user_namespace = TRY(read_welcome(std::move(message)));
  TRY(join_empty_root(user_namespace ? user_namespace.get() : -1));
  if (before) return true;
  const Zygote zygote = TRY(make_zygote(true));
  TRY(hand_over(start, mounts, zygote, numbers, held));
  return false;
}

// Their ends are the kernel's, or the guest's, alone from now on; but standard error, for what there is to say of the start.
void give_streams_away(unsigned preserved) {
  for (const int fd : {0, 1}) close(fd);
  for (unsigned i = 0; i < preserved; ++i) close(kFirstPreservedFd + static_cast<int>(i));
}

Result<int> stand_in() {
  v1::Start start = TRY(take_start());
  TRY(open_own_proc());
  const UniqueFd signals = take_signals();
  if (TRY(join(start, false))) TRY(send_message(kChannelFd, MessageKind::Begin, 0));
  give_streams_away(start.process().preserved());
  TRY(drop_everything(make_exec_filter()));
  return relay(kChannelFd, signals.get());
}

// Its signals are nobody's: SIGKILL ends it.
Result<void> early() {
  v1::Start start = TRY(take_start());
  TRY(open_own_proc());
  (void)TRY(join(start, true));
  return {};
}

}  // namespace

int kernel_early_main() {
  prctl(PR_SET_NAME, "caisson-init");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  umask(0);
  const Result<void> done = early();
  if (!done) klog(LogLevel::Error, "the container cannot be handed over: %s", strerrordesc_np(done.error().value));
  _exit(done ? 0 : 1);
}

int kernel_join_main() {
  prctl(PR_SET_NAME, "caisson-init");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  umask(0);
  end_as(stand_in(), "the container cannot start");
}

}  // namespace caisson::kernel
