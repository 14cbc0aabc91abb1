#include "kernel/control/handover.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kPage = 4096, kHighest = 1ULL << 47;
constexpr size_t kStandardStreams = 3;

OpenMount described_mount(const v1::Start::HostMount& from, UniqueFd fd) {
  MountInfo info;
  info.point = from.point();
  info.type = from.type();
  info.source = from.source();
  info.options = from.options();
  info.tags = from.tags();
  info.super_options = from.super_options();
  return {std::move(info), std::move(fd)};
}

}  // namespace

Result<Handover> read_handover(Message message, std::vector<UniqueFd> mounts) {
  std::vector<UniqueFd>& fds = message.fds;
  if (fds.size() < kContainerDescriptors + kStandardStreams) return Errno(EPROTO);
  Handover handover;
  v1::Start& start = handover.start;
  if (!start.ParseFromString(TRY(read_description(fds[0].get())))) return Errno(EPROTO);
  if (static_cast<size_t>(start.host_mounts_size()) != mounts.size() || start.vdso() % kPage != 0 || start.vdso() >= kHighest)
    return Errno(EPROTO);
  if (fds.size() != kContainerDescriptors + kStandardStreams + start.process().preserved()) return Errno(EPROTO);
  for (size_t i = 0; i < mounts.size(); ++i)
    handover.mounts.push_back(described_mount(start.host_mounts(static_cast<int>(i)), std::move(mounts[i])));
  handover.zygote = {std::move(fds[1]), std::move(fds[2]), start.vdso()};
  for (size_t i = kContainerDescriptors; i < fds.size(); ++i) handover.streams.push_back(std::move(fds[i]));
  return handover;
}

Result<UniqueFd> read_welcome(Message message) {
  if (message.kind != MessageKind::Welcome || message.fds.size() > 1) return Errno(EPROTO);
  return message.fds.empty() ? UniqueFd() : std::move(message.fds[0]);
}

}  // namespace caisson::kernel
