#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cstring>

#include "host/netlink.h"
#include "host/network.h"

namespace caisson::host {
namespace {

constexpr uint32_t kIngressParent = 0xfffffff1;  // TC_H_INGRESS
constexpr uint32_t kIngressHandle = 0xffff0000;
constexpr int kVnetHeaderBytes = 12;  // virtio_net_hdr_v1: what virtio 1.0 devices use

// A fresh one: what an earlier sandbox of this network namespace has left there leads to an interface that has gone.
Result<void> add_ingress(nl_sock* socket, rtnl_link* link) {
  Qdisc qdisc(rtnl_qdisc_alloc());
  rtnl_tc_set_link(TC_CAST(qdisc.get()), link);
  rtnl_tc_set_parent(TC_CAST(qdisc.get()), kIngressParent);
  rtnl_tc_set_handle(TC_CAST(qdisc.get()), kIngressHandle);
  rtnl_tc_set_kind(TC_CAST(qdisc.get()), "ingress");
  (void)rtnl_qdisc_delete(socket, qdisc.get());
  if (int failed = rtnl_qdisc_add(socket, qdisc.get(), NLM_F_CREATE); failed < 0)
    return netlink_error(failed, "ingress queue of {}", rtnl_link_get_name(link));
  return {};
}

Result<void> redirect(nl_sock* socket, rtnl_link* from, rtnl_link* to) {
  Action action(rtnl_act_alloc());
  rtnl_tc_set_kind(TC_CAST(action.get()), "mirred");
  rtnl_mirred_set_action(action.get(), TCA_EGRESS_REDIR);
  rtnl_mirred_set_policy(action.get(), TC_ACT_STOLEN);
  rtnl_mirred_set_ifindex(action.get(), static_cast<uint32_t>(rtnl_link_get_ifindex(to)));
  Classifier classifier(rtnl_cls_alloc());
  rtnl_tc_set_link(TC_CAST(classifier.get()), from);
  rtnl_tc_set_parent(TC_CAST(classifier.get()), kIngressHandle);
  rtnl_tc_set_kind(TC_CAST(classifier.get()), "u32");
  rtnl_cls_set_prio(classifier.get(), 2);  // after what stays here (name_answers.cc)
  rtnl_cls_set_protocol(classifier.get(), ETH_P_ALL);
  rtnl_u32_add_key_uint32(classifier.get(), 0, 0, 0, 0);  // matches everything
  rtnl_u32_set_cls_terminal(classifier.get());
  rtnl_u32_add_action(classifier.get(), action.get());
  if (int failed = rtnl_cls_add(socket, classifier.get(), NLM_F_CREATE); failed < 0)
    return netlink_error(failed, "redirect {} to {}", rtnl_link_get_name(from), rtnl_link_get_name(to));
  return {};
}

}  // namespace

Result<UniqueFd> create_tap(const std::string& name, uint32_t mtu) {
  UniqueFd tap(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!tap) return errno_error("open /dev/net/tun (the node needs the tun driver)");
  ifreq request{};
  if (name.size() >= sizeof request.ifr_name) return make_error(ENAMETOOLONG, "interface name {} is too long", name);
  memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(tap.get(), TUNSETIFF, &request) != 0) return errno_error("create tap {}", name);
  int header = kVnetHeaderBytes;
  if (ioctl(tap.get(), TUNSETVNETHDRSZ, &header) != 0) return errno_error("header size of tap {}", name);
  NetlinkSocket socket = TRY(open_netlink());
  NetlinkCache links = TRY(read_links(socket.get()));
  Link link(rtnl_link_get_by_name(links.get(), name.c_str()));
  if (!link) return make_error(ENODEV, "tap {} has gone", name);
  Link change(rtnl_link_alloc());
  rtnl_link_set_mtu(change.get(), mtu);
  rtnl_link_set_flags(change.get(), IFF_UP);
  if (int failed = rtnl_link_change(socket.get(), link.get(), change.get(), 0); failed < 0)
    return netlink_error(failed, "bring tap {} up", name);
  return tap;
}

Result<void> redirect_between(const std::string& left, const std::string& right) {
  NetlinkSocket socket = TRY(open_netlink());
  NetlinkCache links = TRY(read_links(socket.get()));
  Link left_link(rtnl_link_get_by_name(links.get(), left.c_str())), right_link(rtnl_link_get_by_name(links.get(), right.c_str()));
  if (!left_link) return make_error(ENODEV, "network interface {} does not exist", left);
  if (!right_link) return make_error(ENODEV, "network interface {} does not exist", right);
  TRY(add_ingress(socket.get(), left_link.get()));
  TRY(add_ingress(socket.get(), right_link.get()));
  TRY(redirect(socket.get(), left_link.get(), right_link.get()));
  return redirect(socket.get(), right_link.get(), left_link.get());
}

}  // namespace caisson::host
