// A connected stream socket joined to a channel, both ways, half closes included: what a forwarded connection is made of at either end.
#pragma once

#include "sandbox/mux.h"

namespace caisson::sandbox {

// Attaches socket to the channel. The end of one direction is passed on as shutdown(2); when both have ended, or either side has gone, the
// channel is detached, the socket closed and ended() runs. mux must outlive neither: without it the socket is closed and ended() never
// runs.
Result<void> join_socket(Mux& mux, uint32_t channel, UniqueFd socket, std::function<void()> ended);

}  // namespace caisson::sandbox
