// The network broker (net/broker.h): it receives a request, opens a socket, passes it on.
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kernel/net/broker.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {

const std::vector<CallRow>& broker_calls() {
  using enum ArgumentRule::Test;
  static const std::vector<CallRow> rows = [] {
    std::vector<CallRow> all;
    for (const BrokeredSocket& each : brokered_sockets())
      all.push_back(
          {"socket",
           SYS_socket,
           {{0, OneOf, {static_cast<uint32_t>(each.family)}, each.words},
            {1, OneOf, {static_cast<uint32_t>(each.type)}, "", SOCK_NONBLOCK | SOCK_CLOEXEC},
            {2, AtMost, {static_cast<uint32_t>(each.most_protocol)}, "a protocol of at most " + std::to_string(each.most_protocol)}},
           "raw and packet sockets of the pod's network",
           CallEffect::Allow,
           1ULL << CAP_NET_RAW});
    all.push_back(
        {"bind", SYS_bind, {}, "low ports of the node's network, for IPv4 and IPv6", CallEffect::Allow, 1ULL << CAP_NET_BIND_SERVICE});
    all.push_back({"recvmsg", SYS_recvmsg, {}, "what the kernel process asks for, with at most one descriptor"});
    all.push_back({"sendmsg", SYS_sendmsg, {}, "the socket, or why there is none"});
    all.push_back({"close", SYS_close, {}, "the socket, once it has been passed on"});
    all.push_back({"restart_syscall", SYS_restart_syscall, {}, "the host goes on with a call after the container was paused"});
    all.push_back({"exit_group", SYS_exit_group, {}, "ends when the kernel process has ended"});
#ifdef __SANITIZE_ADDRESS__
    all.push_back({"sigaltstack", SYS_sigaltstack, {}, "the sanitizer, before it ends; nothing in a build for users"});
#endif
    return all;
  }();
  return rows;
}

const std::vector<CapabilityRow>& broker_capabilities() {
  static const std::vector<CapabilityRow> rows = {
      {"CAP_NET_RAW", CAP_NET_RAW, true, "ping, traceroute, tcpdump: to open such a socket; to use it takes none"},
      {"CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE, true, "ports below 1024, on the node's own network"},
  };
  return rows;
}

std::vector<sock_filter> make_broker_filter(uint64_t capabilities) {
  std::vector<CallRow> rows;
  for (const CallRow& row : broker_calls())
    if (row.guest_capabilities == 0 || (row.guest_capabilities & capabilities) != 0) rows.push_back(row);
  std::vector<sock_filter> code;
  compile_architecture_check(code, SECCOMP_RET_KILL_PROCESS);
  compile_rows(code, rows, SECCOMP_RET_KILL_PROCESS);
  return code;
}

}  // namespace caisson::kernel
