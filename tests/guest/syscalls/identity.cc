// Who one is: what a kernel may answer from a copy must follow every change of the original.
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>

#include "harness.h"

TEST(identity, follows_setresuid_and_setresgid) {
  for (int i = 0; i < 20; ++i) EQ(getuid(), geteuid());
  EQ(in_child([] {
       OK(setresgid(10, 11, 12));
       EQ(getgid(), 10);
       EQ(getegid(), 11);
       OK(setresuid(20, 21, 0));
       EQ(getuid(), 20);
       EQ(geteuid(), 21);
       OK(setresuid(-1, 0, -1));
       EQ(getuid(), 20);
       EQ(geteuid(), 0);
       EQ(in_child([] {
            EQ(getuid(), 20);
            EQ(geteuid(), 0);
            EQ(getegid(), 11);
          }),
          0);
     }),
     0);
  EQ(getgid(), getegid());
}

// Children that all live at the same time before any of them runs body; all must end well.
static void at_once(const std::function<void()>& body) {
  int gate[2];
  OK(pipe(gate));
  pid_t children[8];
  for (pid_t& child : children) {
    child = start_child([&] {
      char byte;
      close(gate[1]);
      EQ(read(gate[0], &byte, 1), 0);
      body();
    });
  }
  OK(close(gate[0]));
  OK(close(gate[1]));
  for (const pid_t child : children) {
    int status = -1;
    EQ(waitpid(child, &status, 0), child);
    EQ(status, 0);
  }
}

// What serves a new process may have been made, or used, for another: nothing of that one's rights may be left.
TEST(identity, files_are_the_callers_own) {
  const char* secret = "secret";
  OK(chmod(".", 0755));
  OK(close(OK(open(secret, O_CREAT | O_WRONLY, 0640))));
  OK(chown(secret, 0, 1234));
  EQ(in_child([&] {
       const gid_t group = 1234;
       OK(setgroups(1, &group));
       OK(setresuid(65534, 65534, 0));
       OK(close(OK(open(secret, O_RDONLY))));
       at_once([&] {
         OK(setresuid(0, 0, 0));
         OK(setgroups(0, nullptr));
         OK(setresgid(65534, 65534, 65534));
         OK(setresuid(65534, 65534, 65534));
         FAILS(open(secret, O_RDONLY), EACCES);
       });
       at_once([] {});
     }),
     0);
  at_once([] {
    const std::string made = "made" + std::to_string(getpid());
    OK(mkdir(made.c_str(), 0700));
    struct stat st {};
    OK(stat(made.c_str(), &st));
    EQ(st.st_uid, 0);
    OK(rmdir(made.c_str()));
  });
}

TEST(identity, of_one_thread) {
  // The bare call changes its own thread alone.
  pthread_t thread;
  static std::atomic<int> stage;
  stage = 0;
  OK(pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        OK(syscall(SYS_setresuid, 7, 7, 7));
        EQ(syscall(SYS_geteuid), 7);
        CHECK(syscall(SYS_gettid) != syscall(SYS_getpid));
        stage = 1;
        while (stage == 1) sched_yield();
        EQ(syscall(SYS_geteuid), 7);
        return nullptr;
      },
      nullptr));
  CHECK(becomes_true([] { return stage == 1; }));
  EQ(syscall(SYS_geteuid), 0);
  EQ(syscall(SYS_gettid), getpid());
  stage = 2;
  pthread_join(thread, nullptr);
}

TEST(identity, children_and_orphans) {
  OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  const pid_t self = getpid();
  pid_t* shared = static_cast<pid_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  CHECK(shared != MAP_FAILED);
  int gate[2], told[2];
  OK(pipe(gate));
  OK(pipe(told));
  const pid_t parent = start_child([&] {
    EQ(getppid(), self);
    shared[0] = getpid();
    const pid_t orphan = fork();
    if (orphan == 0) {
      shared[1] = getpid();
      shared[2] = getppid();
      char byte;
      OK(write(told[1], "x", 1));
      OK(read(gate[0], &byte, 1));
      for (int i = 0; i < 100'000 && getppid() != self; ++i) sched_yield();
      shared[3] = getppid();
      OK(write(told[1], "x", 1));
      _exit(0);
    }
    OK(orphan);
    char byte;
    OK(read(told[0], &byte, 1));
    EQ(shared[1], orphan);
  });
  EQ(wait_child(parent), 0);
  EQ(shared[0], parent);
  EQ(shared[2], parent);
  OK(write(gate[1], "x", 1));
  char byte;
  OK(read(told[0], &byte, 1));
  EQ(shared[3], self);
  EQ(waitpid(shared[1], nullptr, 0), shared[1]);
}
