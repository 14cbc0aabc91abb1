#include "host/name_answers.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <vector>

#include "base/unique_fd.h"
#include "host/bpf.h"
#include "host/netlink.h"

namespace caisson::host {
namespace {

constexpr uint32_t kIngressHandle = 0xffff0000;
constexpr uint16_t kBeforeTheRedirect = 1;     // priority; the redirect's is larger (tap.cc)
constexpr int kTcpListen = 10, kTcpClose = 7;  // states of bpf_sock, as the kernel's TCP_ numbers; an unconnected UDP socket is closed

// The stack of the program, from its top (r10).
constexpr int kIp = -20;                   // an IPv4 header without options
constexpr int kPorts = -24, kTuple = -40;  // bpf_sock_tuple's ipv4: addresses and ports, as they are in the packet
constexpr int kOperation = -24;            // of ARP

// Instructions with jumps to three ends, which are filled in when all is there.
class Program {
 public:
  void move(int to, int from) { add(bpf_instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)); }
  void set(int to, int value) { add(bpf_instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)); }
  void load(int size, int to, int from, int offset) { add(bpf_instruction(BPF_LDX | size | BPF_MEM, to, from, offset, 0)); }
  void store(int size, int to, int offset, int from) { add(bpf_instruction(BPF_STX | size | BPF_MEM, to, from, offset, 0)); }
  void call(int function) { add(bpf_instruction(BPF_JMP | BPF_CALL, 0, 0, 0, function)); }
  void add(bpf_insn one) { code_.push_back(one); }
  // if (register OPERATION value) goto a place that here() will give.
  size_t branch(int operation, int reg, int value) {
    add(bpf_instruction(BPF_JMP | operation | BPF_K, reg, 0, 0, value));
    return code_.size() - 1;
  }
  void leave(int operation, int reg, int value) { leaves_.push_back(branch(operation, reg, value)); }
  void here(size_t from) { code_[from].off = static_cast<int16_t>(code_.size() - from - 1); }
  // bpf_skb_load_bytes(skb, offset, stack + to, size) or leave.
  void packet(int offset, int to, int size) {
    move(BPF_REG_1, BPF_REG_6);
    set(BPF_REG_2, offset);
    move(BPF_REG_3, BPF_REG_10);
    add(bpf_instruction(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_3, 0, 0, to));
    set(BPF_REG_4, size);
    call(BPF_FUNC_skb_load_bytes);
    leave(BPF_JNE, BPF_REG_0, 0);
  }
  void answer(int action) {
    set(BPF_REG_0, action);
    add(bpf_instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
  }
  // The end: who has left goes on to the next filter.
  const std::vector<bpf_insn>& finish() {
    for (size_t from : leaves_) here(from);
    answer(TC_ACT_UNSPEC);
    return code_;
  }

 private:
  std::vector<bpf_insn> code_;
  std::vector<size_t> leaves_;
};

// if (ARP) { if (an answer) { clone_redirect(skb, tap); return OK; } return UNSPEC; }
void arp(Program& program, int tap) {
  const size_t is_other = program.branch(BPF_JNE, BPF_REG_7, htons(ETH_P_ARP));
  program.packet(ETH_HLEN + 6, kOperation, 2);
  program.load(BPF_H, BPF_REG_0, BPF_REG_10, kOperation);
  program.leave(BPF_JNE, BPF_REG_0, htons(2));
  program.move(BPF_REG_1, BPF_REG_6);
  program.set(BPF_REG_2, tap);
  program.set(BPF_REG_3, 0);
  program.call(BPF_FUNC_clone_redirect);
  program.answer(TC_ACT_OK);
  program.here(is_other);
}

// r7: the IP protocol. socket = lookup(skb, tuple, 12, this namespace, 0); if (socket) { state = socket->state; release(socket); }
void find_socket(Program& program, int lookup) {
  program.move(BPF_REG_1, BPF_REG_6);
  program.move(BPF_REG_2, BPF_REG_10);
  program.add(bpf_instruction(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, kTuple));
  program.set(BPF_REG_3, sizeof(bpf_sock_tuple::ipv4));
  program.set(BPF_REG_4, BPF_F_CURRENT_NETNS);
  program.set(BPF_REG_5, 0);
  program.call(lookup);
  program.leave(BPF_JEQ, BPF_REG_0, 0);
  program.load(BPF_W, BPF_REG_8, BPF_REG_0, offsetof(bpf_sock, state));
  program.move(BPF_REG_1, BPF_REG_0);
  program.call(BPF_FUNC_sk_release);
  program.leave(BPF_JEQ, BPF_REG_8, kTcpListen);
  program.leave(BPF_JEQ, BPF_REG_8, kTcpClose);
  program.answer(TC_ACT_OK);
}

std::vector<bpf_insn> make_program(int tap) {
  Program program;
  program.move(BPF_REG_6, BPF_REG_1);
  program.load(BPF_W, BPF_REG_7, BPF_REG_6, offsetof(__sk_buff, protocol));
  arp(program, tap);
  program.leave(BPF_JNE, BPF_REG_7, htons(ETH_P_IP));
  program.packet(ETH_HLEN, kIp, 20);
  program.load(BPF_B, BPF_REG_0, BPF_REG_10, kIp);
  program.leave(BPF_JNE, BPF_REG_0, 0x45);  // version 4, no options
  program.load(BPF_H, BPF_REG_0, BPF_REG_10, kIp + 6);
  program.leave(BPF_JSET, BPF_REG_0, htons(0x1fff));  // not the first fragment: it has no ports
  program.load(BPF_B, BPF_REG_7, BPF_REG_10, kIp + 9);
  program.packet(ETH_HLEN + 20, kPorts, 4);
  program.load(BPF_H, BPF_REG_0, BPF_REG_10, kPorts);
  program.leave(BPF_JNE, BPF_REG_0, htons(53));
  program.load(BPF_W, BPF_REG_0, BPF_REG_10, kPorts);
  program.store(BPF_W, BPF_REG_10, kTuple + 8, BPF_REG_0);
  for (int address : {0, 4}) {
    program.load(BPF_W, BPF_REG_0, BPF_REG_10, kIp + 12 + address);
    program.store(BPF_W, BPF_REG_10, kTuple + address, BPF_REG_0);
  }
  const size_t is_no_udp = program.branch(BPF_JNE, BPF_REG_7, IPPROTO_UDP);
  find_socket(program, BPF_FUNC_sk_lookup_udp);
  program.here(is_no_udp);
  program.leave(BPF_JNE, BPF_REG_7, IPPROTO_TCP);
  find_socket(program, BPF_FUNC_sk_lookup_tcp);
  return program.finish();
}

Result<UniqueFd> load(const std::vector<bpf_insn>& program) {
  std::vector<char> said(16 << 10);
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
  attributes.insns = reinterpret_cast<uint64_t>(program.data());
  attributes.insn_cnt = static_cast<uint32_t>(program.size());
  attributes.license = reinterpret_cast<uint64_t>("GPL");
  UniqueFd loaded(static_cast<int>(bpf(BPF_PROG_LOAD, attributes)));
  if (loaded) return loaded;
  // Once more, for the reason.
  const int code = errno;
  attributes.log_level = 1;
  attributes.log_buf = reinterpret_cast<uint64_t>(said.data());
  attributes.log_size = static_cast<uint32_t>(said.size());
  loaded.reset(static_cast<int>(bpf(BPF_PROG_LOAD, attributes)));
  if (loaded) return loaded;
  const std::string text(said.data(), strnlen(said.data(), said.size()));
  return make_error(code, "load a BPF program for {}: {}: {}", "tc", strerrordesc_np(code),
                    text.substr(text.size() > 400 ? text.size() - 400 : 0));
}

}  // namespace

