// The broker as a hostile kernel process would treat it, and what it is itself.
#include "kernel/net/broker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kBoth = 1ULL << CAP_NET_RAW | 1ULL << CAP_NET_BIND_SERVICE;

// As the broker reads it; nobody else sends any.
struct Wire {
  int32_t family, type, protocol;
  uint32_t length = 0;
  sockaddr_in6 address{};
};
struct Sent {
  int32_t operation;  // 0: open; 1: bind; 2: send; 3: ioctl; 4: option
  Wire wire;
  uint32_t command = 0;
  char argument[sizeof(ifreq)] = {};
  int32_t level = 0, name = 0, value = 0;
};

// In a network namespace of its own, whose loopback is up.
struct Broker : testing::Test {
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    char name[] = "/tmp/brokerXXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder = name;
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    channel.reset(ends[0]);
    UniqueFd theirs(ends[1]);
    const UniqueFd root(open(name, O_PATH | O_DIRECTORY | O_CLOEXEC));
    const pid_t self = getpid();
    outside.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    inside.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(setns(outside.get(), CLONE_NEWNET), 0);
    pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      channel.reset();
      if (setns(inside.get(), CLONE_NEWNET) != 0) _exit(9);
      const UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      ifreq up{};
      strcpy(up.ifr_name, "lo");
      up.ifr_flags = IFF_UP;
      if (ioctl(any.get(), SIOCSIFFLAGS, &up) != 0) _exit(8);
      become_network_broker(std::move(theirs), root.get(), self, capabilities);
    }
  }
  void TearDown() override {
    channel.reset();
    if (pid > 0) {
      EXPECT_EQ(end(), 0) << "it ends with who asks it";
    }
    if (!folder.empty()) rmdir(folder.c_str());
  }
  int end() {
    int status = 0;
    waitpid(std::exchange(pid, 0), &status, 0);
    return status;
  }
  // The error, and how many descriptors came with it; -1: no answer.
  int ask(const void* bytes, size_t size, std::vector<UniqueFd>* got = nullptr) {
    if (send(channel.get(), bytes, size, MSG_NOSIGNAL) < 0) return -1;
    return take(got);
  }
  int take(std::vector<UniqueFd>* got) {
    int32_t reply[2] = {-1, 0};  // the error, how many bytes were sent
    iovec iov{reply, sizeof reply};
    alignas(cmsghdr) char control[256];
    msghdr message{};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(channel.get(), &message, MSG_CMSG_CLOEXEC) != sizeof reply) return -1;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      std::vector<int> fds((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
      memcpy(fds.data(), CMSG_DATA(header), fds.size() * sizeof(int));
      for (int fd : fds) {
        UniqueFd owned(fd);
        if (got != nullptr) got->push_back(std::move(owned));
      }
    }
    return reply[0];
  }
  int ask(Wire wire, std::vector<UniqueFd>* got = nullptr) {
    const Sent sent{0, wire};
    return ask(&sent, sizeof sent, got);
  }
  // With a descriptor; the error.
  int ask_with(const Sent& sent, int fd, const std::string& rest = {}) {
    iovec parts[] = {{const_cast<Sent*>(&sent), sizeof sent}, {const_cast<char*>(rest.data()), rest.size()}};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(channel.get(), &message, MSG_NOSIGNAL) < 0) return -1;
    return take(nullptr);
  }
  // To the loopback address.
  static Sent bind_to(uint16_t port) {
    Sent sent{1, {}};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&sent.wire.address, &address, sizeof address);
    sent.wire.length = sizeof address;
    return sent;
  }
  std::string status_of(const char* field) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with(std::string(field) + ":\t")) return line.substr(strlen(field) + 2);
    return "";
  }

  std::string folder;
  UniqueFd channel, inside, outside;  // network namespaces: the broker's, and that of the machine
  pid_t pid = 0;
  uint64_t capabilities = kBoth;
};

// Of a guest that may configure the network, too.
struct Administrator : Broker {
  Administrator() { capabilities |= 1ULL << CAP_NET_ADMIN; }

