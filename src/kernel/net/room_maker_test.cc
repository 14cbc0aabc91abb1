// Rooms and their maker as a hostile kernel process would treat them, and what they are themselves.
#include "kernel/net/room_maker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <random>

#include "kernel/klog.h"
#include "kernel/net/broker.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t bit(int capability) { return 1ULL << capability; }

// In a process of its own, which has a maker.
class Rooms : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
  // body gives the empty text, or what is wrong.
  static void with_maker(const std::function<std::string()>& body) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      klog_configure(-1, LogLevel::Error);
      const UniqueFd proc(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
      start_room_maker(proc.get());
      await_room_maker();
      const std::string wrong = body();
      [[maybe_unused]] const ssize_t ignored = write(ends[1], wrong.data(), wrong.size());
      _exit(0);
    }
    close(ends[1]);
    std::string wrong;
    char bytes[512];
    for (ssize_t got; (got = read(ends[0], bytes, sizeof bytes)) > 0;) wrong.append(bytes, static_cast<size_t>(got));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(wrong, "");
  }
};

#define HOLDS(expression) \
  if (!(expression)) return std::string(#expression) + ": " + strerror(errno)

int error_of(const auto& result) { return result.ok() ? 0 : result.error().value; }

std::string status_of(const Room& room, const char* field) {
  const UniqueFd file(openat(room.folder.get(), "status", O_RDONLY | O_CLOEXEC));
  std::string text(8192, '\0');
  text.resize(static_cast<size_t>(std::max<ssize_t>(read(file.get(), text.data(), text.size()), 0)));
  const size_t at = text.find(std::string("\n") + field + ":\t");
  if (at == text.npos) return "";
  const size_t begin = at + strlen(field) + 3;
  return text.substr(begin, text.find('\n', begin) - begin);
}

std::string link_of(const Room& room, const char* name) {
  char link[128] = {};
  return readlinkat(room.folder.get(), name, link, sizeof link - 1) > 0 ? link : "";
}

bool has_ended(const Room& room) {
  struct stat stat {};
  return fstatat(room.folder.get(), "status", &stat, 0) != 0;
}

short loopback_flags(int fd) {
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  return ioctl(fd, SIOCGIFFLAGS, &request) == 0 ? request.ifr_flags : static_cast<short>(-1);
}

// What the host answers to one netlink request.
int ask_netlink(NetworkBroker& broker, int fd, uint16_t type, const std::string& payload) {
  const nlmsghdr header{static_cast<uint32_t>(sizeof header + payload.size()), type, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 1, 0};
  const std::string bytes = std::string(reinterpret_cast<const char*>(&header), sizeof header) + payload;
  if (const auto sent = broker.send(fd, bytes); !sent) return sent.error().value;
  struct {
    nlmsghdr header;
    nlmsgerr error;
    char rest[512];
  } answer{};
  if (recv(fd, &answer, sizeof answer, MSG_DONTWAIT) < static_cast<ssize_t>(sizeof answer.header + sizeof answer.error)) return -1;
  return -answer.error.error;
}
template <typename T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string attribute(uint16_t type, const std::string& value) {
  std::string text = bytes_of(rtattr{static_cast<unsigned short>(sizeof(rtattr) + value.size()), type}) + value;
  text.resize(RTA_ALIGN(text.size()));
  return text;
}
std::string new_link(const char* kind) { return bytes_of(ifinfomsg{}) + attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind)); }

