// What create() (or exec()) and the new process tell each other over a SOCK_SEQPACKET socket pair while the process is being set up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::container {

enum class NoteKind : uint8_t {
  // From the new process.
  Error = 1,     // value: errno, text: the sentence; the process ends
  MountsDone,    // the root file system is ready: run the hooks of the runtime's namespaces
  SourceWanted,  // value: index into spec.mounts, or kRootSource: a detached clone of it, opened with the creator's rights
  LimitsWanted,  // rlimits, oom_score_adj, scheduling: what the creator sets from outside
  Listener,      // text: "<descriptor's number>" of the seccomp listener
  Ready,         // everything is set up; only Start is missing
  // To the new process.
  Go,       // go on; text as agreed
  Source,   // with the descriptor asked for
  Start,    // run the user's program
  Prepare,  // before Start, at most once: have a copy of this process run the stand-in's `early` (container.h)
};
inline constexpr int kRootSource = -1;

struct Note {
  NoteKind kind = NoteKind::Error;
  int value = 0;
  std::string text;
  std::vector<UniqueFd> fds;
};

Result<void> send_note(int socket, NoteKind kind, int value = 0, std::string_view text = {}, const std::vector<int>& fds = {});
// The next note; nothing when the other side has gone.
Result<std::optional<Note>> receive_note(int socket);
// The next note, which has to be of that kind; an Error note becomes the error, the other side's end ECONNRESET.
Result<Note> expect_note(int socket, NoteKind kind);

}  // namespace caisson::container
