// The network broker (net/broker.h): it receives a request, makes one call for it, and answers. And rooms (net/room_maker.h), which do the
// same in networks that guests have made, and their maker.
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kernel/net/broker.h"
#include "kernel/net/host_options.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

using enum ArgumentRule::Test;

// Of the broker of a guest that may configure the network (`guests`, as CallRow has them), and of rooms.
void append_administration(std::vector<CallRow>& rows, uint64_t guests, bool room) {
  const auto add = [&](const char* name, int number, std::vector<ArgumentRule> rules, const char* reason) {
    rows.push_back({name, number, std::move(rules), reason, CallEffect::Allow, guests});
  };
  add("sendto", SYS_sendto, {}, "netlink requests of the guest's that have been looked at (src/kernel/net/netlink_requests.cc)");
  add("getsockopt", SYS_getsockopt,
      {{1, OneOf, {SOL_SOCKET}, "SOL_SOCKET"}, {2, OneOf, {SO_DOMAIN, SO_PROTOCOL}, "SO_DOMAIN, SO_PROTOCOL"}},
      "which kind of socket it has been given");
  std::vector<uint32_t> changing;
  for (const HostIoctl& row : host_ioctls())
    if (row.administrator && (!room || is_for_rooms(row.command))) changing.push_back(row.command);
  add("ioctl", SYS_ioctl, {{1, OneOf, changing, "those of src/kernel/net/host_options.cc that change"}},
      room ? "interfaces of its network" : "the pod's interfaces");
  for (const BrokeredOption& option : brokered_options())
    add("setsockopt", SYS_setsockopt,
        {{1, OneOf, {static_cast<uint32_t>(option.level)}, option.level == SOL_SOCKET ? "SOL_SOCKET" : "IPPROTO_IP"},
         {2, OneOf, {static_cast<uint32_t>(option.name)}, "option " + std::to_string(option.name)}},
        "marks, priorities and buffers of the guest's sockets beyond what everybody may have");
}

void append_sockets(std::vector<CallRow>& rows, std::span<const BrokeredSocket> sockets, uint64_t guests, const char* reason) {
  for (const BrokeredSocket& each : sockets) {
    ArgumentRule protocol{
        2, AtMost, {static_cast<uint32_t>(each.most_protocol)}, "a protocol of at most " + std::to_string(each.most_protocol)};
    if (!each.protocols.empty()) protocol = {2, OneOf, {each.protocols.begin(), each.protocols.end()}, each.protocol_words};
    rows.push_back({"socket",
                    SYS_socket,
                    {{0, OneOf, {static_cast<uint32_t>(each.family)}, each.words},
                     {1, OneOf, {static_cast<uint32_t>(each.type)}, "", SOCK_NONBLOCK | SOCK_CLOEXEC},
                     std::move(protocol)},
                    reason,
                    CallEffect::Allow,
                    guests});
  }
}

void append_service(std::vector<CallRow>& rows) {
  rows.push_back({"recvmsg", SYS_recvmsg, {}, "what the kernel process asks for, with at most one descriptor"});
  rows.push_back({"sendmsg", SYS_sendmsg, {}, "its answer, with a socket that it has opened"});
  rows.push_back({"close", SYS_close, {}, "the sockets of a request, once it is done"});
  rows.push_back({"restart_syscall", SYS_restart_syscall, {}, "the host goes on with a call after the container was paused"});
  rows.push_back({"exit_group", SYS_exit_group, {}, "ends when the kernel process has ended"});
#ifdef __SANITIZE_ADDRESS__
  rows.push_back({"sigaltstack", SYS_sigaltstack, {}, "the sanitizer, before it ends; nothing in a build for users"});
#endif
#ifdef __SANITIZE_THREAD__
  rows.push_back({"write", SYS_write, {}, "the sanitizer, which empties streams before it ends; nothing in a build for users"});
#endif
}

std::vector<sock_filter> filter_of(const std::vector<CallRow>& rows) {
  std::vector<sock_filter> code;
  compile_architecture_check(code, SECCOMP_RET_KILL_PROCESS);
  compile_rows(code, rows, SECCOMP_RET_KILL_PROCESS);
  return code;
}

}  // namespace