Result<void> keep_name_answers(const std::string& interface, const std::string& tap) {
  NetlinkSocket socket = TRY(open_netlink());
  NetlinkCache links = TRY(read_links(socket.get()));
  const int from = TRY(link_index(links.get(), interface)), to = TRY(link_index(links.get(), tap));
  const UniqueFd program = TRY(load(make_program(to)));
  std::unique_ptr<nl_msg, NetlinkFree<nlmsg_free>> message(nlmsg_alloc_simple(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL));
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = from;
  header.tcm_parent = kIngressHandle;
  header.tcm_info = static_cast<uint32_t>(kBeforeTheRedirect) << 16 | htons(ETH_P_ALL);
  bool written = message && nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) == 0 &&
                 nla_put_string(message.get(), TCA_KIND, "bpf") == 0;
  nlattr* options = written ? nla_nest_start(message.get(), TCA_OPTIONS) : nullptr;
  written = options != nullptr && nla_put_u32(message.get(), TCA_BPF_FD, static_cast<uint32_t>(program.get())) == 0 &&
            nla_put_string(message.get(), TCA_BPF_NAME, "caisson-names") == 0 &&
            nla_put_u32(message.get(), TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT) == 0;
  if (!written) return make_error(ENOMEM, "a netlink message has no room");
  nla_nest_end(message.get(), options);
  // The call frees the message.
  if (int failed = nl_send_sync(socket.get(), message.release()); failed < 0)
    return netlink_error(failed, "keep answers of name servers on {}", interface);
  return {};
}

}  // namespace caisson::host
