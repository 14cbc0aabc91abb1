#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <unistd.h>

#include "harness.h"

namespace {
volatile sig_atomic_t g_signals = 0;
void count_signal(int) { g_signals = g_signals + 1; }
void handle(int signal, int flags = 0) {
  struct sigaction action {};
  action.sa_handler = count_signal;
  action.sa_flags = flags;
  OK(sigaction(signal, &action, nullptr));
}
void burn(int milliseconds) {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  const int64_t until = now.tv_sec * 1000 + now.tv_nsec / 1'000'000 + milliseconds;
  const int64_t most = now_ms() + 10'000;
  do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  while (now.tv_sec * 1000 + now.tv_nsec / 1'000'000 < until && now_ms() < most);
}
}  // namespace

TEST(time, clocks) {
  for (const clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                                CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID}) {
    timespec one{}, two{}, resolution{};
    // Past the vDSO.
    OK(syscall(SYS_clock_gettime, clock, &one));
    OK(syscall(SYS_clock_gettime, clock, &two));
    CHECK(two.tv_sec > one.tv_sec || (two.tv_sec == one.tv_sec && two.tv_nsec >= one.tv_nsec));
    OK(clock_getres(clock, &resolution));
    EQ(resolution.tv_sec, 0);
  }
  timespec time{};
  FAILS(syscall(SYS_clock_gettime, 77, &time), EINVAL);
  FAILS(clock_getres(77, &time), EINVAL);
  timeval day{};
  OK(gettimeofday(&day, nullptr));
  CHECK(day.tv_sec > 1'600'000'000);
  CHECK(labs(static_cast<long>(time_t(::time(nullptr)) - day.tv_sec)) <= 1);
}

TEST(time, cpu_clocks) {
  clockid_t clock;
  EQ(clock_getcpuclockid(getpid(), &clock), 0);
  timespec before{}, after{};
  OK(clock_gettime(clock, &before));
  burn(30);
  OK(clock_gettime(clock, &after));
  const long spent = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1'000'000;
  CHECK(spent >= 20);
  struct tms times {};
  CHECK(::times(&times) > 0);
  CHECK(times.tms_utime + times.tms_stime >= 2);
  struct rusage usage {};
  OK(getrusage(RUSAGE_SELF, &usage));
  CHECK((usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000 >= 20);
}

TEST(time, nanosleep) {
  const int64_t before = now_ms();
  const timespec wanted{0, 50'000'000};
  OK(nanosleep(&wanted, nullptr));
  CHECK(now_ms() - before >= 49);
  const timespec bad{0, -1}, worse{-1, 0};
  FAILS(nanosleep(&bad, nullptr), EINVAL);
  FAILS(nanosleep(&worse, nullptr), EINVAL);
  FAILS(nanosleep(reinterpret_cast<timespec*>(8), nullptr), EFAULT);
  EQ(clock_nanosleep(77, 0, &wanted, nullptr), EINVAL);
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  now.tv_nsec += 30'000'000;
  if (now.tv_nsec >= 1'000'000'000) {
    now.tv_nsec -= 1'000'000'000;
    ++now.tv_sec;
  }
  EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &now, nullptr), 0);
  timespec then{};
  clock_gettime(CLOCK_REALTIME, &then);
  CHECK(then.tv_sec > now.tv_sec || then.tv_nsec >= now.tv_nsec);
}

TEST(time, interrupted_sleep_tells_what_is_left) {
  handle(SIGUSR1, SA_RESTART);
  const pid_t self = getpid();
  const pid_t child = start_child([&] {
    sleep_ms(50);
    kill(self, SIGUSR1);
  });
  const timespec wanted{10, 0};
  timespec left{};
  FAILS(nanosleep(&wanted, &left), EINTR);
  CHECK(left.tv_sec == 9);
  EQ(wait_child(child), 0);
}

TEST(time, sleep_goes_on_after_stop_and_continue) {
  const pid_t child = start_child([] {
    const int64_t before = now_ms();
    const timespec wanted{0, 300'000'000};
    OK(nanosleep(&wanted, nullptr));
    CHECK(now_ms() - before >= 299);
    CHECK(now_ms() - before < 3000);
  });
  sleep_ms(50);
  OK(kill(child, SIGSTOP));
  int status = 0;
  EQ(waitpid(child, &status, WUNTRACED), child);
  CHECK(WIFSTOPPED(status));
  OK(kill(child, SIGCONT));
  EQ(wait_child(child), 0);
}

