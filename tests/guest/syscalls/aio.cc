// io_setup(2), io_submit(2), io_getevents(2) and their kin, without a library.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "harness.h"

namespace {

int setup(unsigned count, aio_context_t* context) { return static_cast<int>(syscall(SYS_io_setup, count, context)); }
int destroy(aio_context_t context) { return static_cast<int>(syscall(SYS_io_destroy, context)); }
long submit(aio_context_t context, iocb* request) {
  iocb* list[] = {request};
  return syscall(SYS_io_submit, context, 1L, list);
}
long fetch(aio_context_t context, long least, long most, io_event* events, timespec* timeout = nullptr) {
  return syscall(SYS_io_getevents, context, least, most, events, timeout);
}

iocb request(int fd, int operation, void* data, size_t size, off_t offset) {
  iocb made = {};
  made.aio_data = 0x1234;
  made.aio_lio_opcode = static_cast<uint16_t>(operation);
  made.aio_fildes = static_cast<uint32_t>(fd);
  made.aio_buf = reinterpret_cast<uint64_t>(data);
  made.aio_nbytes = size;
  made.aio_offset = offset;
  return made;
}

}  // namespace

TEST(aio, reads_and_writes) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0600));
  aio_context_t context = 0;
  OK(setup(8, &context));
  char text[] = "asynchronous", back[16] = {};
  iocb write = request(fd, IOCB_CMD_PWRITE, text, 12, 4096);
  EQ(submit(context, &write), 1);
  io_event events[8];
  EQ(fetch(context, 1, 8, events), 1);
  EQ(events[0].data, 0x1234);
  EQ(events[0].obj, reinterpret_cast<uint64_t>(&write));
  EQ(events[0].res, 12);
  iovec pieces[] = {{back, 3}, {back + 3, 13}};
  iocb read = request(fd, IOCB_CMD_PREADV, pieces, 2, 4096), flush = request(fd, IOCB_CMD_FSYNC, nullptr, 0, 0);
  iocb* both[] = {&read, &flush};
  EQ(syscall(SYS_io_submit, context, 2L, both), 2);
  EQ(fetch(context, 2, 8, events), 2);
  EQ(events[0].res + events[1].res, 12);
  CHECK(strcmp(back, "asynchronous") == 0);
  timespec moment = {0, 1'000'000};
  EQ(fetch(context, 1, 8, events, &moment), 0);
  EQ(fetch(context, 0, 8, events), 0);
  OK(destroy(context));
  FAILS(destroy(context), EINVAL);
}

TEST(aio, tells_an_eventfd) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0600)), told = OK(eventfd(0, 0));
  aio_context_t context = 0;
  OK(setup(1, &context));
  char text[] = "x";
  iocb write = request(fd, IOCB_CMD_PWRITE, text, 1, 0);
  write.aio_flags = IOCB_FLAG_RESFD;
  write.aio_resfd = static_cast<uint32_t>(told);
  EQ(submit(context, &write), 1);
  uint64_t count = 0;
  EQ(read(told, &count, sizeof count), 8);
  EQ(count, 1);
  write.aio_resfd = static_cast<uint32_t>(fd);
  FAILS(submit(context, &write), EINVAL);
  io_event event;
  EQ(fetch(context, 1, 1, &event), 1);
  EQ(event.res, 1);
}

TEST(aio, wrong_arguments) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0600)), reader = OK(open("file", O_RDONLY));
  aio_context_t context = 7;
  FAILS(setup(1, &context), EINVAL);
  context = 0;
  FAILS(setup(0, &context), EINVAL);
  FAILS(syscall(SYS_io_setup, 1, 16), EFAULT);
  FAILS(submit(4096, nullptr), EINVAL);
  OK(setup(2, &context));
  io_event event;
  FAILS(fetch(context, 2, 1, &event), EINVAL);
  FAILS(fetch(context, -1, 1, &event), EINVAL);
  FAILS(fetch(context + 4096, 0, 1, &event), EINVAL);
  char byte = 'x';
  iocb bad = request(999, IOCB_CMD_PREAD, &byte, 1, 0);
  FAILS(submit(context, &bad), EBADF);
  bad = request(reader, IOCB_CMD_PWRITE, &byte, 1, 0);
  FAILS(submit(context, &bad), EBADF);
  bad = request(fd, 99, &byte, 1, 0);
  FAILS(submit(context, &bad), EINVAL);
  bad = request(fd, IOCB_CMD_PREAD, &byte, 1, -1);
  FAILS(submit(context, &bad), EINVAL);
  bad = request(fd, IOCB_CMD_PREAD, &byte, 1, 0);
  bad.aio_reserved2 = 1;
  FAILS(submit(context, &bad), EINVAL);
  FAILS(submit(context, reinterpret_cast<iocb*>(16)), EFAULT);
  // What one list has before the wrong one is done.
  iocb good = request(fd, IOCB_CMD_PWRITE, &byte, 1, 0);
  iocb* list[] = {&good, &bad};
  EQ(syscall(SYS_io_submit, context, 2L, list), 1);
  EQ(fetch(context, 1, 1, &event), 1);
  // A child has none of them.
  EQ(in_child([&] { FAILS(destroy(context), EINVAL); }), 0);
  OK(destroy(context));
}

TEST(aio, a_signal_ends_the_wait) {
  aio_context_t context = 0;
  OK(setup(2, &context));
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  OK(sigaction(SIGUSR1, &action, nullptr));
  const pid_t parent = getpid();
  const pid_t child = start_child([&] {
    for (;;) {
      sleep_ms(5);
      kill(parent, SIGUSR1);
    }
  });
  io_event event;
  FAILS(fetch(context, 1, 1, &event), EINTR);
  OK(kill(child, SIGKILL));
  EQ(wait_child(child), 128 + SIGKILL);
}