  // One of the broker's network, as the kernel process opens it.
  UniqueFd socket_inside(int family, int type, int protocol) {
    EXPECT_EQ(setns(inside.get(), CLONE_NEWNET), 0);
    UniqueFd made(socket(family, type | SOCK_CLOEXEC, protocol));
    EXPECT_EQ(setns(outside.get(), CLONE_NEWNET), 0);
    EXPECT_TRUE(made);
    return made;
  }
  // A netlink request, and what the host says to it.
  int request(int socket, uint16_t type, const std::string& payload) {
    const nlmsghdr header{static_cast<uint32_t>(sizeof header + payload.size()), type, NLM_F_REQUEST | NLM_F_ACK, 1, 0};
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += payload;
    Sent sent{2, {}};
    sent.wire.length = static_cast<uint32_t>(bytes.size());
    if (const int error = ask_with(sent, socket, bytes); error != 0) return error;
    struct {
      nlmsghdr header;
      nlmsgerr error;
      char rest[512];
    } answer{};
    if (recv(socket, &answer, sizeof answer, MSG_DONTWAIT) < static_cast<ssize_t>(sizeof answer.header + sizeof answer.error)) return -1;
    return -answer.error.error;
  }
  template <typename T>
  static std::string bytes_of(const T& value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
  }
  static std::string attribute(uint16_t type, uint32_t value) {
    return bytes_of(rtattr{sizeof(rtattr) + sizeof value, type}) + bytes_of(value);
  }
};

TEST_F(Administrator, ConfiguresItsNetwork) {
  const UniqueFd routes = socket_inside(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), any = socket_inside(AF_INET, SOCK_DGRAM, 0);
  ASSERT_TRUE(routes && any);
  const std::string address = bytes_of(ifaddrmsg{AF_INET, 32, 0, 0, 1}) + attribute(IFA_LOCAL, htonl(0x0a090807));
  EXPECT_EQ(request(routes.get(), RTM_NEWADDR, address), 0);
  EXPECT_EQ(request(routes.get(), RTM_NEWADDR, address), EEXIST);
  // It counts who sends it, not who has opened the socket.
  const nlmsghdr header{static_cast<uint32_t>(sizeof header + address.size()), RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK, 2, 0};
  const std::string again = bytes_of(header) + address;
  const pid_t other = fork();
  if (other == 0) {
    if (setresuid(1000, 1000, 1000) != 0 || send(routes.get(), again.data(), again.size(), 0) < 0) _exit(1);
    struct {
      nlmsghdr header;
      nlmsgerr error;
      char rest[512];
    } answer{};
    if (recv(routes.get(), &answer, sizeof answer, 0) <= 0) _exit(2);
    _exit(answer.error.error == -EPERM ? 0 : 3);
  }
  int status = 0;
  waitpid(other, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);

  Sent mtu{3, {}};
  mtu.command = SIOCSIFMTU;
  ifreq change{};
  strcpy(change.ifr_name, "lo");
  change.ifr_mtu = 1400;
  memcpy(mtu.argument, &change, sizeof change);
  EXPECT_EQ(ask_with(mtu, any.get()), 0);
  change.ifr_mtu = 0;
  EXPECT_EQ(ioctl(any.get(), SIOCGIFMTU, &change), 0);
  EXPECT_EQ(change.ifr_mtu, 1400);

  // A bridge of the pod's network, by brctl(8)'s way.
  Sent bridge{3, {}};
  bridge.command = SIOCBRADDBR;
  strcpy(bridge.argument, "br7");
  EXPECT_EQ(ask_with(bridge, any.get()), 0);
  EXPECT_EQ(ask_with(bridge, any.get()), EEXIST);
  strcpy(change.ifr_name, "br7");
  EXPECT_EQ(ioctl(any.get(), SIOCGIFINDEX, &change), 0);
  bridge.command = SIOCBRDELBR;
  EXPECT_EQ(ask_with(bridge, any.get()), 0);
  EXPECT_EQ(ioctl(any.get(), SIOCGIFINDEX, &change), -1);

  Sent mark{4, {}};
  mark.level = SOL_SOCKET;
  mark.name = SO_MARK;
  mark.value = 77;
  EXPECT_EQ(ask_with(mark, any.get()), 0);
  int now = 0;
  socklen_t length = sizeof now;
  EXPECT_EQ(getsockopt(any.get(), SOL_SOCKET, SO_MARK, &now, &length), 0);
  EXPECT_EQ(now, 77);
}