TEST_F(Rooms, ServeANetworkOfTheirOwn) {
  with_maker([]() -> std::string {
    Result<Room> one = make_room(), two = make_room();
    HOLDS(one.ok() && two.ok());
    NetworkBroker first, second;
    first.set_room(std::move(one->channel));
    second.set_room(std::move(two->channel));
    for (const BrokeredSocket& each : room_sockets())
      HOLDS(first.open(each.family, each.type, each.type == SOCK_RAW && each.family != AF_NETLINK ? 1 : 0).ok());
    const Result<UniqueFd> here = first.open(AF_INET, SOCK_DGRAM, 0), there = second.open(AF_INET, SOCK_DGRAM, 0);
    HOLDS(here.ok() && there.ok());
    HOLDS((loopback_flags(here->get()) & IFF_UP) == 0);
    ifreq up{};
    strcpy(up.ifr_name, "lo");
    up.ifr_flags = IFF_UP;
    // Nobody but the room may, who may do anything here.
    HOLDS(setresuid(1000, 1000, 0) == 0 && ioctl(here->get(), SIOCSIFFLAGS, &up) != 0 && errno == EPERM && setresuid(0, 0, 0) == 0);
    HOLDS(first.ioctl(here->get(), SIOCSIFFLAGS, {reinterpret_cast<const char*>(&up), sizeof up}).ok());
    HOLDS((loopback_flags(here->get()) & IFF_UP) != 0);
    HOLDS((loopback_flags(there->get()) & IFF_UP) == 0);
    sockaddr_in low{};
    low.sin_family = AF_INET;
    low.sin_port = htons(80);
    HOLDS(first.bind(here->get(), reinterpret_cast<const sockaddr*>(&low), sizeof low).ok());
    HOLDS(second.bind(there->get(), reinterpret_cast<const sockaddr*>(&low), sizeof low).ok());
    const Result<std::string> text = read_host_file(*first.open_setting("ipv4/ip_unprivileged_port_start"));
    HOLDS(text.ok() && *text == "1024\n");
    return "";
  });
}

TEST_F(Rooms, AreConfined) {
  with_maker([]() -> std::string {
    const Result<Room> room = make_room();
    HOLDS(room.ok());
    HOLDS(std::stoull(status_of(*room, "CapPrm"), nullptr, 16) == (bit(CAP_NET_ADMIN) | bit(CAP_NET_RAW) | bit(CAP_NET_BIND_SERVICE)));
    HOLDS(std::stoull(status_of(*room, "CapBnd"), nullptr, 16) == 0);
    HOLDS(status_of(*room, "NoNewPrivs") == "1" && status_of(*room, "Seccomp") == "2");
    HOLDS(status_of(*room, "Uid").starts_with("65534"));
    char own[128] = {};
    HOLDS(readlink("/proc/self/ns/net", own, sizeof own - 1) > 0 && link_of(*room, "ns/net") != own);
    HOLDS(readlink("/proc/self/ns/user", own, sizeof own - 1) > 0 && link_of(*room, "ns/user") != own);
    const Result<std::vector<HostProcEntry>> fds = list_host_folder(UniqueFd(openat(room->folder.get(), "fd", O_RDONLY | O_CLOEXEC)));
    struct stat stat {};
    HOLDS(fds.ok());
    for (const char* name : {"fd/0", "fd/1"}) HOLDS(fstatat(room->folder.get(), name, &stat, AT_SYMLINK_NOFOLLOW) == 0);
    for (const char* name : {"fd/2", "fd/3", "fd/64", "fd/65"}) HOLDS(fstatat(room->folder.get(), name, &stat, AT_SYMLINK_NOFOLLOW) != 0);
    return "";
  });
}

