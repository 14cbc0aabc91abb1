#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>

#include "harness.h"

namespace {
std::string name_of_test() { return "/caisson-" + std::to_string(getpid()) + "-" + std::to_string(now_ms()); }
mqd_t make(const std::string& name, long messages, int flags = 0) {
  mq_attr attributes{};
  attributes.mq_maxmsg = messages;
  attributes.mq_msgsize = 64;
  return OK(mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | flags, 0600, &attributes));
}
}  // namespace

TEST(mqueue, priorities_and_limits) {
  const std::string name = name_of_test();
  const mqd_t queue = make(name, 3, O_NONBLOCK);
  FAILS(mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600, nullptr), EEXIST);
  OK(mq_send(queue, "low", 3, 1));
  OK(mq_send(queue, "high", 4, 9));
  OK(mq_send(queue, "low2", 4, 1));
  FAILS(mq_send(queue, "x", 1, 0), EAGAIN);
  pollfd entry{queue, POLLIN | POLLOUT, 0};
  EQ(poll(&entry, 1, 0), 1);
  EQ(entry.revents, POLLIN);
  char text[64];
  unsigned priority = 0;
  FAILS(mq_receive(queue, text, 10, &priority), EMSGSIZE);
  EQ(mq_receive(queue, text, 64, &priority), 4);
  EQ(priority, 9);
  EQ(mq_receive(queue, text, 64, &priority), 3);
  EQ(mq_receive(queue, text, 64, &priority), 4);
  CHECK(memcmp(text, "low2", 4) == 0);
  FAILS(mq_receive(queue, text, 64, &priority), EAGAIN);
  char large[100] = {};
  FAILS(mq_send(queue, large, 100, 0), EMSGSIZE);
  mq_attr attributes{};
  OK(mq_getattr(queue, &attributes));
  EQ(attributes.mq_maxmsg, 3);
  EQ(attributes.mq_curmsgs, 0);
  OK(mq_unlink(name.c_str()));
  FAILS(mq_unlink(name.c_str()), ENOENT);
  FAILS(mq_open(name.c_str(), O_RDWR), ENOENT);
  OK(mq_send(queue, "still", 5, 0));
}

TEST(mqueue, waits_and_tells) {
  const std::string name = name_of_test();
  const mqd_t queue = make(name, 1);
  const pid_t child = start_child([&] {
    sleep_ms(30);
    OK(mq_send(queue, "late", 4, 0));
  });
  char text[64];
  EQ(mq_receive(queue, text, 64, nullptr), 4);
  EQ(wait_child(child), 0);
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  time.tv_sec += time.tv_nsec >= 950'000'000;
  time.tv_nsec = (time.tv_nsec + 50'000'000) % 1'000'000'000;
  FAILS(mq_timedreceive(queue, text, 64, nullptr, &time), ETIMEDOUT);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  OK(sigprocmask(SIG_BLOCK, &set, nullptr));
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  event.sigev_value.sival_int = 99;
  OK(mq_notify(queue, &event));
  FAILS(mq_notify(queue, &event), EBUSY);
  OK(mq_send(queue, "x", 1, 0));
  siginfo_t info{};
  EQ(sigwaitinfo(&set, &info), SIGRTMIN);
  EQ(info.si_code, SI_MESGQ);
  EQ(info.si_value.sival_int, 99);
  OK(mq_unlink(name.c_str()));
}
