#include "host/socket_lookup.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "host/bpf.h"

namespace caisson::host {
namespace {

constexpr int kBacklog = 128;

constexpr bpf_insn move(int to, int from) { return bpf_instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
constexpr bpf_insn set(int to, int value) { return bpf_instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }
constexpr bpf_insn call(int function) { return bpf_instruction(BPF_JMP | BPF_CALL, 0, 0, 0, function); }

// if (context->protocol == TCP && (socket = map[0])) { assign(context, socket); release(socket); } return SK_PASS;
Result<UniqueFd> load_program(int map) {
  const std::array program{
      move(BPF_REG_6, BPF_REG_1),
      bpf_instruction(BPF_LDX | BPF_W | BPF_MEM, BPF_REG_2, BPF_REG_6, offsetof(bpf_sk_lookup, protocol), 0),
      bpf_instruction(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, 14, IPPROTO_TCP),
      bpf_instruction(BPF_ST | BPF_W | BPF_MEM, BPF_REG_10, 0, -4, 0),
      bpf_instruction(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map),  // two instructions long
      bpf_instruction(0, 0, 0, 0, 0),
      move(BPF_REG_2, BPF_REG_10),
      bpf_instruction(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4),
      call(BPF_FUNC_map_lookup_elem),
      bpf_instruction(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 7, 0),
      move(BPF_REG_7, BPF_REG_0),
      move(BPF_REG_1, BPF_REG_6),
      move(BPF_REG_2, BPF_REG_7),
      set(BPF_REG_3, 0),
      call(BPF_FUNC_sk_assign),
      move(BPF_REG_1, BPF_REG_7),
      call(BPF_FUNC_sk_release),
      set(BPF_REG_0, SK_PASS),
      bpf_instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SK_LOOKUP;
  attributes.expected_attach_type = BPF_SK_LOOKUP;
  attributes.insns = bpf_pointer(program.data());
  attributes.insn_cnt = program.size();
  attributes.license = bpf_pointer("GPL");
  UniqueFd loaded(static_cast<int>(bpf(BPF_PROG_LOAD, attributes)));
  if (!loaded) return errno_error("load a BPF program of type sk_lookup");
  return loaded;
}

// One for both families where there is IPv6.
Result<UniqueFd> listen_anywhere() {
  for (int family : {AF_INET6, AF_INET}) {
    UniqueFd listener(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener && family == AF_INET6) continue;
    if (!listener) return errno_error("make a TCP socket");
    const int no = 0;
    if (family == AF_INET6) setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (listen(listener.get(), kBacklog) == 0) return listener;
    if (family == AF_INET) return errno_error("listen at a TCP socket");
  }
  return make_error(EAFNOSUPPORT, "there is no TCP in this network namespace");
}

}  // namespace

Result<CaughtConnections> catch_connections() {
  CaughtConnections caught;
  caught.listener = TRY(listen_anywhere());
  bpf_attr create{};
  create.map_type = BPF_MAP_TYPE_SOCKMAP;
  create.key_size = sizeof(uint32_t);
  create.value_size = sizeof(uint64_t);
  create.max_entries = 1;
  UniqueFd map(static_cast<int>(bpf(BPF_MAP_CREATE, create)));
  if (!map) return errno_error("make a BPF map of sockets");
  const uint32_t key = 0;
  const uint64_t value = static_cast<uint64_t>(caught.listener.get());
  bpf_attr update{};
  update.map_fd = static_cast<uint32_t>(map.get());
  update.key = bpf_pointer(&key);
  update.value = bpf_pointer(&value);
  if (bpf(BPF_MAP_UPDATE_ELEM, update) != 0) return errno_error("put a socket into a BPF map");
  const UniqueFd program = TRY(load_program(map.get()));
  const UniqueFd network(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!network) return errno_error("open /proc/thread-self/ns/net");
  bpf_attr link{};
  link.link_create.prog_fd = static_cast<uint32_t>(program.get());
  link.link_create.target_fd = static_cast<uint32_t>(network.get());
  link.link_create.attach_type = BPF_SK_LOOKUP;
  caught.link.reset(static_cast<int>(bpf(BPF_LINK_CREATE, link)));
  if (!caught.link) return errno_error("attach a BPF program to a network namespace");
  return caught;
}

}  // namespace caisson::host
