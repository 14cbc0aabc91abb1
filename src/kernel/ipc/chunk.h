// Chunk: a piece of bytes in a queue (pipe, socket). Its memory is shared, so that splice, tee and partial reads copy nothing.
#pragma once

#include <string.h>

#include <algorithm>
#include <memory>

#include "kernel/errno.h"
#include "kernel/held.h"
#include "kernel/io.h"

namespace caisson::kernel {

struct Chunk {
  Chunk() = default;
  // held: what the memory is counted by, until nobody has it any more.
  Chunk(size_t capacity, HeldBytes held) : capacity(capacity) {
    struct Store {
      HeldBytes held;
      std::unique_ptr<char[]> bytes;
    };
    const auto store = std::make_shared<Store>(Store{std::move(held), std::unique_ptr<char[]>(new char[capacity])});
    memory = std::shared_ptr<char[]>(store, store->bytes.get());
  }
  std::shared_ptr<char[]> memory;
  size_t begin = 0, end = 0, capacity = 0;
  bool packet = false;  // O_DIRECT pipes: one read takes it whole

  size_t size() const { return end - begin; }
  const char* data() const { return memory.get() + begin; }

  // Whether the container has memory left or not.
  static Chunk of_size(size_t size) {
    const size_t capacity = capacity_for(size);
    return Chunk(capacity, HeldBytes::take_anyway(capacity));
  }
  // Up to `size` bytes of the buffer. EFAULT; ENOMEM: the container has no memory left.
  static Result<Chunk> taken(IoBuffer& from, size_t size) {
    const size_t capacity = capacity_for(size);
    Chunk chunk(capacity, TRY(HeldBytes::take(capacity)));
    chunk.end = TRY(from.take(chunk.memory.get(), size));
    return chunk;
  }
  static Chunk copy_of(const void* data, size_t size) {
    Chunk chunk = of_size(size);
    memcpy(chunk.memory.get(), data, size);
    chunk.end = size;
    return chunk;
  }
  // Small writes find room behind: one allocation for many.
  static size_t capacity_for(size_t size) { return size < 512 ? 512 : size; }
  // The first n bytes, which this one loses.
  Chunk split(size_t n) {
    Chunk front = *this;
    front.end = begin + n;
    begin += n;
    return front;
  }
  // Takes in a small chunk if nobody else looks at this memory.
  bool absorb(const Chunk& next) {
    if (packet || next.packet || capacity - end < next.size() || memory.use_count() != 1) return false;
    memcpy(memory.get() + end, next.data(), next.size());
    end += next.size();
    return true;
  }
};

}  // namespace caisson::kernel
