// libFuzzer target: a guest's netlink requests. Beyond not crashing: nothing is written past the bytes; the length of every request stays;
// what has been looked at once passes a second time as it is; and no descriptor, process or namespace is left in a link's own attributes.
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "kernel/net/netlink_requests.h"

using namespace caisson::kernel;  // NOLINT

namespace {

void expect(bool condition) {
  if (!condition) abort();
}

// A link request of one attribute, whatever the input says it is.
void check_one_attribute(uint16_t type, uint32_t value, uint16_t kind) {
  struct {
    nlmsghdr header;
    ifinfomsg link;
    nlattr attribute;
    uint32_t value;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = static_cast<uint16_t>(RTM_NEWLINK + kind % 4);
  request.attribute = {sizeof request.attribute + sizeof request.value, type};
  request.value = value;
  disarm_netlink(NETLINK_ROUTE, {reinterpret_cast<char*>(&request), sizeof request});
  const int plain = type & NLA_TYPE_MASK;
  const bool names = plain == IFLA_NET_NS_FD || plain == IFLA_NET_NS_PID || plain == IFLA_LINK_NETNSID || plain == IFLA_TARGET_NETNSID;
  if (names) expect(request.value == 0x7fffffff);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Exactly as long as it is: a sanitizer sees every step beyond.
  const std::string before(reinterpret_cast<const char*>(data), size);
  const auto bytes = std::make_unique<char[]>(size);
  memcpy(bytes.get(), data, size);
  disarm_netlink(NETLINK_ROUTE, {bytes.get(), size});
  const std::string once(bytes.get(), size);
  disarm_netlink(NETLINK_ROUTE, {bytes.get(), size});
  expect(once == std::string(bytes.get(), size));
  // In a network that a guest has made less is offered: what has passed there passes a second time, too.
  const auto room = std::make_unique<char[]>(size);
  memcpy(room.get(), data, size);
  disarm_netlink(NETLINK_ROUTE, {room.get(), size}, NetlinkScope::Room);
  const std::string less(room.get(), size);
  disarm_netlink(NETLINK_ROUTE, {room.get(), size}, NetlinkScope::Room);
  expect(less == std::string(room.get(), size));
  disarm_netlink(NETLINK_SOCK_DIAG, {bytes.get(), size});
  expect(once == std::string(bytes.get(), size));
  for (size_t at = 0; at + sizeof(nlmsghdr) <= size;) {
    nlmsghdr was, is;
    memcpy(&was, before.data() + at, sizeof was);
    memcpy(&is, once.data() + at, sizeof is);
    expect(was.nlmsg_len == is.nlmsg_len && was.nlmsg_flags == is.nlmsg_flags && was.nlmsg_seq == is.nlmsg_seq);
    expect(is.nlmsg_type == was.nlmsg_type || is.nlmsg_type == 0xffff);
    if (was.nlmsg_len < sizeof was || was.nlmsg_len > size - at) break;
    at += NLMSG_ALIGN(was.nlmsg_len);
  }
  if (size >= 8) {
    uint16_t type, kind;
    uint32_t value;
    memcpy(&type, data, sizeof type);
    memcpy(&kind, data + 2, sizeof kind);
    memcpy(&value, data + 4, sizeof value);
    check_one_attribute(type, value, kind);
  }
  return 0;
}
