#include "kernel/net/packet_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>

namespace caisson::kernel {
namespace {

constexpr size_t kPage = 4096, kMostPacket = 65536 + 64;
constexpr size_t kAddressAt = TPACKET_ALIGN(sizeof(tpacket2_hdr));

// What the host says of a packet beside its bytes.
struct Told {
  timespec at{};
  tpacket_auxdata more{};
};
Told told_by(msghdr& message) {
  Told told;
  for (const cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, const_cast<cmsghdr*>(each))) {
    if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_TIMESTAMPNS && each->cmsg_len >= CMSG_LEN(sizeof told.at))
      memcpy(&told.at, CMSG_DATA(each), sizeof told.at);
    if (each->cmsg_level == SOL_PACKET && each->cmsg_type == PACKET_AUXDATA && each->cmsg_len >= CMSG_LEN(sizeof told.more))
      memcpy(&told.more, CMSG_DATA(each), sizeof told.more);
  }
  return told;
}

}  // namespace

Result<int> packet_header_length(int version) {
  if (version == static_cast<int>(PacketRing::kVersion)) return static_cast<int>(sizeof(tpacket2_hdr));
  return Errno(EINVAL);
}

Result<std::shared_ptr<PacketRing>> PacketRing::make(int fd, const tpacket_req& request, bool raw, unsigned reserve) {
  const uint64_t size = uint64_t{request.tp_block_size} * request.tp_block_nr;
  if (request.tp_block_size == 0 || request.tp_block_size % kPage != 0 || request.tp_frame_size % TPACKET_ALIGNMENT != 0)
    return Errno(EINVAL);
  if (reserve > kPage || request.tp_frame_size < TPACKET2_HDRLEN + reserve || request.tp_frame_size > request.tp_block_size)
    return Errno(EINVAL);
  const unsigned per_block = request.tp_block_size / request.tp_frame_size;
  if (uint64_t{per_block} * request.tp_block_nr != request.tp_frame_nr) return Errno(EINVAL);
  if (size > kMost) return Errno(ENOMEM);
  HeldBytes held = TRY(HeldBytes::take(size));
  UniqueFd memory(memfd_create("packet-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return host_errno();
  TRY(host_result(ftruncate(memory.get(), static_cast<off_t>(size))));
  TRY(host_result(fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)));
  const int on = 1;
  TRY(host_result(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on)));
  TRY(host_result(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)));
  void* start = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (start == MAP_FAILED) return host_errno();
  return std::shared_ptr<PacketRing>(new PacketRing(std::move(memory), static_cast<char*>(start), request, raw, reserve, std::move(held)));
}

PacketRing::PacketRing(UniqueFd memory, char* start, const tpacket_req& request, bool raw, unsigned reserve, HeldBytes held)
    : memory_(std::move(memory)),
      start_(start),
      request_(request),
      reserve_(reserve),
      raw_(raw),
      held_(std::move(held)),
      packet_(new char[kMostPacket]) {}

PacketRing::~PacketRing() { munmap(start_, size()); }

tpacket2_hdr* PacketRing::frame(unsigned number) const {
  const unsigned per_block = request_.tp_block_size / request_.tp_frame_size;
  return reinterpret_cast<tpacket2_hdr*>(start_ + size_t{number / per_block} * request_.tp_block_size +
                                         size_t{number % per_block} * request_.tp_frame_size);
}

bool PacketRing::receive_one(int fd, tpacket2_hdr* header) {
  sockaddr_ll from{};
  alignas(cmsghdr) char control[256];
  iovec piece{packet_.get(), kMostPacket};
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof from;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0) return false;
  const Told told = told_by(message);
  // Where Linux puts it (tpacket_rcv): the network header is aligned, the link-level one lies before it.
  const size_t link = raw_ ? std::min<size_t>(told.more.tp_net, static_cast<size_t>(got)) : 0;
  const size_t network_at = TPACKET_ALIGN(TPACKET2_HDRLEN + std::max<size_t>(link, 16)) + reserve_, at = network_at - link;
  const size_t here = std::min(static_cast<size_t>(got), kMostPacket);
  const size_t kept = at < request_.tp_frame_size ? std::min(here, request_.tp_frame_size - at) : 0;
  memcpy(reinterpret_cast<char*>(header) + kAddressAt, &from, sizeof from);
  if (kept > 0) memcpy(reinterpret_cast<char*>(header) + at, packet_.get(), kept);
  header->tp_len = static_cast<uint32_t>(got);
  header->tp_snaplen = static_cast<uint32_t>(kept);
  header->tp_mac = static_cast<uint16_t>(at);
  header->tp_net = static_cast<uint16_t>(network_at);
  header->tp_sec = static_cast<uint32_t>(told.at.tv_sec);
  header->tp_nsec = static_cast<uint32_t>(told.at.tv_nsec);
  header->tp_vlan_tci = told.more.tp_vlan_tci;
  header->tp_vlan_tpid = told.more.tp_vlan_tpid;
  __atomic_store_n(&header->tp_status, told.more.tp_status | TP_STATUS_USER, __ATOMIC_RELEASE);
  return true;
}

bool PacketRing::fill(int fd) {
  std::lock_guard guard(lock_);
  const auto free = [](const tpacket2_hdr* header) { return __atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) == TP_STATUS_KERNEL; };
  // Once round at most: a program that gives frames back meanwhile does not keep the kernel here.
  for (unsigned i = 0; i < request_.tp_frame_nr && free(frame(next_)) && receive_one(fd, frame(next_)); ++i)
    next_ = (next_ + 1) % request_.tp_frame_nr;
  return !free(frame((next_ + request_.tp_frame_nr - 1) % request_.tp_frame_nr));
}

}  // namespace caisson::kernel
