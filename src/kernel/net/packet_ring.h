// PacketRing: the receive ring of a packet socket (PACKET_RX_RING of packet(7), TPACKET_V2), which libpcap, and so tcpdump and nmap, take.
// The kernel fills it itself, from what it receives on the host's socket: the host's own rings, which have been a way into many a kernel,
// are nothing that guests reach. Their program maps the ring's memory; what it writes there is only ever compared with a constant.
//
// Lock: its own, a leaf.
#pragma once

#include <linux/if_packet.h>

#include <memory>
#include <mutex>
#include <string_view>

#include "base/unique_fd.h"
#include "kernel/errno.h"
#include "kernel/held.h"

namespace caisson::kernel {

class PacketRing {
 public:
  static constexpr size_t kMost = 64 << 20;  // bytes of one
  static constexpr unsigned kVersion = TPACKET_V2;

  // As a tpacket_req says, for the socket whose frames begin with link-level headers (`raw`, SOCK_RAW) or not. reserve: PACKET_RESERVE.
  // EINVAL: no ring that packet(7) knows; ENOMEM.
  static Result<std::shared_ptr<PacketRing>> make(int fd, const tpacket_req& request, bool raw, unsigned reserve);
  ~PacketRing();
  PacketRing(const PacketRing&) = delete;
  PacketRing& operator=(const PacketRing&) = delete;

  // The memory, for a guest's mapping. Borrowed.
  int memory() const { return memory_.get(); }
  size_t size() const { return size_t{request_.tp_block_size} * request_.tp_block_nr; }
  // Fills free frames with what the socket has received; whether the program has a frame that it has not given back.
  bool fill(int fd);

 private:
  PacketRing(UniqueFd memory, char* start, const tpacket_req& request, bool raw, unsigned reserve, HeldBytes held);
  tpacket2_hdr* frame(unsigned number) const;
  bool receive_one(int fd, tpacket2_hdr* header);

  const UniqueFd memory_;
  char* const start_;
  const tpacket_req request_;
  const unsigned reserve_;
  const bool raw_;
  const HeldBytes held_;
  std::mutex lock_;
  unsigned next_ = 0;
  std::unique_ptr<char[]> packet_;
};

// PACKET_HDRLEN: of a header in a ring of that TPACKET_V*. EINVAL: there are no rings of that version here.
Result<int> packet_header_length(int version);

}  // namespace caisson::kernel
