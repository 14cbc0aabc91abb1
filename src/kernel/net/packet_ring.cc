#include "kernel/net/packet_ring.h"

#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace caisson::kernel {
namespace {

struct Rings {
  struct Mapped {
    UniqueFd fd;
    size_t size;
  };
  std::mutex lock;
  size_t held = 0;             // the mapped ones too
  std::vector<Mapped> mapped;  // closed by the guest, which has them mapped still
};

Rings& rings() {
  static Rings* all = new Rings;  // sockets may outlive static objects
  return *all;
}

// EBUSY: it is mapped (packet_set_ring in Linux).
bool free_ring(int fd) {
  const tpacket_req3 none{};
  return setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &none, sizeof none) == 0 || errno != EBUSY;
}

void sweep_locked(Rings& all) {
  std::erase_if(all.mapped, [&](const Rings::Mapped& ring) {
    if (!free_ring(ring.fd.get())) return false;
    all.held -= ring.size;
    return true;
  });
}

}  // namespace

Result<void> set_packet_ring(int fd, std::string_view value, size_t& held) {
  tpacket_req3 request{};
  if (value.size() < sizeof(tpacket_req)) return Errno(EINVAL);
  const size_t size = std::min(value.size(), sizeof request);
  memcpy(&request, value.data(), size);
  const uint64_t wanted = uint64_t{request.tp_block_size} * request.tp_block_nr;
  Rings& all = rings();
  std::lock_guard guard(all.lock);
  sweep_locked(all);
  if (wanted > kMostPacketRings || all.held - held + wanted > kMostPacketRings) return Errno(ENOMEM);
  TRY(host_result(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, static_cast<socklen_t>(size))));
  all.held += wanted - held;
  held = wanted;
  return {};
}

void close_packet_ring(UniqueFd fd, size_t held) {
  Rings& all = rings();
  std::lock_guard guard(all.lock);
  if (free_ring(fd.get()))
    all.held -= held;
  else
    all.mapped.push_back({std::move(fd), held});
}

Result<int> packet_header_length(int version) {
  switch (version) {
    case TPACKET_V1:
      return static_cast<int>(sizeof(tpacket_hdr));
    case TPACKET_V2:
      return static_cast<int>(sizeof(tpacket2_hdr));
    case TPACKET_V3:
      return static_cast<int>(sizeof(tpacket3_hdr));
    default:
      return Errno(EINVAL);
  }
}

}  // namespace caisson::kernel
