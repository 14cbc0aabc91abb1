// Policies, nice values, priorities of input and output, personalities: sched(7), ioprio_set(2), personality(2).
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <atomic>

#include "base/io_priority.h"
#include "harness.h"

namespace {

int policy_of(pid_t pid) { return static_cast<int>(OK(sched_getscheduler(pid))); }

int set_policy(pid_t pid, int policy, int priority = 0) {
  const sched_param param{priority};
  return sched_setscheduler(pid, policy, &param);
}

struct Attributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

std::string machine() {
  utsname names;
  OK(uname(&names));
  return names.machine;
}

}  // namespace

TEST(sched, nice_of_a_thread) {
  const int before = getpriority(PRIO_PROCESS, 0);
  pthread_t thread;
  static std::atomic<pid_t> tid;
  tid = 0;
  OK(pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        OK(setpriority(PRIO_PROCESS, 0, 17));  // its own, not the process's
        tid = static_cast<pid_t>(syscall(SYS_gettid));
        while (tid != 0) sched_yield();
        return nullptr;
      },
      nullptr));
  CHECK(becomes_true([] { return tid != 0; }));
  errno = 0;
  OK(getpriority(PRIO_PROCESS, static_cast<id_t>(tid.load())));
  EQ(errno, 0);
  EQ(getpriority(PRIO_PROCESS, 0), before);
  OK(setpriority(PRIO_PROCESS, static_cast<id_t>(tid.load()), 18));
  EQ(getpriority(PRIO_PROCESS, static_cast<id_t>(getpid())), before);
  FAILS(getpriority(PRIO_PROCESS, 999'999), ESRCH);
  tid = 0;
  OK(pthread_join(thread, nullptr));
}

TEST(sched, policies) {
  EQ(policy_of(0), SCHED_OTHER);
  OK(set_policy(0, SCHED_BATCH));
  EQ(policy_of(0), SCHED_BATCH);
  EQ(in_child([] { EQ(policy_of(0), SCHED_BATCH); }), 0);
  OK(set_policy(0, SCHED_OTHER));
  FAILS(set_policy(0, SCHED_BATCH, 1), EINVAL);
  FAILS(set_policy(0, SCHED_FIFO, 0), EINVAL);
  FAILS(set_policy(0, 77), EINVAL);
  FAILS(set_policy(999'999, SCHED_BATCH), ESRCH);
  FAILS(sched_getscheduler(-1), EINVAL);
  EQ(policy_of(0), SCHED_OTHER);
}

TEST(sched, policy_of_another) {
  int go[2];
  OK(pipe(go));
  const pid_t child = start_child([&] {
    char byte;
    close(go[1]);
    EQ(read(go[0], &byte, 1), 0);
    EQ(policy_of(0), SCHED_IDLE);
  });
  close(go[0]);
  OK(set_policy(child, SCHED_IDLE));
  EQ(policy_of(child), SCHED_IDLE);
  EQ(policy_of(0), SCHED_OTHER);
  close(go[1]);
  EQ(wait_child(child), 0);
}

TEST(sched, reset_on_fork) {
  OK(set_policy(0, SCHED_BATCH | SCHED_RESET_ON_FORK));
  EQ(policy_of(0), SCHED_BATCH | SCHED_RESET_ON_FORK);
  EQ(in_child([] { EQ(policy_of(0), SCHED_BATCH); }), 0);
}

TEST(sched, attributes) {
  Attributes found{};
  OK(syscall(SYS_sched_getattr, 0, &found, sizeof found, 0));
  EQ(found.policy, SCHED_OTHER);
  const int nice = getpriority(PRIO_PROCESS, 0);
  EQ(found.nice, nice);
  const int more = nice + 3;
  Attributes wanted{};
  wanted.size = sizeof wanted;
  wanted.policy = SCHED_BATCH;
  wanted.nice = more;
  OK(syscall(SYS_sched_setattr, 0, &wanted, 0));
  OK(syscall(SYS_sched_getattr, 0, &found, sizeof found, 0));
  EQ(found.policy, SCHED_BATCH);
  EQ(found.nice, more);
  EQ(getpriority(PRIO_PROCESS, 0), more);
  wanted.flags = 8 | 16;  // SCHED_FLAG_KEEP_ALL
  wanted.policy = 99;
  wanted.nice = more + 3;
  OK(syscall(SYS_sched_setattr, 0, &wanted, 0));
  EQ(policy_of(0), SCHED_BATCH);
  EQ(getpriority(PRIO_PROCESS, 0), more);
  wanted.flags = 0;
  FAILS(syscall(SYS_sched_setattr, 0, &wanted, 0), EINVAL);
  wanted.flags = 1ULL << 40;
  FAILS(syscall(SYS_sched_setattr, 0, &wanted, 0), EINVAL);
}

TEST(ioprio, is_kept) {
  constexpr int kProcess = IOPRIO_WHO_PROCESS, kGroup = IOPRIO_WHO_PGRP;
  EQ(syscall(SYS_ioprio_set, kProcess, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6)), 0);
  EQ(syscall(SYS_ioprio_get, kProcess, 0), IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6));
  EQ(in_child([] { EQ(syscall(SYS_ioprio_get, kProcess, 0), IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6)); }), 0);
  OK(setpgid(0, 0));
  OK(syscall(SYS_ioprio_set, kGroup, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)));
  EQ(syscall(SYS_ioprio_get, kProcess, getpid()), IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
  FAILS(syscall(SYS_ioprio_set, kProcess, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 3)), EINVAL);
  FAILS(syscall(SYS_ioprio_set, kProcess, 0, IOPRIO_PRIO_VALUE(5, 0)), EINVAL);
  FAILS(syscall(SYS_ioprio_set, 9, 0, 0), EINVAL);
  FAILS(syscall(SYS_ioprio_get, kProcess, 999'999), ESRCH);
}

TEST(personality, of_32_bit_programs) {
  EQ(personality(0xffffffff), 0);
  EQ(personality(PER_LINUX32), 0);
  EQ(personality(0xffffffff), PER_LINUX32);
  CHECK(machine() == "i686");
  EQ(in_child([] { CHECK(machine() == "i686"); }), 0);
  EQ(personality(PER_LINUX), PER_LINUX32);
  CHECK(machine() == "x86_64");
}

TEST(personality, old_release) {
  OK(personality(UNAME26));
  utsname names;
  OK(uname(&names));
  EQ(strncmp(names.release, "2.6.", 4), 0);
  OK(personality(0));
  OK(uname(&names));
  CHECK(strncmp(names.release, "2.6.", 4) != 0);
}