TEST_F(Administrator, NamesNoNetworkOfOthers) {
  const UniqueFd routes = socket_inside(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  ASSERT_TRUE(routes);
  const std::string loopback = bytes_of(ifinfomsg{AF_UNSPEC, 0, 0, 1, 0, 0});
  EXPECT_EQ(request(routes.get(), RTM_NEWLINK, loopback + attribute(IFLA_MTU, 1500)), 0);
  // The test's own process, its first descriptor, the first namespace id there could be: as if they were not there.
  EXPECT_EQ(request(routes.get(), RTM_NEWLINK, loopback + attribute(IFLA_NET_NS_PID, static_cast<uint32_t>(getpid()))), ESRCH);
  EXPECT_EQ(request(routes.get(), RTM_NEWLINK, loopback + attribute(IFLA_NET_NS_FD, 0)), EBADF);
  EXPECT_EQ(request(routes.get(), RTM_NEWLINK, loopback + attribute(IFLA_TARGET_NETNSID, 0)), EINVAL);
  EXPECT_EQ(request(routes.get(), RTM_NEWTFILTER, bytes_of(tcmsg{})), EOPNOTSUPP);
}

TEST_F(Administrator, DoesNothingElse) {
  const UniqueFd routes = socket_inside(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), any = socket_inside(AF_INET, SOCK_DGRAM, 0);
  ASSERT_TRUE(routes && any);
  for (int protocol = 0; protocol < 32; ++protocol) EXPECT_EQ(ask({AF_NETLINK, SOCK_RAW, protocol}), EPERM) << protocol;
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC)), local(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
      events(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT));
  for (const int operation : {2, 3, 4, 5, -1})
    for (const int fd : {null.get(), local.get(), events.get()}) {
      Sent sent{operation, {}};
      sent.command = SIOCSIFMTU;
      sent.level = SOL_SOCKET;
      sent.name = SO_MARK;
      if (fd == events.get() && operation != 2) continue;  // a socket like any other for these
      EXPECT_EQ(ask_with(sent, fd), EPERM) << operation;
    }
  Sent other{3, {}};
  for (const uint32_t command : {SIOCGIFMTU, SIOCSIFNAME, SIOCSIFHWADDR, SIOCETHTOOL, SIOCADDRT, TIOCSTI, FIONBIO}) {
    other.command = command;
    EXPECT_EQ(ask_with(other, any.get()), EPERM) << command;
  }
  Sent option{4, {}};
  option.level = SOL_SOCKET;
  for (const int name : {SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_BINDTODEVICE, SO_TXTIME}) {
    option.name = name;
    EXPECT_EQ(ask_with(option, any.get()), EPERM) << name;
  }
  // A length that is not that of what comes, and more than it takes.
  Sent wrong{2, {}};
  wrong.wire.length = 20;
  EXPECT_EQ(ask_with(wrong, routes.get(), std::string(19, 0)), EPERM);
  wrong.wire.length = kMostRequests + 1;
  EXPECT_EQ(ask_with(wrong, routes.get(), std::string(kMostRequests + 1, 0)), EPERM);
  wrong.wire.length = kMostRequests;
  EXPECT_EQ(ask_with(wrong, routes.get(), std::string(kMostRequests, 0)), 0);  // nothing that the host takes for a request
  EXPECT_EQ(std::stoull(status_of("CapPrm"), nullptr, 16), capabilities);
}

TEST_F(Broker, WithoutTheCapabilityItDoesNotAdminister) {
  std::vector<UniqueFd> fds;
  ASSERT_EQ(ask({AF_INET, SOCK_RAW, IPPROTO_ICMP}, &fds), 0);
  for (int operation = 2; operation < 5; ++operation) EXPECT_EQ(ask_with({operation, {}}, fds[0].get()), EPERM);
}

