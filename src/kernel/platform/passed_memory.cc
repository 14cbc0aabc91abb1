#include "kernel/platform/passed_memory.h"

#include <string.h>
#include <sys/uio.h>

#include <algorithm>
#include <utility>

namespace caisson::kernel {
namespace {

thread_local PassedMemory* t_here = nullptr;

bool holds(const StubPiece& piece, uint64_t address, size_t length) {
  return length <= piece.size && address >= piece.address && address - piece.address <= piece.size - length;
}
bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) { return a < b + b_size && b < a + a_size; }

StubPiece checked(const StubPiece& untrusted) {
  StubPiece piece;
  piece.address = __atomic_load_n(&untrusted.address, __ATOMIC_RELAXED);
  piece.size = __atomic_load_n(&untrusted.size, __ATOMIC_RELAXED);
  piece.at = __atomic_load_n(&untrusted.at, __ATOMIC_RELAXED);
  if (piece.at > STUB_ROOM_SIZE || piece.size > STUB_ROOM_SIZE - piece.at || piece.address > UINT64_MAX - STUB_ROOM_SIZE) piece.size = 0;
  return piece;
}

}  // namespace

void PassedMemory::take(StubSlot* slot, pid_t host) {
  const uint32_t count = __atomic_load_n(&slot->passed.count, __ATOMIC_RELAXED);
  count_ = count <= STUB_MOST_PIECES ? count : 0;
  for (uint32_t i = 0; i < count_; ++i) in_[i] = checked(slot->passed.in[i]);
  out_ = checked(slot->passed.out);
  room_ = reinterpret_cast<char*>(slot) + STUB_ROOM_OFFSET;
  host_ = host;
  written_from_ = written_to_ = 0;
  if (count_ != 0 || out_.size != 0) t_here = this;
}

StubPiece PassedMemory::give_back() {
  StubPiece back{};
  if (t_here != this) return back;
  if (written_to_ > written_from_) {
    back.address = written_from_;
    back.size = static_cast<uint32_t>(written_to_ - written_from_);
    back.at = out_.at + static_cast<uint32_t>(written_from_ - out_.address);
  }
  leave();
  return back;
}

void PassedMemory::leave() {
  if (t_here == this) t_here = nullptr;
}

PassedMemory* PassedMemory::of(pid_t host) { return t_here != nullptr && t_here->host_ == host ? t_here : nullptr; }

bool PassedMemory::read(uint64_t address, void* to, size_t length) {
  for (uint32_t i = 0; i < count_; ++i) {
    if (!holds(in_[i], address, length)) continue;
    memcpy(to, place(in_[i], address), length);
    return true;
  }
  before_direct(address, length, false);
  return false;
}

size_t PassedMemory::read_front(uint64_t address, void* to, size_t most) {
  for (uint32_t i = 0; i < count_; ++i) {
    if (!holds(in_[i], address, 1)) continue;
    const size_t size = std::min<size_t>(most, in_[i].size - (address - in_[i].address));
    memcpy(to, place(in_[i], address), size);
    return size;
  }
  return 0;
}

bool PassedMemory::write(uint64_t address, const void* from, size_t length) {
  if (!holds(out_, address, length)) {
    before_direct(address, length, true);
    return false;
  }
  forget(address, length);
  const uint64_t end = address + length;
  // One piece is copied back.
  if (written_to_ > written_from_ && (address > written_to_ || end < written_from_)) flush();
  memcpy(place(out_, address), from, length);
  const bool first = written_to_ == written_from_;
  written_from_ = first ? address : std::min(written_from_, address);
  written_to_ = first ? end : std::max(written_to_, end);
  return true;
}

void PassedMemory::before_direct(uint64_t address, size_t length, bool writing) {
  if (overlap(address, length, written_from_, written_to_ - written_from_)) flush();
  if (writing) forget(address, length);
}

// To the guest now. Where that fails its memory has gone since the call began.
void PassedMemory::flush() {
  iovec ours{place(out_, written_from_), written_to_ - written_from_};
  iovec theirs{reinterpret_cast<void*>(written_from_), ours.iov_len};
  if (ours.iov_len > 0) (void)!process_vm_writev(host_, &ours, 1, &theirs, 1, 0);
  written_from_ = written_to_ = 0;
}

// Copies of what is written to now are old.
void PassedMemory::forget(uint64_t address, size_t length) {
  for (uint32_t i = 0; i < count_; ++i)
    if (overlap(address, length, in_[i].address, in_[i].size)) in_[i].size = 0;
}

}  // namespace caisson::kernel
