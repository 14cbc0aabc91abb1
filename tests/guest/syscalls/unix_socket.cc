#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <vector>

#include "sockets.h"

namespace {

struct Name {
  sockaddr_un address{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};
Name path_name(const char* path) {
  Name name;
  name.address.sun_family = AF_UNIX;
  strcpy(name.address.sun_path, path);
  name.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + strlen(path) + 1);
  return name;
}
Name abstract_name(const std::string& text) {
  Name name;
  name.address.sun_family = AF_UNIX;
  memcpy(name.address.sun_path + 1, text.data(), text.size());
  name.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return name;
}
std::string unique_name() { return "caisson-test-" + std::to_string(getpid()) + "-" + std::to_string(now_ms()); }
struct Pair {
  int a, b;
  explicit Pair(int type) {
    int fds[2];
    OK(socketpair(AF_UNIX, type, 0, fds));
    a = fds[0];
    b = fds[1];
  }
};
std::string read_some(int fd, size_t size, int flags = 0) {
  std::string text(size, '\0');
  text.resize(static_cast<size_t>(OK(recv(fd, text.data(), size, flags))));
  return text;
}
}  // namespace

TEST(unix, stream_pair) {
  Pair p(SOCK_STREAM);
  EQ(write(p.a, "hello ", 6), 6);
  EQ(send(p.a, "world", 5, 0), 5);
  CHECK(read_some(p.b, 5, MSG_PEEK) == "hello");
  int bytes = 0;
  OK(ioctl(p.b, FIONREAD, &bytes));
  EQ(bytes, 11);
  CHECK(read_some(p.b, 100) == "hello world");
  char byte;
  FAILS(recv(p.b, &byte, 1, MSG_DONTWAIT), EAGAIN);
  OK(shutdown(p.a, SHUT_WR));
  EQ(read_some(p.b, 10).size(), 0);
  FAILS(send(p.a, "x", 1, MSG_NOSIGNAL), EPIPE);
  EQ(write(p.b, "back", 4), 4);
  CHECK(read_some(p.a, 10) == "back");
  close(p.b);
  EQ(read_some(p.a, 10).size(), 0);
}

TEST(unix, broken_pipe_and_reset) {
  Pair p(SOCK_STREAM);
  EQ(write(p.a, "unread", 6), 6);
  close(p.b);
  char byte;
  FAILS(read(p.a, &byte, 1), ECONNRESET);
  EQ(read(p.a, &byte, 1), 0);
  FAILS(send(p.a, "x", 1, MSG_NOSIGNAL), EPIPE);
  EQ(in_child([&] { (void)!write(p.a, "x", 1); }), 128 + SIGPIPE);
}

TEST(unix, much_data_both_ways) {
  Pair p(SOCK_STREAM);
  const size_t size = 2'000'000;
  const pid_t child = start_child([&] {
    std::vector<char> data(size, 'q');
    EQ(write(p.b, data.data(), size), size);
    size_t got = 0;
    while (got < size) got += static_cast<size_t>(OK(read(p.b, data.data(), data.size())));
  });
  std::vector<char> data(size);
  EQ(recv(p.a, data.data(), size, MSG_WAITALL), size);
  for (const char letter : data) CHECK(letter == 'q');
  EQ(write(p.a, data.data(), size), size);
  EQ(wait_child(child), 0);
}

TEST(unix, server_on_a_path) {
  const int server = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Name name = path_name("server.sock");
  OK(bind(server, name.get(), name.length));
  struct stat stat;
  OK(::stat("server.sock", &stat));
  CHECK(S_ISSOCK(stat.st_mode));
  const int early = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  FAILS(connect(early, name.get(), name.length), ECONNREFUSED);
  OK(listen(server, 5));
  FAILS(bind(OK(socket(AF_UNIX, SOCK_STREAM, 0)), name.get(), name.length), EADDRINUSE);
  const pid_t child = start_child([&] {
    const int client = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(connect(client, name.get(), name.length));
    FAILS(connect(client, name.get(), name.length), EISCONN);
    EQ(write(client, "ask", 3), 3);
    CHECK(read_some(client, 10) == "answer");
    ucred who{};
    socklen_t length = sizeof who;
    OK(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &length));
    EQ(who.pid, getppid());
    sockaddr_un peer{};
    length = sizeof peer;
    OK(getpeername(client, reinterpret_cast<sockaddr*>(&peer), &length));
    CHECK(strcmp(peer.sun_path, "server.sock") == 0);
    EQ(length, name.length);
  });
  sockaddr_un from{};
  socklen_t length = sizeof from;
  const int connection = OK(accept4(server, reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC));
  EQ(length, sizeof(sa_family_t));
  EQ(fcntl(connection, F_GETFD), FD_CLOEXEC);
  ucred who{};
  length = sizeof who;
  OK(getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &who, &length));
  EQ(who.pid, child);
  EQ(who.uid, getuid());
  CHECK(read_some(connection, 10) == "ask");
  EQ(write(connection, "answer", 6), 6);
  EQ(wait_child(child), 0);
  close(server);
  FAILS(connect(early, name.get(), name.length), ECONNREFUSED);
  OK(unlink("server.sock"));
  FAILS(connect(early, name.get(), name.length), ENOENT);
}

