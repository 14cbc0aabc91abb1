// What a guest's netlink requests may say to the host's kernel. Descriptors and process ids in them would be the kernel process's, and ids
// of network namespaces are doors to those of others (the node's, behind the pod's veth), which a kernel process with CAP_NET_ADMIN outside
// might open. Nothing of it is translated.
#pragma once

#include <span>

namespace caisson::kernel {

// Where they go: the pod's network, or one that a guest has made. Anybody's guest may come to configure the latter, also one that its
// engine has given no capability; so less is offered there: links, addresses, routes without tunnels, neighbours and rules; of links, dummy
// and veth can be made.
enum class NetlinkScope { Pod, Room };

// Changes the requests of one send, in place, so that the host itself gives the answer that Linux has for what is not there: descriptors
// (EBADF), processes (ESRCH) and namespace ids (EINVAL) become ones that nobody has, and a request of a kind that is not offered becomes
// one of an unknown type (EOPNOTSUPP): traffic control, kinds of links and tunnels that take programs or descriptors. The bytes may be
// anything; what the host would not read as a request is left alone.
void disarm_netlink(int protocol, std::span<char> bytes, NetlinkScope scope = NetlinkScope::Pod);

}  // namespace caisson::kernel
