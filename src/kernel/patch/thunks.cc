#include "kernel/patch/thunks.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "kernel/stub/layout.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

extern "C" const char caisson_stub_blob[];

namespace caisson::kernel {
namespace {

uint64_t entry_of_blob() {
  StubHeader header;
  memcpy(&header, caisson_stub_blob, sizeof header);
  return header.thunk_entry;
}

// Assembles a thunk; the largest has 50 bytes.
class Writer {
 public:
  explicit Writer(uint64_t address) : address_(address) {}
  void bytes(std::span<const uint8_t> code) {
    memcpy(&code_[size_], code.data(), code.size());
    size_ += code.size();
  }
  void word(uint64_t value) { bytes({reinterpret_cast<const uint8_t*>(&value), sizeof value}); }
  // The 32-bit distance from behind it to `target`.
  void distance(uint64_t target) {
    const auto value = static_cast<int32_t>(target - (here() + 4));
    bytes({reinterpret_cast<const uint8_t*>(&value), sizeof value});
  }
  uint64_t here() const { return address_ + size_; }
  std::span<const uint8_t> code() const { return {code_.data(), size_}; }

 private:
  uint64_t address_;
  size_t size_ = 0;
  std::array<uint8_t, 64> code_{};
};

}  // namespace

uint64_t Thunk::guest_rip(uint64_t rip) const {
  if (rip == start) return site - form.before;
  if (rip <= call) return site;  // the move has been made, or there is none
  const uint64_t behind = rip - call - kCallLength;
  return site + kCallLength + (behind == 0 ? 0 : form.behind);
}

Result<std::shared_ptr<ThunkRegion>> ThunkRegion::create(uint64_t at) {
  std::shared_ptr<ThunkRegion> region(new ThunkRegion);
  region->address_ = at;
  region->fd_ = memfd_create("guest-thunks", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (region->fd_ < 0) return host_errno();
  if (ftruncate(region->fd_, kSize) != 0) return host_errno();
  void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd_, 0);
  if (memory == MAP_FAILED) return host_errno();
  region->memory_ = static_cast<uint8_t*>(memory);
  // Writable here, and nowhere else from now on.
  if (fcntl(region->fd_, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return host_errno();
  const uint64_t entry = entry_of_blob();
  memcpy(region->memory_, &entry, sizeof entry);
  region->used_.set(0);
  return region;
}

ThunkRegion::~ThunkRegion() {
  mapped();
  if (memory_ != nullptr) munmap(memory_, kSize);
}

void ThunkRegion::mapped() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

bool ThunkRegion::reaches(uint64_t at, uint64_t site) {
  constexpr int64_t kReach = 0x7ff00000;
  const auto first = static_cast<int64_t>(at - site), last = static_cast<int64_t>(at + kSize - site);
  return first > -kReach && last < kReach;
}

std::optional<uint64_t> ThunkRegion::cell_for_locked(uint64_t jump_end, const CallForm& form) const {
  for (size_t cell = 1; cell < used_.size(); ++cell) {
    if (used_[cell]) continue;
    const uint64_t distance = address_ + cell * kCell - jump_end;
    if (form.kind == CallForm::Next && (distance >> 8 & 0xff) != kBreakpoint) continue;
    return cell * kCell;
  }
  return std::nullopt;
}

std::optional<Thunk> ThunkRegion::add(uint64_t site, const CallForm& form, std::span<const uint8_t> code) {
  constexpr uint8_t kLoadCall[] = {0x4c, 0x8d, 0x1d}, kJumpThrough[] = {0xff, 0x25}, kJump[] = {0xe9}, kCall[] = {0x0f, 0x05};
  std::lock_guard guard(lock_);
  const std::optional<uint64_t> offset = cell_for_locked(site - form.before + kJumpLength, form);
  if (!offset) return std::nullopt;
  Thunk thunk{form, site, address_ + *offset, 0};
  constexpr uint64_t kToCall = sizeof kLoadCall + 4 + sizeof kJumpThrough + 4 + 8;
  thunk.call = thunk.start + form.before + kToCall;
  Writer writer(thunk.start);
  writer.bytes(code.first(form.before));
  writer.bytes(kLoadCall);
  writer.distance(thunk.call);
  writer.bytes(kJumpThrough);
  writer.distance(address_);
  writer.word(site + kCallLength);
  writer.bytes(kCall);
  writer.bytes(code.subspan(form.before + kCallLength, form.behind));
  writer.bytes(kJump);
  writer.distance(site + kCallLength + form.behind);
  memcpy(memory_ + *offset, writer.code().data(), writer.code().size());
  used_.set(*offset / kCell);
  thunks_[*offset] = thunk;
  return thunk;
}

std::optional<Thunk> ThunkRegion::find(uint64_t rip) const {
  std::lock_guard guard(lock_);
  const auto found = thunks_.find((rip - address_) & ~(kCell - 1));
  if (!contains(rip) || found == thunks_.end()) return std::nullopt;
  return found->second;
}

}  // namespace caisson::kernel
