// Rooms: the processes in which the network namespaces of guests live. A network namespace that a guest makes is one of the host's that
// nobody else is in, with nothing but a loopback device to begin with. The kernel process cannot enter it; a *room*, a process that has
// nothing but a channel, opens sockets there for it and does what takes capabilities, as the network broker does in the pod's
// (net/broker.h).
//
// Rooms are forked by the *room maker*, which is itself a fork of the kernel process before any guest runs. It lives in a user namespace of
// its own, as an id that is nobody's, with no capability but to make network namespaces that belong to that user namespace: so neither it
// nor a room has any over the pod's network, and the kernel process none over theirs. It reads no request: a message with the channel
// that a room is to have, and nothing else, makes one. How many there may be at once the host itself watches over
// (/proc/sys/user/max_net_namespaces of that user namespace), those included that it has not freed yet.
#pragma once

#include "base/unique_fd.h"
#include "kernel/errno.h"

namespace caisson::kernel {

// Forks the maker. proc: a whole /proc that can be written to, for as long as await_room_maker() has not returned. Before the first thread,
// and before this process has changed its root directory. What fails is remembered: make_room() tells.
void start_room_maker(int proc);
// It has all that it needs.
void await_room_maker();

struct Room {
  UniqueFd channel;  // for NetworkBroker
  UniqueFd folder;   // the process's below the host's /proc: "net" in it is the namespace's
};
// Any thread. EPERM: this node gives none, which is logged once; ENOSPC: too many.
Result<Room> make_room();

}  // namespace caisson::kernel