TEST(unix, abstract_names) {
  const int server = OK(socket(AF_UNIX, SOCK_STREAM, 0)), client = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  const Name name = abstract_name(unique_name());
  OK(bind(server, name.get(), name.length));
  FAILS(bind(client, name.get(), name.length), EADDRINUSE);
  FAILS(bind(server, name.get(), name.length), EINVAL);
  OK(listen(server, 1));
  OK(connect(client, name.get(), name.length));
  sockaddr_un address{};
  socklen_t length = sizeof address;
  OK(getpeername(client, reinterpret_cast<sockaddr*>(&address), &length));
  EQ(length, name.length);
  CHECK(memcmp(&address, &name.address, length) == 0);
  pollfd entry{server, POLLIN, 0};
  EQ(poll(&entry, 1, 0), 1);
  close(server);
  char byte;
  FAILS(read(client, &byte, 1), ECONNRESET);
  // A name for the asking.
  const int automatic = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
  OK(bind(automatic, name.get(), sizeof(sa_family_t)));
  length = sizeof address;
  OK(getsockname(automatic, reinterpret_cast<sockaddr*>(&address), &length));
  EQ(length, sizeof(sa_family_t) + 6);
  EQ(address.sun_path[0], 0);
}

TEST(unix, backlog) {
  const int server = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  const Name name = abstract_name(unique_name());
  OK(bind(server, name.get(), name.length));
  OK(listen(server, 1));
  for (int i = 0; i < 2; ++i) OK(connect(OK(socket(AF_UNIX, SOCK_STREAM, 0)), name.get(), name.length));
  FAILS(connect(OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)), name.get(), name.length), EAGAIN);
  const pid_t child = start_child([&] { OK(connect(OK(socket(AF_UNIX, SOCK_STREAM, 0)), name.get(), name.length)); });
  sleep_ms(30);
  for (int i = 0; i < 3; ++i) OK(accept(server, nullptr, nullptr));
  EQ(wait_child(child), 0);
}

TEST(unix, datagrams) {
  const int a = OK(socket(AF_UNIX, SOCK_DGRAM, 0)), b = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
  const Name name = path_name("a.sock"), other = path_name("b.sock");
  OK(bind(a, name.get(), name.length));
  OK(bind(b, other.get(), other.length));
  EQ(sendto(b, "one", 3, 0, name.get(), name.length), 3);
  EQ(sendto(b, "second", 6, 0, name.get(), name.length), 6);
  EQ(sendto(b, "", 0, 0, name.get(), name.length), 0);
  sockaddr_un from{};
  socklen_t length = sizeof from;
  char text[10];
  EQ(recvfrom(a, text, sizeof text, 0, reinterpret_cast<sockaddr*>(&from), &length), 3);
  CHECK(strcmp(from.sun_path, "b.sock") == 0);
  EQ(recv(a, text, 2, MSG_TRUNC), 6);
  EQ(recv(a, text, 2, 0), 0);
  FAILS(recv(a, text, 2, MSG_DONTWAIT), EAGAIN);
  FAILS(send(b, "x", 1, 0), ENOTCONN);
  OK(connect(b, name.get(), name.length));
  EQ(send(b, "x", 1, 0), 1);
  OK(connect(a, other.get(), other.length));
  const int c = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
  FAILS(sendto(c, "x", 1, 0, name.get(), name.length), EPERM);
  std::vector<char> huge(10'000'000);
  FAILS(send(b, huge.data(), huge.size(), 0), EMSGSIZE);
  close(a);
  FAILS(send(b, "x", 1, 0), ECONNREFUSED);
}

TEST(unix, datagrams_wait_for_room) {
  Pair p(SOCK_DGRAM);
  std::vector<char> block(1000);
  int sent = 0;
  while (send(p.a, block.data(), block.size(), MSG_DONTWAIT) > 0) ++sent;
  EQ(errno, EAGAIN);
  CHECK(sent >= 10);
  pollfd entry{p.a, POLLOUT, 0};
  EQ(poll(&entry, 1, 0), 0);
  const pid_t child = start_child([&] {
    sleep_ms(30);
    for (int i = 0; i < sent; ++i) EQ(recv(p.b, block.data(), block.size(), 0), 1000);
  });
  EQ(poll(&entry, 1, 5000), 1);
  EQ(send(p.a, block.data(), block.size(), 0), 1000);
  EQ(wait_child(child), 0);
}

