// What a multiplexer has still to send: control frames overtake data frames, never a frame that is partly sent.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sandbox/mux_frame.h"

namespace caisson::sandbox {

// Payload of the frames that we send: with its header a frame is 32 KiB, what a virtio port takes as one buffer.
inline constexpr size_t kSendPayload = (32 << 10) - kFrameHeaderBytes;

class MuxOutput {
 public:
  enum class Priority { Control, Data };

  // A buffer to read a frame's payload into, at most kSendPayload bytes; commit() makes it a frame. Only one at a time.
  std::span<char> reserve(size_t at_most);
  void commit(Priority priority, uint32_t channel, size_t bytes);
  // A frame without or with a small payload.
  void push(Priority priority, FrameType type, uint32_t channel, std::string_view payload = {});

  // Writes what the transport takes now. True: everything has gone; false: the transport is full.
  Result<bool> flush(int transport);

  bool empty() const { return control_.empty() && data_.empty(); }
  // Data frames wait; a source should not be read until some have gone.
  bool congested() const { return data_.size() >= kMostDataBlocks; }

 private:
  static constexpr size_t kMostDataBlocks = 6;
  static constexpr size_t kBlockBytes = kFrameHeaderBytes + kSendPayload;

  // Whole frames, from `begin` on not yet sent.
  struct Block {
    std::unique_ptr<char[]> bytes;
    size_t begin = 0;
    size_t end = 0;
  };

  Block take_block();
  void give_back(Block block);
  std::deque<Block>& queue(Priority priority) { return priority == Priority::Control ? control_ : data_; }
  void sent(std::deque<Block>& from, size_t bytes);

  std::deque<Block> control_;
  std::deque<Block> data_;
  std::vector<std::unique_ptr<char[]>> spare_;
  Block reserved_;
};

}  // namespace caisson::sandbox
