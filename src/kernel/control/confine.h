// What the kernel process gives up before it serves a guest: it is then in an empty root directory, with a handful of capabilities in a
// user namespace of its own where that can be had, and what it serves is below descriptors that it took before. The calls that are left to
// it are in platform/host_rows.cc.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/errno.h"

namespace caisson::kernel {

// A private mount of this PID namespace's /proc, read-only and with nothing but processes in it (/proc/sys and its like give uid 0 power
// over the node, without any capability), by descriptor only (host_proc.h, identity.h).
// Until enter_empty_root() there is a whole one, too.
Result<void> open_own_proc();
// What guests see as /proc/sys/net: of the network namespace that this process lives in. After open_own_proc; where it cannot be had it is
// logged, and the folder is empty.
void open_network_settings();
// Forks who makes networks for guests (net/room_maker.h). After open_network_settings, and before enter_empty_root.
void have_rooms();
// For the kernel process, in a mount namespace of its own: nothing is mounted in it any more but an empty folder, so that it keeps neither
// the node's mounts nor a container's. Anything that is to be had of them is had before.
Result<void> leave_mounts();
// A mount namespace in which nothing lies but these folders' mounts, which have lain nowhere so far, each in a read-only folder of its own:
// there they hear of what is mounted below where they come from; one that lies nowhere hears of nothing. It lives as long as its
// descriptor, which is given back. This process, with its one thread, is in its own again, in its root directory.
Result<UniqueFd> make_mount_namespace(std::span<const int> mounts);
// An empty, read-only root directory that lies nowhere in a mount namespace; the working directory too.
// With own_user_namespace also a user namespace in which every id is what it is outside: owners of files keep their meaning, capabilities
// count in it only (so not in a network namespace that was made outside). A network broker (net/broker.h) with the capabilities
// `brokered` stays where this process was; 0: none. Before the first thread. EPERM: no user namespace can be had.
Result<void> enter_empty_root(bool own_user_namespace, uint64_t brokered);
// The same for who joins a kernel process: with its user namespace, -1 for none of its own.
Result<void> join_empty_root(int user_namespace);
// Whether a user namespace may be tried. A network namespace belongs to the user namespace that made it, so no capability about the network
// would count: what takes one is done by the broker; low ports can be had without any (open_low_ports).
bool can_have_user_namespace();
// Every port of this network namespace, which must not be the node's, may be bound without CAP_NET_BIND_SERVICE: the kernel itself asks
// the guest's capability.
Result<void> open_low_ports();
// Capabilities that are not needed to act on the container's files and network (platform/host_rows.h); no new privileges; not dumpable.
// guests: those that the container's processes may have.
Result<void> drop_privileges(uint64_t guests);

// For a process that has all that it needs and only waits, or reads, from now on: no capability, no new privileges, not dumpable, and the
// filter, made of exec_calls() or answer_calls(). It keeps its root directory; what has been sent away needs no files.
Result<void> drop_everything(const std::vector<sock_filter>& filter);

// Gives the controlling terminal up, so that it becomes one of the helper that watches its size. No signal is left pending.
void leave_terminal(int fd);

}  // namespace caisson::kernel