TEST(unix, sequenced_packets) {
  Pair p(SOCK_SEQPACKET);
  EQ(write(p.a, "first", 5), 5);
  EQ(write(p.a, "next", 4), 4);
  const Received one = receive(p.b, 3);
  CHECK(one.text == "fir");
  CHECK((one.flags & MSG_TRUNC) != 0);
  const Received two = receive(p.b);
  CHECK(two.text == "next");
  EQ(two.flags, 0);
  close(p.a);
  EQ(read_some(p.b, 10).size(), 0);
}

TEST(unix, passes_descriptors) {
  Pair p(SOCK_STREAM);
  int fds[2];
  OK(pipe(fds));
  const pid_t child = start_child([&] {
    close(fds[0]);
    close(fds[1]);
    const Received received = receive(p.b, 100, MSG_CMSG_CLOEXEC);
    CHECK(received.text == "two");
    EQ(received.fds.size(), 2);
    EQ(fcntl(received.fds[0], F_GETFD), FD_CLOEXEC);
    EQ(write(received.fds[1], "through", 7), 7);
  });
  send_fds(p.a, {fds[0], fds[1]}, "two");
  EQ(wait_child(child), 0);
  char text[10];
  EQ(read(fds[0], text, 10), 7);
}

TEST(unix, descriptors_live_in_flight) {
  Pair p(SOCK_STREAM);
  int fds[2];
  OK(pipe(fds));
  send_fds(p.a, {fds[1]}, "x");
  close(fds[1]);
  pollfd entry{fds[0], POLLIN, 0};
  EQ(poll(&entry, 1, 0), 0);
  close(p.b);
  close(p.a);
  EQ(poll(&entry, 1, 1000), 1);
  EQ(entry.revents, POLLHUP);
}

TEST(unix, descriptors_divide_a_stream) {
  Pair p(SOCK_STREAM);
  const int file = OK(open("file", O_CREAT | O_RDWR, 0600));
  EQ(write(p.a, "before", 6), 6);
  send_fds(p.a, {file}, "with");
  EQ(write(p.a, "after", 5), 5);
  Received received = receive(p.b);
  CHECK(received.text == "beforewith");
  EQ(received.fds.size(), 1);
  received = receive(p.b);
  CHECK(received.text == "after");
}

TEST(unix, no_room_for_descriptors) {
  Pair p(SOCK_STREAM);
  const int file = OK(open("file", O_CREAT | O_RDWR, 0600));
  send_fds(p.a, {file, file, file}, "a");
  const Received received = receive(p.b, 10, 0, CMSG_LEN(sizeof(int)));
  EQ(received.fds.size(), 1);
  CHECK((received.flags & MSG_CTRUNC) != 0);
  send_fds(p.a, {file}, "b");
  const Received none = receive(p.b, 10, 0, 0);
  EQ(none.fds.size(), 0);
  CHECK((none.flags & MSG_CTRUNC) != 0);
}

TEST(unix, nested_descriptors_end) {
  // A chain of sockets, each in flight in the next: closing the last must not exhaust a stack.
  int last = -1;
  for (int i = 0; i < 800; ++i) {
    Pair p(SOCK_STREAM);
    if (last >= 0) {
      send_fds(p.a, {last}, "x");
      close(last);
    }
    close(p.a);
    last = p.b;
  }
  close(last);
}

