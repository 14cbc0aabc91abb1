// Thunks: where patched calls jump to. They lie in regions of 64 KiB near the guest's code, memory files that the kernel writes and stubs
// have mapped read-and-execute; sealed, so that no guest process can write what its relatives run. A fork's child shares them.
//
//     [the move]                  Move only
//     lea  call(%rip), %r11
//     jmp  *entry(%rip)           the blob's stub_thunk_entry; back at call + 2, or at call where the guest is to make it itself
//     .quad site + 2              what rcx and rip are after the call
//   call:
//     syscall
//     [the instruction behind it] Next only
//     jmp  back
#pragma once

#include <bitset>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "kernel/errno.h"
#include "kernel/patch/call_form.h"

namespace caisson::kernel {

struct Thunk {
  CallForm form;
  uint64_t site = 0;   // the guest's call
  uint64_t start = 0;  // of the thunk
  uint64_t call = 0;   // in the thunk
  // What the guest would see in place of an address in the thunk.
  uint64_t guest_rip(uint64_t rip) const;
};

class ThunkRegion {
 public:
  static constexpr uint64_t kSize = 0x10000;

  // For address `at`, where a stub is to map fd() (which is closed by mapped()). EMFILE, ENOMEM.
  static Result<std::shared_ptr<ThunkRegion>> create(uint64_t at);
  ~ThunkRegion();
  ThunkRegion(const ThunkRegion&) = delete;
  ThunkRegion& operator=(const ThunkRegion&) = delete;
  int fd() const { return fd_; }
  void mapped();

  uint64_t address() const { return address_; }
  bool contains(uint64_t rip) const { return rip - address_ < kSize; }
  // Whether jumps from `site` reach all of a region at `at`.
  static bool reaches(uint64_t at, uint64_t site);
  // A thunk for the call at `site`: `code` are the bytes from site - form.before on. Nothing: no room.
  std::optional<Thunk> add(uint64_t site, const CallForm& form, std::span<const uint8_t> code);
  std::optional<Thunk> find(uint64_t rip) const;

 private:
  static constexpr uint64_t kCell = 64;
  ThunkRegion() = default;
  std::optional<uint64_t> cell_for_locked(uint64_t jump_end, const CallForm& form) const;

  uint64_t address_ = 0;
  uint8_t* memory_ = nullptr;
  int fd_ = -1;
  mutable std::mutex lock_;  // a leaf
  std::bitset<kSize / kCell> used_;
  std::map<uint64_t, Thunk> thunks_;  // by the cell's offset
};

}  // namespace caisson::kernel
