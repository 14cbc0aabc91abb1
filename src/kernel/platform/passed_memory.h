// PassedMemory: pieces of a guest's memory that a call from a thunk has brought along in its slot, and room for what the call writes. A
// process_vm_readv or _writev takes a microsecond, which is half of what a call costs; a copy by the stub itself next to nothing.
//
// read_guest() and write_guest() (kernel/memory.h) ask the one of the calling thread first. The room is shared with a hostile guest: a byte
// is read once, as in the guest's own memory; places and sizes are copied once and checked.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernel/stub/layout.h"

namespace caisson::kernel {

class PassedMemory {
 public:
  PassedMemory() = default;
  ~PassedMemory() { leave(); }
  PassedMemory(const PassedMemory&) = delete;
  PassedMemory& operator=(const PassedMemory&) = delete;

  // What the slot's thread has passed; from now on the calling thread's accesses to the memory of host thread `host` may be served by it.
  void take(StubSlot* slot, pid_t host);
  // No more; what the stub is to copy into the guest's memory. Without take(): nothing.
  StubPiece give_back();

  // The calling thread's for this memory; null: none.
  static PassedMemory* of(pid_t host);
  // Whether all of it was to be had here.
  bool read(uint64_t address, void* to, size_t length);
  // As much from the address on as there is here, `most` bytes at most; how many.
  size_t read_front(uint64_t address, void* to, size_t most);
  bool write(uint64_t address, const void* from, size_t length);
  // The guest's memory itself is about to be read or written there: what is here must not be older or newer.
  void before_direct(uint64_t address, size_t length, bool writing);

 private:
  void leave();
  void flush();
  void forget(uint64_t address, size_t length);
  char* place(const StubPiece& piece, uint64_t address) const { return room_ + piece.at + (address - piece.address); }

  char* room_ = nullptr;
  pid_t host_ = 0;
  uint32_t count_ = 0;
  std::array<StubPiece, STUB_MOST_PIECES> in_{};
  StubPiece out_{};
  uint64_t written_from_ = 0, written_to_ = 0;  // addresses; what the guest does not have yet
};

}  // namespace caisson::kernel