TEST_F(Broker, OpensRawAndPacketSocketsOfItsNetwork) {
  std::vector<UniqueFd> fds;
  ASSERT_EQ(ask({AF_INET, SOCK_RAW, IPPROTO_ICMP}, &fds), 0);
  ASSERT_EQ(ask({AF_INET6, SOCK_RAW, IPPROTO_ICMPV6}, &fds), 0);
  ASSERT_EQ(ask({AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)}, &fds), 0);
  ASSERT_EQ(ask({AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)}, &fds), 0);
  ASSERT_EQ(fds.size(), 4u);
  // They are used without any capability, from another network namespace.
  const int flags = fcntl(fds[0].get(), F_GETFL);
  EXPECT_NE(flags & O_NONBLOCK, 0);
  const pid_t user = fork();
  if (user == 0) {
    if (setresgid(1000, 1000, 1000) != 0 || setresuid(1000, 1000, 1000) != 0) _exit(1);
    if (setsockopt(fds[0].get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) != 0) _exit(2);
    icmphdr echo{};
    echo.type = ICMP_ECHO;
    echo.checksum = static_cast<uint16_t>(~ICMP_ECHO);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (sendto(fds[0].get(), &echo, sizeof echo, 0, reinterpret_cast<sockaddr*>(&to), sizeof to) != sizeof echo) _exit(3);
    char packet[256];
    fcntl(fds[2].get(), F_SETFL, 0);
    if (recv(fds[2].get(), packet, sizeof packet, 0) <= 0) _exit(4);  // seen by the packet socket, too
    _exit(0);
  }
  int status = 0;
  waitpid(user, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(Broker, OpensNothingElse) {
  for (int family = -1; family < 50; ++family)
    for (int type = -1; type < 12; ++type) {
      const bool listed = ((family == AF_INET || family == AF_INET6) && type == SOCK_RAW) ||
                          (family == AF_PACKET && (type == SOCK_RAW || type == SOCK_DGRAM));
      std::vector<UniqueFd> fds;
      const int error = ask({family, type, 1}, &fds);
      EXPECT_EQ(error, listed ? 0 : EPERM) << family << " " << type;
      EXPECT_EQ(fds.size(), listed ? 1u : 0u) << family << " " << type;
    }
  EXPECT_EQ(ask({AF_INET, SOCK_RAW, -1}), EPERM);
  EXPECT_EQ(ask({AF_INET, SOCK_RAW, 256}), EPERM);
  EXPECT_EQ(ask({AF_INET, SOCK_RAW | SOCK_CLOEXEC, 1}), EPERM);
  EXPECT_EQ(ask({AF_PACKET, SOCK_RAW, 0x10000}), EPERM);
}

TEST_F(Broker, BindsToLowPortsOfTheSocketsNetwork) {
  // In a network namespace of this test's own, so that no port of the machine is taken.
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNET) != 0) _exit(1);
    const UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq up{};
    strcpy(up.ifr_name, "lo");
    up.ifr_flags = IFF_UP;
    if (ioctl(any.get(), SIOCSIFFLAGS, &up) != 0) _exit(2);
    const UniqueFd tcp(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (ask_with(bind_to(80), tcp.get()) != 0 || listen(tcp.get(), 1) != 0) _exit(3);
    const UniqueFd second(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (ask_with(bind_to(80), second.get()) != EADDRINUSE) _exit(4);
    // Sockets of other families, and what is no socket.
    const UniqueFd local(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), null(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (ask_with(bind_to(81), local.get()) != EINVAL || ask_with(bind_to(81), null.get()) != ENOTSOCK) _exit(5);
    Sent named = bind_to(81);
    named.wire.address.sin6_family = AF_UNIX;
    if (ask_with(named, local.get()) != EPERM) _exit(6);
    Sent long_one = bind_to(81);
    long_one.wire.length = sizeof(sockaddr_in6) + 1;
    if (ask_with(long_one, second.get()) != EPERM) _exit(7);
    Sent without = bind_to(82);
    if (ask(&without, sizeof without) != EPERM) _exit(8);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(Broker, NonsenseIsAnsweredOrEndsIt) {
  std::mt19937 random(4711);
  for (int i = 0; i < 2000; ++i) {
    char bytes[256];
    for (char& byte : bytes) byte = static_cast<char>(random());
    const size_t size = 1 + random() % sizeof bytes;
    EXPECT_EQ(ask(bytes, size), EPERM) << size;
  }
  // Descriptors that come along do not stay.
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(ask_with({i % 3, {AF_UNIX, SOCK_STREAM, 0}}, null.get()), EPERM);
  EXPECT_EQ(ask({AF_UNIX, SOCK_STREAM, 0}), EPERM);  // it has closed the last one by then
  const std::string folder_of_fds = "/proc/" + std::to_string(pid) + "/fd";
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_of_fds), {}), 1);
}

