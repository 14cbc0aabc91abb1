// libFuzzer target: what a kernel process that has been taken says to the sandbox process. The input is either the text of an answer, or
// the message that carries one. Beyond not crashing: every pid that comes of it is one that the sandbox process itself has found, and
// no text can drive a terminal.
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "appkernel/answer.h"

using namespace caisson;  // NOLINT

namespace {

void expect(bool condition) {
  if (!condition) abort();
}

// As printable() has it: line feeds and tabs may stay.
bool harmless(const std::string& text) {
  for (const char each : text)
    if ((static_cast<unsigned char>(each) < 0x20 && each != '\n' && each != '\t') || each == 0x7f) return false;
  return true;
}

void translate(const std::string& text) {
  kernel::v1::Processes all;
  if (!all.ParseFromString(text)) return;
  const std::set<pid_t> known = {0, 4000, 4010, 4011, 5000};
  const auto response = appkernel::translate_processes(all, {{1, "first"}, {7, "the-exec"}}, {{"the-exec", 5000}}, {{10, 4010}, {11, 4011}},
                                                       4000, INT64_C(1'700'000'000'000'000'000));
  for (const auto& process : response.processes()) {
    expect(known.contains(process.process().pid()) && known.contains(process.process().ppid()));
    expect(harmless(process.process().command()) && harmless(process.process().state()));
    for (const auto& thread : process.threads()) {
      expect(known.contains(thread.host_tid()));
      expect(harmless(thread.name()) && harmless(thread.state()) && harmless(thread.call()));
      for (const std::string& place : thread.places()) expect(harmless(place));
    }
  }
}

// A message of any length and kind, with a descriptor or without.
void receive(const std::string& bytes) {
  int ends[2];
  expect(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  const UniqueFd theirs(ends[0]), ours(ends[1]);
  if (!bytes.empty() && bytes[0] % 2 == 0) {
    if (auto file = kernel::make_description("fuzz", bytes))
      (void)kernel::send_message(theirs.get(), static_cast<kernel::MessageKind>(static_cast<uint8_t>(bytes[0])), 0, {file->get(), 1});
  } else {
    (void)!send(theirs.get(), bytes.data(), bytes.size() % 64, MSG_NOSIGNAL);
  }
  auto message = kernel::receive_message(ours.get());
  if (!message) return;
  expect(message->fds.size() <= 2);
  for (const UniqueFd& fd : message->fds)
    if (lseek(fd.get(), 0, SEEK_CUR) >= 0) (void)kernel::read_description(fd.get()).ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 8 == 0)
    receive(rest);
  else
    translate(rest);
  return 0;
}