TEST(time, alarm_and_itimer) {
  handle(SIGALRM);
  EQ(alarm(100), 0);
  EQ(alarm(1), 100);
  EQ(alarm(0), 1);
  const itimerval wanted{{0, 20'000}, {0, 20'000}};
  itimerval old{};
  OK(setitimer(ITIMER_REAL, &wanted, &old));
  EQ(old.it_value.tv_sec, 0);
  while (g_signals < 5) pause();
  OK(getitimer(ITIMER_REAL, &old));
  EQ(old.it_interval.tv_usec, 20'000);
  CHECK(old.it_value.tv_usec <= 20'000);
  const itimerval off{};
  OK(setitimer(ITIMER_REAL, &off, nullptr));
  const int after = g_signals;
  sleep_ms(60);
  EQ(g_signals, after);
  FAILS(setitimer(9, &off, nullptr), EINVAL);
  const itimerval bad{{0, 0}, {0, 1'000'000}};
  FAILS(setitimer(ITIMER_REAL, &bad, nullptr), EINVAL);
}

TEST(time, cpu_itimers) {
  handle(SIGVTALRM);
  handle(SIGPROF);
  const itimerval wanted{{0, 0}, {0, 30'000}};
  OK(setitimer(ITIMER_PROF, &wanted, nullptr));
  sleep_ms(100);
  EQ(g_signals, 0);
  burn(100);
  EQ(g_signals, 1);
}

namespace {
volatile sig_atomic_t g_from = 0;  // signals that came to another thread than the worker
pthread_t g_worker;
void count_elsewhere(int) {
  if (pthread_equal(pthread_self(), g_worker) == 0)
    g_from = g_from + 1;
  else
    g_signals = g_signals + 1;
}
int64_t thread_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}
// Burns CPU time of its own thread; two idle ones are there, too, one of them main.
void* burn_thread(void* milliseconds) {
  const int64_t until = thread_time() + reinterpret_cast<intptr_t>(milliseconds), most = now_ms() + 10'000;
  while (thread_time() < until && now_ms() < most)
    for (int i = 0; i < 100'000; ++i) asm volatile("");
  return nullptr;
}
}  // namespace

// A profiler's signal comes to the thread that runs (run_posix_cpu_timers).
TEST(time, cpu_itimer_tells_who_works) {
  struct sigaction action {};
  action.sa_handler = count_elsewhere;
  action.sa_flags = SA_RESTART;
  OK(sigaction(SIGPROF, &action, nullptr));
  pthread_barrier_t begin;
  pthread_barrier_init(&begin, nullptr, 2);
  pthread_t idle;
  EQ(pthread_create(
         &idle, nullptr,
         [](void*) -> void* {
           for (;;) pause();
         },
         nullptr),
     0);
  EQ(pthread_create(
         &g_worker, nullptr,
         [](void* barrier) -> void* {
           pthread_barrier_wait(static_cast<pthread_barrier_t*>(barrier));
           return burn_thread(reinterpret_cast<void*>(400));
         },
         &begin),
     0);
  const itimerval wanted{{0, 10'000}, {0, 10'000}};
  OK(setitimer(ITIMER_PROF, &wanted, nullptr));
  pthread_barrier_wait(&begin);
  EQ(pthread_join(g_worker, nullptr), 0);
  const itimerval off{};
  OK(setitimer(ITIMER_PROF, &off, nullptr));
  // A busy machine's ticks may miss who runs for less than one at a time.
  if (g_signals + g_from < 10) skip_test("the machine is too busy to count CPU time");
  CHECK(g_signals >= 3 * g_from);
}

// A timer of one thread's CPU time does not count what others use.
TEST(time, cpu_timer_of_one_thread) {
  handle(SIGUSR1);
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  timer_t timer;
  OK(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer));
  const itimerspec wanted{{0, 0}, {0, 50'000'000}};
  OK(timer_settime(timer, 0, &wanted, nullptr));
  pthread_t worker;
  EQ(pthread_create(&worker, nullptr, burn_thread, reinterpret_cast<void*>(150)), 0);
  EQ(pthread_join(worker, nullptr), 0);
  EQ(g_signals, 0);
  itimerspec left{};
  OK(timer_gettime(timer, &left));
  CHECK(left.it_value.tv_nsec > 10'000'000);
  burn_thread(reinterpret_cast<void*>(200));
  EQ(g_signals, 1);
}

TEST(time, posix_timers) {
  handle(SIGRTMIN + 1);
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN + 1;
  event.sigev_value.sival_int = 4711;
  timer_t timer;
  OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
  itimerspec now{};
  OK(timer_gettime(timer, &now));
  EQ(now.it_value.tv_nsec, 0);
  const itimerspec wanted{{0, 10'000'000}, {0, 10'000'000}};
  OK(timer_settime(timer, 0, &wanted, nullptr));
  while (g_signals < 3) pause();
  OK(timer_delete(timer));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  OK(sigprocmask(SIG_BLOCK, &set, nullptr));
  OK(timer_create(CLOCK_REALTIME, &event, &timer));
  const itimerspec once{{0, 0}, {0, 10'000'000}};
  OK(timer_settime(timer, 0, &once, nullptr));
  siginfo_t info{};
  EQ(sigwaitinfo(&set, &info), SIGRTMIN + 1);
  EQ(info.si_code, SI_TIMER);
  EQ(info.si_value.sival_int, 4711);
  EQ(timer_getoverrun(timer), 0);
  OK(timer_delete(timer));
  FAILS(syscall(SYS_timer_delete, 12345), EINVAL);
  FAILS(syscall(SYS_timer_create, 99, nullptr, &timer), EINVAL);
}

TEST(time, timerfd) {
  const int fd = OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  uint64_t ticks = 0;
  FAILS(read(fd, &ticks, 8), EAGAIN);
  const itimerspec wanted{{0, 10'000'000}, {0, 30'000'000}};
  OK(timerfd_settime(fd, 0, &wanted, nullptr));
  pollfd entry{fd, POLLIN, 0};
  const int64_t before = now_ms();
  EQ(poll(&entry, 1, 5000), 1);
  CHECK(now_ms() - before >= 28);
  sleep_ms(50);
  EQ(read(fd, &ticks, 8), 8);
  CHECK(ticks >= 5);
  itimerspec now{};
  OK(timerfd_gettime(fd, &now));
  EQ(now.it_interval.tv_nsec, 10'000'000);
  CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10'000'000);
  const itimerspec off{};
  OK(timerfd_settime(fd, 0, &off, nullptr));
  EQ(poll(&entry, 1, 30), 0);
  FAILS(timerfd_create(77, 0), EINVAL);
  FAILS(timerfd_create(CLOCK_MONOTONIC, 0x1234), EINVAL);
  const itimerspec bad{{0, 0}, {0, 1'000'000'000}};
  FAILS(timerfd_settime(fd, 0, &bad, nullptr), EINVAL);
}

TEST(time, timerfd_absolute_and_blocking) {
  const int fd = OK(timerfd_create(CLOCK_REALTIME, 0));
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  itimerspec wanted{};
  wanted.it_value = now;
  wanted.it_value.tv_nsec += 40'000'000;
  if (wanted.it_value.tv_nsec >= 1'000'000'000) {
    wanted.it_value.tv_nsec -= 1'000'000'000;
    ++wanted.it_value.tv_sec;
  }
  OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &wanted, nullptr));
  const int64_t before = now_ms();
  uint64_t ticks = 0;
  EQ(read(fd, &ticks, 8), 8);
  EQ(ticks, 1);
  CHECK(now_ms() - before >= 35);
}

TEST(time, timers_and_fork) {
  handle(SIGALRM);
  const itimerval wanted{{0, 0}, {0, 50'000}};
  OK(setitimer(ITIMER_REAL, &wanted, nullptr));
  EQ(in_child([] {
       itimerval now{};
       OK(getitimer(ITIMER_REAL, &now));
       EQ(now.it_value.tv_usec, 0);
     }),
     0);
  while (g_signals == 0) pause();
}

// Whatever one may not do to it. (A guest's question must not reach a call that ends its kernel: found by tests/guest/fuzz.)
TEST(time, clock_state_is_readable) {
  timex state{};
  CHECK(syscall(SYS_adjtimex, &state) >= 0);
  CHECK(state.tick > 0);
  timex again{};
  CHECK(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &again) >= 0);
  EQ(again.tick, state.tick);
  FAILS(syscall(SYS_adjtimex, nullptr), EFAULT);
}
