#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <vector>

#include "harness.h"

namespace {
int file_with(const std::string& text, const char* name = "data") {
  const int fd = OK(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
  EQ(write(fd, text.data(), text.size()), text.size());
  OK(lseek(fd, 0, SEEK_SET));
  return fd;
}
std::string read_some(int fd, size_t size) {
  std::string text(size, '\0');
  text.resize(static_cast<size_t>(OK(read(fd, text.data(), size))));
  return text;
}
}  // namespace

TEST(transfer, sendfile) {
  const int in = file_with("0123456789");
  int fds[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
  off_t offset = 4;
  EQ(sendfile(fds[0], in, &offset, 3), 3);
  EQ(offset, 7);
  EQ(lseek(in, 0, SEEK_CUR), 0);
  EQ(sendfile(fds[0], in, nullptr, 100), 10);
  EQ(lseek(in, 0, SEEK_CUR), 10);
  EQ(sendfile(fds[0], in, nullptr, 100), 0);
  CHECK(read_some(fds[1], 100) == "4560123456789");
  const int out = OK(open("out", O_RDWR | O_CREAT, 0600));
  offset = 0;
  EQ(sendfile(out, in, &offset, 100), 10);
  EQ(lseek(out, 0, SEEK_CUR), 10);
  FAILS(sendfile(out, fds[1], nullptr, 1), EINVAL);
  FAILS(sendfile(999, in, nullptr, 1), EBADF);
}

TEST(transfer, splice) {
  const int in = file_with("abcdefghij");
  int a[2], b[2];
  OK(pipe(a));
  OK(pipe(b));
  loff_t offset = 2;
  EQ(splice(in, &offset, a[1], nullptr, 5, 0), 5);
  EQ(offset, 7);
  EQ(tee(a[0], b[1], 100, 0), 5);
  CHECK(read_some(b[0], 100) == "cdefg");
  EQ(splice(a[0], nullptr, b[1], nullptr, 3, 0), 3);
  const int out = OK(open("out", O_RDWR | O_CREAT, 0600));
  EQ(splice(b[0], nullptr, out, nullptr, 100, 0), 3);
  EQ(lseek(out, 0, SEEK_CUR), 3);
  EQ(splice(a[0], nullptr, out, nullptr, 100, SPLICE_F_NONBLOCK), 2);
  FAILS(splice(a[0], nullptr, out, nullptr, 100, SPLICE_F_NONBLOCK), EAGAIN);
  OK(lseek(out, 0, SEEK_SET));
  CHECK(read_some(out, 100) == "cdefg");
  FAILS(splice(in, nullptr, out, nullptr, 1, 0), EINVAL);
  FAILS(splice(a[0], &offset, out, nullptr, 1, 0), ESPIPE);
  FAILS(tee(in, a[1], 1, 0), EINVAL);
  close(a[1]);
  EQ(splice(a[0], nullptr, out, nullptr, 1, 0), 0);
}

TEST(transfer, vmsplice) {
  int fds[2];
  OK(pipe(fds));
  char one[] = "hello ", two[] = "there";
  const iovec vectors[2] = {{one, 6}, {two, 5}};
  EQ(vmsplice(fds[1], vectors, 2, 0), 11);
  CHECK(read_some(fds[0], 100) == "hello there");
}

TEST(transfer, copy_file_range) {
  const int in = file_with("0123456789");
  const int out = file_with("", "out");
  loff_t from = 3;
  EQ(copy_file_range(in, &from, out, nullptr, 4, 0), 4);
  EQ(from, 7);
  EQ(lseek(out, 0, SEEK_CUR), 4);
  EQ(lseek(in, 0, SEEK_CUR), 0);
  OK(lseek(out, 0, SEEK_SET));
  CHECK(read_some(out, 100) == "3456");
  int fds[2];
  OK(pipe(fds));
  FAILS(copy_file_range(fds[0], nullptr, out, nullptr, 4, 0), EINVAL);
  FAILS(copy_file_range(in, nullptr, out, nullptr, 4, 1), EINVAL);
}

TEST(transfer, much_through_pipe_and_socket) {
  std::string text(1'000'000, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 / 11);
  const int in = file_with(text);
  int sockets[2], fds[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
  OK(pipe(fds));
  const pid_t child = start_child([&] {
    size_t left = text.size();
    while (left > 0) {
      const ssize_t into = OK(splice(in, nullptr, fds[1], nullptr, left, 0));
      for (ssize_t rest = into; rest > 0;) rest -= OK(splice(fds[0], nullptr, sockets[0], nullptr, static_cast<size_t>(rest), 0));
      left -= static_cast<size_t>(into);
    }
  });
  std::string back(text.size(), '\0');
  EQ(recv(sockets[1], back.data(), back.size(), MSG_WAITALL), back.size());
  CHECK(back == text);
  EQ(wait_child(child), 0);
}

TEST(memfd, file_of_memory) {
  const int fd = OK(memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  OK(ftruncate(fd, 8192));
  char* memory = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  CHECK(memory != MAP_FAILED);
  EQ(pwrite(fd, "hello", 5, 4096), 5);
  CHECK(memcmp(memory + 4096, "hello", 5) == 0);
  EQ(in_child([&] { memory[0] = 'x'; }), 0);
  char byte;
  EQ(pread(fd, &byte, 1, 0), 1);
  EQ(byte, 'x');
  munmap(memory, 8192);
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE));
  EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_WRITE);
  FAILS(ftruncate(fd, 10), EPERM);
  FAILS(pwrite(fd, "x", 1, 0), EPERM);
  FAILS(memfd_create("x", 0x8000), EINVAL);
}
