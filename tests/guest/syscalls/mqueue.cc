#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <set>

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

// mq_overview(7), "Mounting the message queue filesystem".
TEST(mqueue, file_system) {
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC) != 0) skip_test("may not make namespaces");
  OK(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  OK(mkdir("queues", 0755));
  OK(mount("queues", "queues", "mqueue", 0, nullptr));
  const mqd_t queue = make("/first", 3);
  OK(mq_send(queue, "12345", 5, 0));
  OK(mq_send(queue, "678", 3, 1));
  const int file = OK(open("queues/first", O_RDONLY));
  char text[128] = {};
  EQ(read(file, text, sizeof text), static_cast<ssize_t>(strlen("QSIZE:8          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n")));
  EQ(strcmp(text, "QSIZE:8          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n"), 0);
  EQ(read(file, text, sizeof text), 0);
  // It is the queue itself.
  EQ(mq_receive(file, text, 64, nullptr), 3);
  struct stat status;
  OK(stat("queues/first", &status));
  EQ(status.st_size, 80);
  EQ(status.st_mode, S_IFREG | 0600);
  OK(chmod("queues/first", 0640));
  OK(fstat(file, &status));
  EQ(status.st_mode & 07777, 0640);
  OK(stat("queues", &status));
  EQ(status.st_mode, S_IFDIR | 01777);
  // Made as a file, with what the namespace gives queues.
  close(OK(open("queues/second", O_CREAT | O_EXCL | O_RDWR, 0600)));
  const mqd_t second = OK(mq_open("/second", O_RDWR));
  mq_attr attributes{};
  OK(mq_getattr(second, &attributes));
  EQ(attributes.mq_maxmsg, 10);
  FAILS(mkdir("queues/folder", 0755), EPERM);
  std::set<std::string> names;
  DIR* folder = opendir("queues");
  CHECK(folder != nullptr);
  while (const dirent* entry = readdir(folder)) names.insert(entry->d_name);
  closedir(folder);
  CHECK((names == std::set<std::string>{".", "..", "first", "second"}));
  OK(unlink("queues/first"));
  FAILS(mq_open("/first", O_RDWR), ENOENT);
  OK(mq_unlink("/second"));
  FAILS(stat("queues/second", &status), ENOENT);
  OK(close(file));
  OK(mq_close(queue));
  OK(mq_close(second));
  OK(umount("queues"));
}

// getrlimit(2), RLIMIT_MSGQUEUE: bytes of all queues of a user.
TEST(mqueue, bytes_of_a_user) {
  if (unshare(CLONE_NEWIPC) != 0) skip_test("may not make namespaces");
  EQ(in_child([] {
       const rlimit most{30'000, 30'000};
       OK(setrlimit(RLIMIT_MSGQUEUE, &most));
       OK(setresgid(1000, 1000, 1000));
       OK(setresuid(4321, 4321, 4321));
       mq_attr attributes{};
       attributes.mq_maxmsg = 10;
       attributes.mq_msgsize = 2048;
       const mqd_t first = OK(mq_open("/first", O_RDWR | O_CREAT | O_EXCL, 0600, &attributes));
       FAILS(mq_open("/second", O_RDWR | O_CREAT | O_EXCL, 0600, &attributes), EMFILE);
       OK(mq_unlink("/first"));
       FAILS(mq_open("/second", O_RDWR | O_CREAT | O_EXCL, 0600, &attributes), EMFILE);
       OK(mq_close(first));
       OK(mq_open("/second", O_RDWR | O_CREAT | O_EXCL, 0600, &attributes));
       OK(mq_unlink("/second"));
     }),
     0);
}
