// Wrong pointers, lengths and descriptors, at random, while signals interrupt. Nothing is expected of the answers but that they come.
#include <elf.h>
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

namespace {

// A program whose every byte of code stops it, and whose headers are not quite right.
struct Program {
  Elf64_Ehdr header{};
  Elf64_Phdr segments[4]{};
  uint8_t rest[8192 - sizeof(Elf64_Ehdr) - 4 * sizeof(Elf64_Phdr)];

  Program() {
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_DYN;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = 0x1000;
    header.e_phoff = sizeof header;
    header.e_ehsize = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 4;
    segments[0] = {PT_LOAD, PF_R, 0, 0, 0, 0x1000, 0x1000, 0x1000};
    segments[1] = {PT_LOAD, PF_R | PF_X, 0x1000, 0x1000, 0x1000, 0x1000, 0x1000, 0x1000};
    segments[2] = {PT_LOAD, PF_R | PF_W, 0x1000, 0x3000, 0x3000, 0x800, 0x3000, 0x1000};
    segments[3] = {PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16};
    memset(rest, 0xf4, sizeof rest);  // hlt: SIGSEGV
  }
};

}  // namespace

TEST(hostile, programs_with_wrong_headers) {
  std::mt19937_64 random(1977);
  const uint64_t values[] = {0,
                             1,
                             3,
                             0xfff,
                             0x1000,
                             0x1001,
                             0x10000,
                             0x7fffffff,
                             0x80000000,
                             0xffffffff,
                             0x7e0000000000,
                             0x7ffffffff000,
                             0x800000000000,
                             0x7fffffffffffffff,
                             0x8000000000000000,
                             0xfffffffffffff000,
                             0xffffffffffffffff};
  long started = 0, refused = 0;
  for (int round = 0; round < 300; ++round) {
    Program program;
    auto* bytes = reinterpret_cast<uint8_t*>(&program);
    constexpr size_t kHeaders = sizeof(Elf64_Ehdr) + 4 * sizeof(Elf64_Phdr);
    for (uint64_t i = 0; round != 0 && i < 1 + random() % 3; ++i) {
      const uint64_t value = random() % 4 != 0 ? values[random() % std::size(values)] : random();
      if (random() % 3 == 0)
        bytes[16 + random() % (kHeaders - 16)] = static_cast<uint8_t>(value);
      else  // of a segment's eight-byte fields, or of the header's
        memcpy(bytes + (random() % 4 == 0 ? 24 + 8 * (random() % 2) : sizeof(Elf64_Ehdr) + 8 * (random() % 28)), &value, sizeof value);
    }
    if (round % 5 == 4) program.segments[3].p_type = PT_INTERP;
    const int fd = OK(open("program", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0755));
    EQ(write(fd, &program, sizeof program), static_cast<long>(sizeof program));
    close(fd);
    const pid_t child = vfork();
    if (child == 0) {
      execl("./program", "program", nullptr);
      _exit(99);
    }
    const int status = wait_child(child);
    ++(status == 99 ? refused : started);
    if (round == 0) EQ(status, 128 + SIGSEGV);
    CHECK(status == 99 || status > 128);
  }
  unlink("program");
  CHECK(started > 10 && refused > 10);
}