TEST_F(Broker, AFloodWaits) {
  // Nobody reads the answers: the broker waits, and holds no more than what lies in two sockets' buffers.
  const Sent wire{0, {AF_INET, SOCK_RAW, IPPROTO_ICMP}};
  ASSERT_EQ(fcntl(channel.get(), F_SETFL, O_NONBLOCK), 0);
  int sent = 0;
  for (int quiet = 0; quiet < 20;) {
    if (send(channel.get(), &wire, sizeof wire, MSG_NOSIGNAL) > 0) {
      ++sent;
      quiet = 0;
    } else {
      ++quiet;
      sched_yield();
    }
    ASSERT_LT(sent, 100'000);
  }
  ASSERT_EQ(fcntl(channel.get(), F_SETFL, 0), 0);
  for (int i = 0; i < sent; ++i) ASSERT_GE(take(nullptr), 0);
  EXPECT_EQ(ask({AF_PACKET, SOCK_RAW, 0}), 0);
}

TEST_F(Broker, HasNothingToTake) {
  ASSERT_EQ(ask({AF_INET, SOCK_RAW, 1}), 0);      // it has been confined by now
  ASSERT_EQ(ask({AF_UNIX, SOCK_RAW, 1}), EPERM);  // and has closed its copy
  EXPECT_EQ(std::stoull(status_of("CapPrm"), nullptr, 16), kBoth);
  EXPECT_EQ(std::stoull(status_of("CapEff"), nullptr, 16), kBoth);
  EXPECT_EQ(std::stoull(status_of("CapBnd"), nullptr, 16), 0u);
  EXPECT_EQ(status_of("NoNewPrivs"), "1");
  EXPECT_EQ(status_of("Seccomp"), "2");
  EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/root"), folder);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd"), {}), 1);
  // Who has not the right to trace everything cannot look into it or change it.
  const pid_t other = fork();
  if (other == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    if (syscall(SYS_capset, &header, data) != 0) _exit(1);
    char byte = 0;
    iovec ours{&byte, 1}, theirs{&byte, 1};
    if (process_vm_readv(pid, &ours, 1, &theirs, 1, 0) >= 0 || errno != EPERM) _exit(2);
    if (open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDWR | O_CLOEXEC) >= 0) _exit(3);
    _exit(0);
  }
  int status = 0;
  waitpid(other, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(BrokerRows, EveryRowHasAReason) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr size_t kBeside = 10;
#else
  constexpr size_t kBeside = 9;
#endif
  EXPECT_LE(broker_calls().size(), brokered_sockets().size() + brokered_options().size() + kBeside);
  EXPECT_LT(make_broker_filter(1ULL << CAP_NET_RAW).size(), make_broker_filter(kBoth).size());
  for (const CallRow& row : broker_calls()) EXPECT_GT(std::string_view(row.reason).size(), 5u) << row.name;
  EXPECT_EQ(kept_capabilities(~0ULL) & (1ULL << CAP_NET_RAW | 1ULL << CAP_NET_ADMIN), 0u) << "the kernel process has none of it";
}

}  // namespace
}  // namespace caisson::kernel