TEST_F(Rooms, DoNothingElse) {
  with_maker([]() -> std::string {
    Result<Room> room = make_room();
    HOLDS(room.ok());
    NetworkBroker broker;
    broker.set_room(std::move(room->channel));
    for (int family = -1; family < 50; ++family)
      for (int type = -1; type < 12; ++type)
        for (const int protocol : {0, 1, 115 /* L2TP */, 132 /* SCTP */, 262 /* MPTCP */}) {
          const bool listed = std::any_of(room_sockets().begin(), room_sockets().end(),
                                          [&](const BrokeredSocket& each) { return each.family == family && each.type == type; });
          const Result<UniqueFd> fd = broker.open(family, type, protocol);
          HOLDS(listed || !fd.ok());
          HOLDS(!fd.ok() || type == SOCK_RAW || family == AF_PACKET || protocol < 2);
        }
    for (const char* path :
         {"..", "../kernel/hostname", "ipv4/../../kernel/hostname", "/etc/passwd", "/proc/sys/kernel/hostname", "ipv4/.."})
      HOLDS(error_of(broker.open_setting(path)) == ENOENT);
    HOLDS(error_of(broker.open_setting(std::string(5000, 'x'))) == ENOENT);
    const Result<UniqueFd> setting = broker.open_setting("ipv4/ip_forward");
    HOLDS(setting.ok() && write(setting->get(), "1", 1) < 0);
    const Result<UniqueFd> routes = broker.open(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), any = broker.open(AF_INET, SOCK_DGRAM, 0);
    HOLDS(routes.ok() && any.ok());
    ifreq bridge{};
    HOLDS(error_of(broker.ioctl(any->get(), SIOCBRADDBR, {reinterpret_cast<const char*>(&bridge), IFNAMSIZ})) == EPERM);
    for (const char* kind : {"bridge", "vxlan", "gre", "ipvlan", "wireguard", "tun", "can"})
      HOLDS(ask_netlink(broker, routes->get(), RTM_NEWLINK, new_link(kind)) == EOPNOTSUPP);
    const std::string loopback = bytes_of(ifinfomsg{AF_UNSPEC, 0, 0, 1, 0, 0});
    HOLDS(ask_netlink(broker, routes->get(), RTM_NEWLINK, loopback + attribute(IFLA_MTU, bytes_of(1500))) == 0);
    HOLDS(ask_netlink(broker, routes->get(), RTM_NEWLINK, loopback + attribute(IFLA_NET_NS_PID, bytes_of(getpid()))) == ESRCH);
    HOLDS(ask_netlink(broker, routes->get(), RTM_NEWLINK, loopback + attribute(IFLA_NET_NS_FD, bytes_of(0))) == EBADF);
    for (const uint16_t type : {RTM_NEWTFILTER, RTM_NEWQDISC, RTM_NEWNSID, RTM_NEWNEXTHOP, RTM_NEWMDB, RTM_NEWVLAN, RTM_NEWLINKPROP})
      HOLDS(ask_netlink(broker, routes->get(), type, std::string(64, '\0')) == EOPNOTSUPP);
    return "";
  });
}

TEST_F(Rooms, EndWithTheirChannel) {
  with_maker([]() -> std::string {
    Result<Room> room = make_room();
    HOLDS(room.ok());
    room->channel.reset();
    while (!has_ended(*room)) sched_yield();
    HOLDS(openat(room->folder.get(), "net/dev", O_RDONLY | O_CLOEXEC) < 0);
    return "";
  });
}

// The host itself counts them.
TEST_F(Rooms, AreBounded) {
  with_maker([]() -> std::string {
    std::vector<Room> rooms;
    for (;;) {
      Result<Room> room = make_room();
      if (!room) {
        HOLDS(room.error() == Errno(ENOSPC));
        break;
      }
      rooms.push_back(*std::move(room));
      HOLDS(rooms.size() <= 256);
    }
    HOLDS(rooms.size() >= 128);
    rooms.clear();
    // What has ended is free again once the host has got round to it.
    while (!make_room().ok()) sched_yield();
    return "";
  });
}

TEST_F(Rooms, TakeAnyBytes) {
  with_maker([]() -> std::string {
    std::mt19937 random(7);
    Result<Room> room = make_room();
    HOLDS(room.ok());
    for (int i = 0; i < 2000; ++i) {
      std::string bytes(random() % 300, '\0');
      for (char& byte : bytes) byte = static_cast<char>(random() % 4 == 0 ? random() : random() % 8);
      HOLDS(send(room->channel.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
      if (bytes.empty()) break;  // the end, for a socket of packets
      char reply[64];
      HOLDS(recv(room->channel.get(), reply, sizeof reply, 0) == 8);
    }
    return "";
  });
}

}  // namespace
}  // namespace caisson::kernel