TEST(unix, credentials) {
  Pair p(SOCK_STREAM);
  const int on = 1;
  OK(setsockopt(p.b, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  EQ(write(p.a, "x", 1), 1);
  const Received received = receive(p.b);
  CHECK(received.has_who);
  EQ(received.who.pid, getpid());
  EQ(received.who.uid, getuid());
}

TEST(unix, timeouts) {
  Pair p(SOCK_STREAM);
  const timeval time{0, 50'000};
  OK(setsockopt(p.a, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
  char byte;
  const int64_t before = now_ms();
  FAILS(read(p.a, &byte, 1), EAGAIN);
  CHECK(now_ms() - before >= 45 && now_ms() - before < 3000);
  timeval back{};
  socklen_t length = sizeof back;
  OK(getsockopt(p.a, SOL_SOCKET, SO_RCVTIMEO, &back, &length));
  EQ(back.tv_usec / 10'000, 5);
  OK(setsockopt(p.a, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time));
  std::vector<char> much(4'000'000);
  CHECK(send(p.a, much.data(), much.size(), 0) < static_cast<ssize_t>(much.size()));
  FAILS(send(p.a, much.data(), much.size(), 0), EAGAIN);
}

TEST(unix, options_and_errors) {
  Pair p(SOCK_STREAM);
  int value = 0;
  socklen_t length = sizeof value;
  OK(getsockopt(p.a, SOL_SOCKET, SO_TYPE, &value, &length));
  EQ(value, SOCK_STREAM);
  OK(getsockopt(p.a, SOL_SOCKET, SO_DOMAIN, &value, &length));
  EQ(value, AF_UNIX);
  OK(getsockopt(p.a, SOL_SOCKET, SO_ERROR, &value, &length));
  EQ(value, 0);
  FAILS(listen(p.a, 1), EINVAL);
  FAILS(accept(p.a, nullptr, nullptr), EINVAL);
  FAILS(socket(AF_UNIX, 77, 0), EINVAL);
  FAILS(socket(AF_UNIX, SOCK_STREAM, 55), EPROTONOSUPPORT);
  FAILS(socket(12345, SOCK_STREAM, 0), EAFNOSUPPORT);
  const int file = OK(open("file", O_CREAT | O_RDWR, 0600));
  FAILS(send(file, "x", 1, 0), ENOTSOCK);
  FAILS(shutdown(p.a, 9), EINVAL);
  FAILS(recv(p.a, reinterpret_cast<void*>(8), 0x7fffffff, MSG_DONTWAIT), EAGAIN);
  EQ(write(p.b, "x", 1), 1);
  FAILS(recv(p.a, reinterpret_cast<void*>(8), 10, MSG_DONTWAIT), EFAULT);
  const Name none = path_name("nothing");
  FAILS(connect(OK(socket(AF_UNIX, SOCK_STREAM, 0)), none.get(), none.length), ENOENT);
  FAILS(connect(OK(socket(AF_UNIX, SOCK_STREAM, 0)), none.get(), 1), EINVAL);
  const Name plain = path_name("file");
  FAILS(connect(OK(socket(AF_UNIX, SOCK_STREAM, 0)), plain.get(), plain.length), ECONNREFUSED);
  FAILS(bind(OK(socket(AF_UNIX, SOCK_STREAM, 0)), plain.get(), plain.length), EADDRINUSE);
}

TEST(unix, poll_states) {
  Pair p(SOCK_STREAM);
  pollfd entry{p.a, POLLIN | POLLOUT | POLLRDHUP, 0};
  EQ(poll(&entry, 1, 0), 1);
  EQ(entry.revents, POLLOUT);
  OK(shutdown(p.b, SHUT_WR));
  EQ(poll(&entry, 1, 0), 1);
  EQ(entry.revents, POLLIN | POLLOUT | POLLRDHUP);
  close(p.b);
  EQ(poll(&entry, 1, 0), 1);
  EQ(entry.revents, POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  pollfd fresh{OK(socket(AF_UNIX, SOCK_STREAM, 0)), POLLIN | POLLOUT, 0};
  EQ(poll(&fresh, 1, 0), 1);
  EQ(fresh.revents, POLLOUT | POLLHUP);
}

TEST(unix, many_messages_at_once) {
  Pair p(SOCK_DGRAM);
  char texts[3][4] = {"aa", "bbb", "c"};
  mmsghdr out[3]{}, in[5]{};
  iovec vectors[3], room[5];
  char got[5][8];
  for (int i = 0; i < 3; ++i) {
    vectors[i] = {texts[i], strlen(texts[i])};
    out[i].msg_hdr.msg_iov = &vectors[i];
    out[i].msg_hdr.msg_iovlen = 1;
  }
  for (int i = 0; i < 5; ++i) {
    room[i] = {got[i], 8};
    in[i].msg_hdr.msg_iov = &room[i];
    in[i].msg_hdr.msg_iovlen = 1;
  }
  EQ(sendmmsg(p.a, out, 3, 0), 3);
  EQ(out[1].msg_len, 3);
  EQ(recvmmsg(p.b, in, 5, MSG_WAITFORONE, nullptr), 3);
  EQ(in[0].msg_len, 2);
  EQ(in[2].msg_len, 1);
}

TEST(unix, answers_for_network_devices) {
  const int fd = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  OK(ioctl(fd, SIOCGIFINDEX, &request));
  CHECK(request.ifr_ifindex > 0);
  OK(ioctl(fd, SIOCGIFNAME, &request));
  CHECK(strcmp(request.ifr_name, "lo") == 0);
  FAILS(ioctl(fd, SIOCGIFADDR, &request), ENOTTY);
}
