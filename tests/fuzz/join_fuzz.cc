// libFuzzer target: the messages by which a container joins a kernel process (kernel/control/messages.h), each side as the other one reads
// it when it has been taken. The input is a header of a few bytes (which message, how many descriptors come with it) and the text of the
// description. Beyond not crashing: what is accepted fits what has been handed over, and every descriptor has one owner or is closed.
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "kernel/control/handover.h"

using namespace caisson;          // NOLINT
using namespace caisson::kernel;  // NOLINT

namespace {

void expect(bool condition) {
  if (!condition) abort();
}

size_t open_descriptors() {
  size_t count = 0;
  for (int fd = 0; fd < 256; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

// As it arrives: sent over a socket, with the description and `more` other descriptors.
Result<Message> arrived(MessageKind kind, const std::string& text, size_t more) {
  int ends[2];
  expect(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  const UniqueFd theirs(ends[0]), ours(ends[1]);
  const UniqueFd file = TRY(make_description("fuzz", text));
  std::vector<int> fds(more + 1, theirs.get());
  fds[0] = file.get();
  TRY(send_message(theirs.get(), kind, 0, fds));
  return receive_message(ours.get());
}

void hand_over(const std::string& text, size_t descriptors, size_t mounts) {
  Result<Message> message = arrived(MessageKind::Container, text, descriptors);
  expect(message.ok());
  std::vector<UniqueFd> handed;
  for (size_t i = 0; i < mounts; ++i) handed.emplace_back(open("/", O_PATH | O_CLOEXEC));
  const Result<Handover> read = read_handover(*std::move(message), std::move(handed));
  if (!read) return;
  expect(read->mounts.size() == mounts && read->mounts.size() == static_cast<size_t>(read->start.host_mounts_size()));
  expect(read->streams.size() == 3 + read->start.process().preserved() && read->streams.size() + 2 == descriptors);
  expect(read->zygote.socket && read->zygote.process && read->zygote.vdso % 4096 == 0 && read->zygote.vdso < 1ULL << 47);
  std::set<int> owned{read->zygote.socket.get(), read->zygote.process.get()};
  for (const UniqueFd& stream : read->streams) expect(stream && owned.insert(stream.get()).second);
  for (const OpenMount& mount : read->mounts) expect(mount.fd && owned.insert(mount.fd.get()).second);
}

void welcome(uint32_t kind, const std::string& text, size_t descriptors) {
  Result<Message> message = arrived(static_cast<MessageKind>(kind), text, descriptors);
  expect(message.ok());
  const Result<UniqueFd> read = read_welcome(*std::move(message));
  if (read) expect(kind == static_cast<uint32_t>(MessageKind::Welcome) && descriptors == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const size_t before = open_descriptors();
  const std::string text(reinterpret_cast<const char*>(data) + 3, size - 3);
  if (data[0] % 8 == 0)
    welcome(data[1], text, data[2] % 4U);
  else
    hand_over(text, data[1] % 16U, data[2] % 16U);
  // The text as the other things that come over these channels.
  v1::Limits limits;
  v1::Process process;
  (void)limits.ParseFromString(text);
  (void)process.ParseFromString(text);
  expect(open_descriptors() == before);
  return 0;
}
