// Wrong pointers, lengths and descriptors, at random, while signals interrupt. Nothing is expected of the answers but that they come.
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>

#include <array>
#include <random>
#include <vector>

#include "harness.h"

namespace {

// Calls that reach nothing outside of the process (System V objects are the whole machine's) and cannot end it.
constexpr std::array kCalls = {
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_poll,
    SYS_ppoll,
    SYS_select,
    SYS_pselect6,
    SYS_epoll_wait,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_signalfd4,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_pipe2,
    SYS_socketpair,
    SYS_socket,
    SYS_connect,
    SYS_accept4,
    SYS_sendto,
    SYS_recvfrom,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_sendmmsg,
    SYS_recvmmsg,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_getsockname,
    SYS_getpeername,
    SYS_shutdown,
    SYS_listen,
    SYS_sendfile,
    SYS_splice,
    SYS_tee,
    SYS_vmsplice,
    SYS_copy_file_range,
    SYS_timer_settime,
    SYS_timer_gettime,
    SYS_mq_timedreceive,
    SYS_mq_getsetattr,
    SYS_memfd_create,
    SYS_getrandom,
    SYS_nanosleep,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_sched_getaffinity,
    SYS_times,
    SYS_sysinfo,
    SYS_getitimer,
    SYS_get_robust_list,
    SYS_pidfd_getfd,
};

}  // namespace

TEST(hostile, random_arguments) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  OK(sigaction(SIGALRM, &action, nullptr));
  signal(SIGPIPE, SIG_IGN);
  const itimerval often{{0, 2000}, {0, 2000}};
  OK(setitimer(ITIMER_REAL, &often, nullptr));
  std::mt19937_64 random(4711);
  char* page = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK(page != MAP_FAILED);
  OK(mprotect(page + 4096, 4096, PROT_NONE));
  std::vector<int> fds;
  auto open_some = [&] {
    for (const int fd : fds) close(fd);
    for (int fd = 3; fd < 200; ++fd) close(fd);
    fds.clear();
    int two[2];
    OK(pipe2(two, random() % 2 ? O_NONBLOCK : 0));
    fds.insert(fds.end(), {two[0], two[1]});
    for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
      OK(socketpair(AF_UNIX, type, 0, two));
      fds.insert(fds.end(), {two[0], two[1]});
    }
    fds.push_back(OK(epoll_create1(0)));
    fds.push_back(OK(eventfd(0, EFD_NONBLOCK)));
    fds.push_back(OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)));
    fds.push_back(OK(memfd_create("m", 0)));
    const int udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp >= 0) fds.push_back(udp);
  };
  const std::array<uint64_t, 14> numbers = {0,     1,          2,          8,          16,         100,   4096,
                                            65537, 0x7fffffff, 0x80000000, 0xffffffff, 1ULL << 47, ~0ULL, 1ULL << 63};
  for (int i = 0; i < 6000; ++i) {
    if (i % 200 == 0) open_some();
    if (i % 20 == 0)
      for (int j = 0; j < 4096; j += 8) {
        const uint64_t value = random() % 3 == 0 ? reinterpret_cast<uint64_t>(page) + random() % 4096 : numbers[random() % numbers.size()];
        memcpy(page + j, &value, 8);
      }
    uint64_t arguments[6];
    for (int a = 0; a < 6; ++a) switch (random() % 5) {
        case 0:
          arguments[a] = static_cast<uint64_t>(fds[random() % fds.size()]);
          break;
        case 1:
          arguments[a] = reinterpret_cast<uint64_t>(page) + 4096 - random() % 64;
          break;
        case 2:
          arguments[a] = reinterpret_cast<uint64_t>(page) + random() % 4096 / 8 * 8;
          break;
        default:
          arguments[a] = numbers[random() % numbers.size()];
      }
    if (random() % 2) arguments[0] = static_cast<uint64_t>(fds[random() % fds.size()]);
    const long number = kCalls[random() % kCalls.size()];
    const bool closes_output = arguments[0] <= 2 && number != SYS_getrandom;
    if (closes_output) arguments[0] = static_cast<uint64_t>(fds[0]);
    // splice and sendfile may name standard output in another place.
    if (arguments[2] <= 2) arguments[2] = 77;
    if (arguments[1] <= 2 && (number == SYS_tee)) arguments[1] = 77;
    syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
  }
  const itimerval off{};
  OK(setitimer(ITIMER_REAL, &off, nullptr));
  // What the kernel does is still right.
  int two[2];
  for (const int fd : fds) close(fd);
  OK(pipe(two));
  EQ(write(two[1], "fine", 4), 4);
  char text[8];
  EQ(read(two[0], text, 8), 4);
}