const std::vector<CallRow>& broker_calls() {
  static const std::vector<CallRow> rows = [] {
    std::vector<CallRow> all;
    append_sockets(all, brokered_sockets(), 1ULL << CAP_NET_RAW, "raw and packet sockets of the pod's network");
    all.push_back(
        {"bind", SYS_bind, {}, "low ports of the node's network, for IPv4 and IPv6", CallEffect::Allow, 1ULL << CAP_NET_BIND_SERVICE});
    append_administration(all, 1ULL << CAP_NET_ADMIN, false);
    append_service(all);
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
  return filter_of(rows);
}

// ---- Rooms

const uint32_t kRoomCloneFlags = CLONE_NEWNET | SIGCHLD;

const std::vector<CallRow>& room_calls() {
  static const std::vector<CallRow> rows = [] {
    std::vector<CallRow> all;
    append_sockets(all, room_sockets(), 0, "sockets of its network; no family that the pod's would not have");
    all.push_back({"openat",
                   SYS_openat,
                   {{0, OneOf, {kSettingsFd}, "below the settings of networks, which are read-only and have no way up"},
                    {2, OneOf, {kSettingFlags}, "O_RDONLY, O_CLOEXEC, O_NOFOLLOW"}},
                   "/proc/sys/net as it is in its network"});
    all.push_back({"bind", SYS_bind, {}, "low ports of its network, for IPv4 and IPv6"});
    append_administration(all, 0, true);
    append_service(all);
    return all;
  }();
  return rows;
}

const std::vector<CapabilityRow>& room_capabilities() {
  static const std::vector<CapabilityRow> rows = {
      {"CAP_NET_RAW", CAP_NET_RAW, false, "raw and packet sockets of its network"},
      {"CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE, false, "ports below 1024 of its network"},
      {"CAP_NET_ADMIN", CAP_NET_ADMIN, false, "the guest configures the network that it has made"},
  };
  return rows;
}

uint64_t room_capability_bits() {
  uint64_t bits = 0;
  for (const CapabilityRow& row : room_capabilities()) bits |= 1ULL << row.number;
  return bits;
}

std::vector<sock_filter> make_room_filter() { return filter_of(room_calls()); }

const std::vector<CallRow>& room_maker_calls() {
  static const std::vector<CallRow> rows = [] {
    std::vector<CallRow> all = {
        {"clone", SYS_clone, {{0, OneOf, {kRoomCloneFlags}, "CLONE_NEWNET, exactly"}}, "a room: a child in a network namespace of its own"},
        {"prctl", SYS_prctl, {{0, OneOf, {PR_SET_NAME}, "PR_SET_NAME"}}, "such a child is called caisson-room"},
        {"seccomp",
         SYS_seccomp,
         {{0, OneOf, {SECCOMP_SET_MODE_FILTER}, "SECCOMP_SET_MODE_FILTER"}},
         "such a child gets the filter of rooms"},
        {"capset", SYS_capset, {}, "such a child gives up the capability to make network namespaces"},
        {"dup2", SYS_dup2, {}, "such a child's channel becomes its descriptor 0"},
        {"close_range", SYS_close_range, {}, "such a child keeps nothing else"},
    };
    for (const CallRow& row : room_calls()) all.push_back(row);
    return all;
  }();
  return rows;
}

const std::vector<CapabilityRow>& room_maker_capabilities() {
  static const std::vector<CapabilityRow> rows = [] {
    std::vector<CapabilityRow> all = {
        {"CAP_SYS_ADMIN", CAP_SYS_ADMIN, false, "to make network namespaces that belong to its user namespace"}};
    for (const CapabilityRow& row : room_capabilities()) all.push_back({row.name, row.number, false, "for rooms, which are its children"});
    return all;
  }();
  return rows;
}

std::vector<sock_filter> make_room_maker_filter() { return filter_of(room_maker_calls()); }

}  // namespace caisson::kernel
