// What /proc/sys/kernel/{shm,msg,sem}* and /proc/sys/fs/mqueue say of an IPC namespace holds in it: sysvipc(7), mq_overview(7).
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"

namespace {

// An IPC namespace of its own, with a proc file system below the working folder that tells of it.
void own_ipc() {
  if (unshare(CLONE_NEWIPC | CLONE_NEWNS) != 0) skip_test("no namespaces of its own");
  OK(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  OK(chmod(".", 0755));
  OK(mkdir("proc", 0755));
  if (mount("proc", "proc", "proc", 0, nullptr) != 0) skip_test("no /proc of its own");
}

std::string file_of(const char* name) { return std::string("proc/sys/") + name; }

// 0, or the errno.
int set(const char* name, const std::string& value) {
  const int fd = open(file_of(name).c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const ssize_t written = write(fd, value.data(), value.size());
  const int error = written < 0 ? errno : 0;
  close(fd);
  return error;
}

std::string get(const char* name) {
  const int fd = OK(open(file_of(name).c_str(), O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t size = OK(read(fd, text, sizeof text));
  close(fd);
  return {text, static_cast<size_t>(size)};
}

struct Text {
  long type;
  char text[9000];
};

// mq_open(3) without the C library's threads.
long open_queue(const char* name, mq_attr* attributes) { return syscall(SYS_mq_open, name, O_CREAT | O_EXCL | O_RDWR, 0600, attributes); }

}  // namespace

TEST(ipc_limits, defaults_and_text) {
  own_ipc();
  CHECK(get("kernel/shmmax") == "18446744073692774399\n");
  CHECK(get("kernel/shmall") == "18446744073692774399\n");
  CHECK(get("kernel/shmmni") == "4096\n");
  CHECK(get("kernel/shm_rmid_forced") == "0\n");
  CHECK(get("kernel/msgmax") == "8192\n");
  CHECK(get("kernel/msgmnb") == "16384\n");
  CHECK(get("kernel/msgmni") == "32000\n");
  CHECK(get("kernel/sem") == "32000\t1024000000\t500\t32000\n");
  CHECK(get("fs/mqueue/msg_max") == "10\n");
  CHECK(get("fs/mqueue/msgsize_max") == "8192\n");
  CHECK(get("fs/mqueue/queues_max") == "256\n");
  // Numbers in every base; as many as there are.
  EQ(set("kernel/msgmax", " 0x1000\n"), 0);
  CHECK(get("kernel/msgmax") == "4096\n");
  EQ(set("kernel/sem", "10 20"), 0);
  CHECK(get("kernel/sem") == "10\t20\t500\t32000\n");
  EQ(set("kernel/sem", "1 2 3 40000"), ERANGE);
  for (const char* wrong : {"x", "2147483648", "-1", "5x"}) EQ(set("kernel/msgmax", wrong), EINVAL);
  EQ(set("kernel/shmmni", "32769"), EINVAL);
  EQ(set("kernel/shm_rmid_forced", "2"), EINVAL);
  EQ(set("fs/mqueue/msg_max", "0"), EINVAL);
  EQ(set("fs/mqueue/msgsize_max", "127"), EINVAL);
  CHECK(get("kernel/msgmax") == "4096\n");
  // Of this namespace alone: another one begins with the defaults.
  EQ(in_child([] {
       OK(unshare(CLONE_NEWIPC));
       CHECK(get("kernel/msgmax") == "8192\n");
     }),
     0);
}

TEST(ipc_limits, only_root_sets_them) {
  own_ipc();
  EQ(in_child([] {
       OK(setresuid(1000, 1000, 1000));
       CHECK(get("kernel/shmmni") == "4096\n");
       EQ(set("kernel/shmmni", "5"), EACCES);
     }),
     0);
  CHECK(get("kernel/shmmni") == "4096\n");
}

TEST(ipc_limits, shared_memory) {
  own_ipc();
  EQ(set("kernel/shmmax", "8192"), 0);
  FAILS(shmget(IPC_PRIVATE, 8193, IPC_CREAT | 0600), EINVAL);
  const int first = OK(shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600));
  EQ(set("kernel/shmall", "3"), 0);
  FAILS(shmget(IPC_PRIVATE, 4097, IPC_CREAT | 0600), ENOSPC);
  const int second = OK(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
  FAILS(shmget(IPC_PRIVATE, 1, IPC_CREAT | 0600), ENOSPC);
  shminfo info{};
  OK(shmctl(0, IPC_INFO, reinterpret_cast<shmid_ds*>(&info)));
  EQ(info.shmmax, 8192);
  EQ(info.shmall, 3);
  OK(shmctl(second, IPC_RMID, nullptr));
  EQ(set("kernel/shmall", "100"), 0);
  EQ(set("kernel/shmmni", "1"), 0);
  FAILS(shmget(IPC_PRIVATE, 1, IPC_CREAT | 0600), ENOSPC);
  OK(shmctl(first, IPC_RMID, nullptr));
  OK(shmctl(OK(shmget(IPC_PRIVATE, 1, IPC_CREAT | 0600)), IPC_RMID, nullptr));
}

TEST(ipc_limits, shared_memory_that_nobody_has) {
  own_ipc();
  shmid_ds status{};
  const auto made_by_child = [] {
    int ends[2];
    OK(pipe(ends));
    EQ(in_child([&] {
         const int id = OK(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
         EQ(write(ends[1], &id, sizeof id), sizeof id);
       }),
       0);
    int id = -1;
    EQ(read(ends[0], &id, sizeof id), sizeof id);
    close(ends[0]);
    close(ends[1]);
    return id;
  };
  const int orphan = made_by_child(), own = OK(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
  OK(shmctl(orphan, IPC_STAT, &status));
  EQ(set("kernel/shm_rmid_forced", "1"), 0);
  // Its maker has ended; the other's has not.
  FAILS(shmctl(orphan, IPC_STAT, &status), EINVAL);
  OK(shmctl(own, IPC_STAT, &status));
  FAILS(shmctl(made_by_child(), IPC_STAT, &status), EINVAL);
  // What has been attached goes with the last who has it.
  const void* memory = shmat(own, nullptr, 0);
  CHECK(memory != reinterpret_cast<void*>(-1));
  OK(shmctl(own, IPC_STAT, &status));
  OK(shmdt(memory));
  FAILS(shmctl(own, IPC_STAT, &status), EINVAL);
}

TEST(ipc_limits, messages) {
  own_ipc();
  static Text text{1, {}};
  EQ(set("kernel/msgmax", "100"), 0);
  EQ(set("kernel/msgmnb", "150"), 0);
  const int queue = OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
  msqid_ds status{};
  OK(msgctl(queue, IPC_STAT, &status));
  EQ(status.msg_qbytes, 150);
  FAILS(msgsnd(queue, &text, 101, IPC_NOWAIT), EINVAL);
  OK(msgsnd(queue, &text, 100, IPC_NOWAIT));
  FAILS(msgsnd(queue, &text, 51, IPC_NOWAIT), EAGAIN);
  OK(msgsnd(queue, &text, 50, IPC_NOWAIT));
  EQ(set("kernel/msgmax", "9000"), 0);
  EQ(set("kernel/msgmnb", "20000"), 0);
  const int other = OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
  OK(msgsnd(other, &text, 9000, IPC_NOWAIT));
  EQ(msgrcv(other, &text, 9000, 0, IPC_NOWAIT), 9000);
  EQ(set("kernel/msgmni", "2"), 0);
  FAILS(msgget(IPC_PRIVATE, IPC_CREAT | 0600), ENOSPC);
}

TEST(ipc_limits, semaphores) {
  own_ipc();
  EQ(set("kernel/sem", "5 7 2 2"), 0);
  FAILS(semget(IPC_PRIVATE, 6, IPC_CREAT | 0600), EINVAL);
  const int id = OK(semget(IPC_PRIVATE, 5, IPC_CREAT | 0600));
  sembuf ups[3] = {{0, 1, 0}, {1, 1, 0}, {2, 1, 0}};
  OK(semop(id, ups, 2));
  FAILS(semop(id, ups, 3), E2BIG);
  FAILS(semget(IPC_PRIVATE, 3, IPC_CREAT | 0600), ENOSPC);
  OK(semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
  EQ(set("kernel/sem", "5 100 2 2"), 0);
  FAILS(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600), ENOSPC);
}

TEST(ipc_limits, posix_queues) {
  own_ipc();
  // Without CAP_SYS_RESOURCE, which is above them.
  OK(setresuid(1000, 1000, 0));
  const auto as_root = [](const char* name, const char* value) {
    OK(setresuid(-1, 0, -1));
    const int error = set(name, value);
    OK(setresuid(-1, 1000, -1));
    return error;
  };
  mq_attr attributes{};
  attributes.mq_maxmsg = 11;
  attributes.mq_msgsize = 100;
  FAILS(open_queue("a", &attributes), EINVAL);
  EQ(as_root("fs/mqueue/msg_max", "11"), 0);
  OK(open_queue("a", &attributes));
  attributes.mq_maxmsg = 1;
  attributes.mq_msgsize = 8193;
  FAILS(open_queue("b", &attributes), EINVAL);
  EQ(as_root("fs/mqueue/msgsize_max", "8193"), 0);
  OK(open_queue("b", &attributes));
  EQ(as_root("fs/mqueue/msg_default", "3"), 0);
  EQ(as_root("fs/mqueue/msgsize_default", "200"), 0);
  const long made = OK(open_queue("c", nullptr));
  OK(syscall(SYS_mq_getsetattr, made, nullptr, &attributes));
  EQ(attributes.mq_maxmsg, 3);
  EQ(attributes.mq_msgsize, 200);
  EQ(as_root("fs/mqueue/queues_max", "3"), 0);
  FAILS(open_queue("d", nullptr), ENOSPC);
}
