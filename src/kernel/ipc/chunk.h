// Chunk: a piece of bytes in a queue (pipe, socket). Its memory is shared, so that splice, tee and partial reads copy nothing.
#pragma once

#include <string.h>

#include <algorithm>
#include <memory>

#include "kernel/errno.h"
#include "kernel/io.h"

namespace caisson::kernel {

struct Chunk {
  std::shared_ptr<char[]> memory;
  size_t begin = 0, end = 0, capacity = 0;
  bool packet = false;  // O_DIRECT pipes: one read takes it whole

  size_t size() const { return end - begin; }
  const char* data() const { return memory.get() + begin; }

  static Chunk of_size(size_t size) {
    Chunk chunk;
    // Small writes find room behind: one allocation for many.
    chunk.capacity = size < 512 ? 512 : size;
    chunk.memory = std::shared_ptr<char[]>(new char[chunk.capacity]);
    return chunk;
  }
  // Up to `size` bytes of the buffer.
  static Result<Chunk> taken(IoBuffer& from, size_t size) {
    Chunk chunk = of_size(size);
    chunk.end = TRY(from.take(chunk.memory.get(), size));
    return chunk;
  }
  static Chunk copy_of(const void* data, size_t size) {
    Chunk chunk = of_size(size);
    memcpy(chunk.memory.get(), data, size);
    chunk.end = size;
    return chunk;
  }
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
