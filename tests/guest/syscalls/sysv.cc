#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include <vector>

#include "harness.h"

namespace {
union Argument {
  int value;
  semid_ds* status;
  unsigned short* values;
};
struct Text {
  long type;
  char text[100];
};
}  // namespace

TEST(sysv, shared_memory) {
  const int id = OK(shmget(IPC_PRIVATE, 10'000, IPC_CREAT | 0600));
  char* memory = static_cast<char*>(shmat(id, nullptr, 0));
  CHECK(memory != reinterpret_cast<char*>(-1));
  EQ(in_child([&] { strcpy(memory, "from the child"); }), 0);
  CHECK(strcmp(memory, "from the child") == 0);
  const char* again = static_cast<char*>(shmat(id, nullptr, SHM_RDONLY));
  CHECK(again != memory && strcmp(again, "from the child") == 0);
  shmid_ds status{};
  OK(shmctl(id, IPC_STAT, &status));
  EQ(status.shm_segsz, 10'000);
  EQ(status.shm_nattch, 2);
  EQ(status.shm_cpid, getpid());
  OK(shmctl(id, IPC_RMID, nullptr));
  OK(shmctl(id, IPC_STAT, &status));
  CHECK((status.shm_perm.mode & 01000) != 0);
  OK(shmdt(again));
  memory[9000] = 'x';
  OK(shmdt(memory));
  FAILS(shmctl(id, IPC_STAT, &status), EINVAL);
  FAILS(shmdt(memory), EINVAL);
  FAILS(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
}

TEST(sysv, keys) {
  const key_t key = static_cast<key_t>(0x5ca15500 + (getpid() & 0xff));
  const int id = OK(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600));
  FAILS(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  EQ(shmget(key, 100, 0), id);
  FAILS(shmget(key, 40960, 0), EINVAL);
  OK(shmctl(id, IPC_RMID, nullptr));
  FAILS(shmget(key, 4096, 0), ENOENT);
}

TEST(sysv, semaphores) {
  const int id = OK(semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
  EQ(semctl(id, 0, GETVAL), 0);
  sembuf up{0, 3, 0}, down{0, -2, 0}, two[2] = {{0, -1, 0}, {1, 1, 0}};
  OK(semop(id, &up, 1));
  OK(semop(id, &down, 1));
  OK(semop(id, two, 2));
  EQ(semctl(id, 0, GETVAL), 0);
  EQ(semctl(id, 1, GETVAL), 1);
  EQ(semctl(id, 1, GETPID), getpid());
  sembuf now{0, -1, IPC_NOWAIT};
  FAILS(semop(id, &now, 1), EAGAIN);
  const timespec time{0, 30'000'000};
  FAILS(semtimedop(id, &down, 1, &time), EAGAIN);
  const pid_t child = start_child([&] {
    sembuf wait{0, -1, 0};
    OK(semop(id, &wait, 1));
  });
  CHECK(becomes_true([&] { return semctl(id, 0, GETNCNT) == 1; }));
  sembuf one{0, 1, 0};
  OK(semop(id, &one, 1));
  EQ(wait_child(child), 0);
  unsigned short values[2] = {7, 8};
  Argument argument{};
  argument.values = values;
  OK(semctl(id, 0, SETALL, argument));
  values[0] = values[1] = 0;
  OK(semctl(id, 0, GETALL, argument));
  EQ(values[0], 7);
  EQ(values[1], 8);
  const pid_t waiting = start_child([&] {
    sembuf zero{0, 0, 0};
    FAILS(semop(id, &zero, 1), EIDRM);
  });
  CHECK(becomes_true([&] { return semctl(id, 0, GETZCNT) == 1; }));
  OK(semctl(id, 0, IPC_RMID));
  EQ(wait_child(waiting), 0);
  FAILS(semop(id, &one, 1), EINVAL);
}

TEST(sysv, semaphores_are_undone) {
  const int id = OK(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));
  sembuf up{0, 1, 0}, down{0, -1, 0};
  OK(semop(id, &up, 1));
  const pid_t child = start_child([&] {
    sembuf take{0, -1, SEM_UNDO};
    OK(semop(id, &take, 1));
    sleep_ms(100);
  });
  CHECK(becomes_true([&] { return semctl(id, 0, GETVAL) == 0; }));
  OK(semop(id, &down, 1));
  EQ(wait_child(child), 0);
  OK(semctl(id, 0, IPC_RMID));
}

TEST(sysv, messages) {
  const int id = OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
  Text text{2, "two"};
  OK(msgsnd(id, &text, 3, 0));
  text = {1, "one!"};
  OK(msgsnd(id, &text, 4, 0));
  Text got{};
  FAILS(msgrcv(id, &got, 100, 5, IPC_NOWAIT), ENOMSG);
  FAILS(msgrcv(id, &got, 1, 1, 0), E2BIG);
  EQ(msgrcv(id, &got, 100, -5, 0), 4);
  EQ(got.type, 1);
  EQ(msgrcv(id, &got, 2, 0, MSG_NOERROR), 2);
  CHECK(memcmp(got.text, "tw", 2) == 0);
  const pid_t child = start_child([&] {
    sleep_ms(30);
    Text late{9, "late"};
    OK(msgsnd(id, &late, 4, 0));
  });
  EQ(msgrcv(id, &got, 100, 9, 0), 4);
  EQ(wait_child(child), 0);
  msqid_ds status{};
  OK(msgctl(id, IPC_STAT, &status));
  EQ(status.msg_qnum, 0);
  EQ(status.msg_lspid, child);
  text.type = 0;
  FAILS(msgsnd(id, &text, 1, 0), EINVAL);
  OK(msgctl(id, IPC_RMID, nullptr));
  FAILS(msgsnd(id, &got, 1, 0), EINVAL);
}

// postgres asks so whether anybody is still there.
TEST(sysv, attachments_of_children_count) {
  const int id = OK(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
  int* const shared = static_cast<int*>(shmat(id, nullptr, 0));
  CHECK(shared != reinterpret_cast<void*>(-1));
  const auto count = [&] {
    shmid_ds status;
    OK(shmctl(id, IPC_STAT, &status));
    return static_cast<long>(status.shm_nattch);
  };
  EQ(count(), 1);
  int go[2], ready[2];
  OK(pipe(go));
  OK(pipe(ready));
  const pid_t child = start_child([&] {
    char byte;
    close(go[1]);
    EQ(count(), 2);
    OK(shmdt(shared));
    EQ(count(), 1);
    FAILS(shmdt(shared), EINVAL);
    CHECK(shmat(id, nullptr, 0) != reinterpret_cast<void*>(-1));
    EQ(write(ready[1], "x", 1), 1);
    EQ(read(go[0], &byte, 1), 0);
  });
  char byte;
  close(go[0]);
  EQ(read(ready[0], &byte, 1), 1);
  EQ(count(), 2);
  OK(shmctl(id, IPC_RMID, nullptr));
  OK(shmdt(shared));
  EQ(count(), 1);
  close(go[1]);
  EQ(wait_child(child), 0);
  shmid_ds status;
  CHECK(becomes_true([&] { return shmctl(id, IPC_STAT, &status) == -1 && errno == EINVAL; }));
}

namespace {

// The line of that file below /proc/sysvipc whose second column is `id`, as numbers.
std::vector<long> listed(const char* file, int id) {
  FILE* const stream = fopen((std::string("/proc/sysvipc/") + file).c_str(), "r");
  if (stream == nullptr) skip_test("there is no /proc/sysvipc");
  char line[512];
  std::vector<long> found;
  while (fgets(line, sizeof line, stream) != nullptr) {
    std::vector<long> columns;
    char* end = line;
    for (char* at = line;; at = end) {
      const int base = columns.size() == 2 ? 8 : 10;  // permissions
      const long value = strtol(at, &end, base);
      if (end == at) break;
      columns.push_back(value);
    }
    if (columns.size() > 2 && columns[1] == id) found = columns;
  }
  fclose(stream);
  return found;
}

}  // namespace

TEST(sysv, proc_lists_them) {
  const int memory = OK(shmget(IPC_PRIVATE, 5000, 0640)), set = OK(semget(IPC_PRIVATE, 3, 0600)), queue = OK(msgget(IPC_PRIVATE, 0622));
  struct {
    long type;
    char text[5];
  } message{1, "abcd"};
  OK(msgsnd(queue, &message, 5, 0));
  CHECK(shmat(memory, nullptr, 0) != reinterpret_cast<void*>(-1));
  const std::vector<long> segment = listed("shm", memory), semaphores = listed("sem", set), messages = listed("msg", queue);
  EQ(segment.size(), 16);
  EQ(segment[2], 0640);
  EQ(segment[3], 5000);
  EQ(segment[4], getpid());
  EQ(segment[6], 1);
  EQ(semaphores.size(), 10);
  EQ(semaphores[2], 0600);
  EQ(semaphores[3], 3);
  EQ(messages.size(), 14);
  EQ(messages[2], 0622);
  EQ(messages[3], 5);
  EQ(messages[4], 1);
  EQ(messages[5], getpid());
  OK(shmctl(memory, IPC_RMID, nullptr));
  OK(semctl(set, 0, IPC_RMID));
  OK(msgctl(queue, IPC_RMID, nullptr));
  CHECK(listed("sem", set).empty());
}
