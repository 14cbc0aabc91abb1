// The network broker (net/broker.h): it receives a request, makes one call for it, and answers.
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kernel/net/broker.h"
#include "kernel/net/host_options.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

using enum ArgumentRule::Test;

// Of the broker of a guest that may configure the network.
void append_administration(std::vector<CallRow>& rows) {
  constexpr uint64_t kAdmin = 1ULL << CAP_NET_ADMIN;
  const auto add = [&](const char* name, int number, std::vector<ArgumentRule> rules, const char* reason) {
    rows.push_back({name, number, std::move(rules), reason, CallEffect::Allow, kAdmin});
  };
  add("sendto", SYS_sendto, {}, "netlink requests of the guest's that have been looked at (src/kernel/net/netlink_requests.cc)");
  add("getsockopt", SYS_getsockopt,
      {{1, OneOf, {SOL_SOCKET}, "SOL_SOCKET"}, {2, OneOf, {SO_DOMAIN, SO_PROTOCOL}, "SO_DOMAIN, SO_PROTOCOL"}},
      "which kind of socket it has been given");
  std::vector<uint32_t> changing;
  for (const HostIoctl& row : host_ioctls())
    if (row.administrator) changing.push_back(row.command);
  add("ioctl", SYS_ioctl, {{1, OneOf, changing, "those of src/kernel/net/host_options.cc that change"}}, "the pod's interfaces");
  for (const BrokeredOption& option : brokered_options())
    add("setsockopt", SYS_setsockopt,
        {{1, OneOf, {static_cast<uint32_t>(option.level)}, option.level == SOL_SOCKET ? "SOL_SOCKET" : "IPPROTO_IP"},
         {2, OneOf, {static_cast<uint32_t>(option.name)}, "option " + std::to_string(option.name)}},
        "marks, priorities and buffers of the guest's sockets beyond what everybody may have");
}

}  // namespace

const std::vector<CallRow>& broker_calls() {
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
    append_administration(all);
    all.push_back({"recvmsg", SYS_recvmsg, {}, "what the kernel process asks for, with at most one descriptor"});
    all.push_back({"sendmsg", SYS_sendmsg, {}, "its answer, with a socket that it has opened"});
    all.push_back({"close", SYS_close, {}, "the sockets of a request, once it is done"});
    all.push_back({"restart_syscall", SYS_restart_syscall, {}, "the host goes on with a call after the container was paused"});
    all.push_back({"exit_group", SYS_exit_group, {}, "ends when the kernel process has ended"});
#ifdef __SANITIZE_ADDRESS__
    all.push_back({"sigaltstack", SYS_sigaltstack, {}, "the sanitizer, before it ends; nothing in a build for users"});
#endif
#ifdef __SANITIZE_THREAD__
    all.push_back({"write", SYS_write, {}, "the sanitizer, which empties streams before it ends; nothing in a build for users"});
#endif
    return all;
  }();
  return rows;
}

const std::vector<CapabilityRow>& broker_capabilities() {
  static const std::vector<CapabilityRow> rows = {
      {"CAP_NET_RAW", CAP_NET_RAW, true, "ping, traceroute, tcpdump: to open such a socket; to use it takes none"},
      {"CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE, true, "ports below 1024, on the node's own network"},
      {"CAP_NET_ADMIN", CAP_NET_ADMIN, true, "the guest configures the pod's network"},
  };
  return rows;
}

uint64_t brokered_capabilities(uint64_t guest) {
  uint64_t brokered = 0;
  for (const CapabilityRow& row : broker_capabilities()) brokered |= guest & 1ULL << row.number;
  return brokered;
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
