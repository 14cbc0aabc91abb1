// Rings of packet sockets (PACKET_RX_RING of packet(7)), which the host fills and a guest maps: what libpcap, and so tcpdump and nmap,
// take.
#pragma once

#include <string_view>

#include "base/unique_fd.h"
#include "kernel/errno.h"

namespace caisson::kernel {

// Bytes of all rings of this kernel process: the host counts them in no cgroup.
inline constexpr size_t kMostPacketRings = 64 << 20;

// Sets the socket's ring as `value`, a tpacket_req or tpacket_req3, says. `held`: what it has, and then what it has. ENOMEM: too much.
Result<void> set_packet_ring(int fd, std::string_view value, size_t& held);
// Closes a socket with a ring of `held` bytes: now, or, while a guest has the ring mapped still, later.
void close_packet_ring(UniqueFd fd, size_t held);
// PACKET_HDRLEN: of a header in a ring of that TPACKET_V*. EINVAL: there is no such version.
Result<int> packet_header_length(int version);

}  // namespace caisson::kernel
