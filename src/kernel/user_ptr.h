// Addresses in a guest's memory. They cannot be dereferenced: Task::read, Task::write and GuestMemory are the only way through.
#pragma once

#include <cstddef>
#include <cstdint>

namespace caisson::kernel {

// An address that the guest gave us for a T (or for a row of them). Nothing is known about it but its number.
template <typename T>
class UserPtr {
 public:
  constexpr UserPtr() = default;
  explicit constexpr UserPtr(uint64_t address) : address_(address) {}
  template <typename U>
  explicit constexpr UserPtr(UserPtr<U> other) : address_(other.address()) {}
  constexpr uint64_t address() const { return address_; }
  explicit constexpr operator bool() const { return address_ != 0; }
  // The i-th T after this one; wraps like the guest's own arithmetic would.
  UserPtr operator+(uint64_t i) const { return UserPtr(address_ + i * size()); }

 private:
  static constexpr uint64_t size() {
    if constexpr (__is_same(T, void) || __is_same(T, const void))
      return 1;
    else
      return sizeof(T);
  }
  uint64_t address_ = 0;
};

// A piece of guest memory: bytes [address, address + length).
struct UserSpan {
  uint64_t address = 0;
  uint64_t length = 0;
};

}  // namespace caisson::kernel
