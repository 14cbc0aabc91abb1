#include "container/note.h"

#include <string.h>

#include "host/files.h"

namespace caisson::container {
namespace {

constexpr size_t kMaxText = 60 << 10;

struct Header {
  uint8_t kind;
  int32_t value;
};

}  // namespace

Result<void> send_note(int socket, NoteKind kind, int value, std::string_view text, const std::vector<int>& fds) {
  const Header header{static_cast<uint8_t>(kind), value};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += text.substr(0, kMaxText);
  return host::send_with_fds(socket, bytes, fds);
}

Result<std::optional<Note>> receive_note(int socket) {
  std::string bytes(sizeof(Header) + kMaxText, '\0');
  Note note;
  auto received = host::recv_with_fds(socket, bytes.data(), bytes.size(), note.fds);
  if (!received && received.error().code() == ECONNRESET) return std::optional<Note>();
  if (!received) return std::move(received).error();
  const size_t length = *received;
  if (length == 0) return std::optional<Note>();
  if (length < sizeof(Header)) return make_error(EPROTO, "a note of {} bytes is too short", length);
  Header header;
  memcpy(&header, bytes.data(), sizeof header);
  note.kind = static_cast<NoteKind>(header.kind);
  note.value = header.value;
  note.text = bytes.substr(sizeof header, length - sizeof header);
  return std::optional<Note>(std::move(note));
}

Result<Note> expect_note(int socket, NoteKind kind) {
  std::optional<Note> note = TRY(receive_note(socket));
  if (!note) return make_error(ECONNRESET, "the other side has ended");
  if (note->kind == NoteKind::Error) return Error(note->value, note->text);
  if (note->kind != kind)
    return make_error(EPROTO, "note {} came in place of note {}", static_cast<int>(note->kind), static_cast<int>(kind));
  return std::move(*note);
}

}  // namespace caisson::container
