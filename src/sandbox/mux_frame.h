// The frames of the multiplexer (mux.h) as bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace caisson::sandbox {

enum class FrameType : uint8_t { Hello = 1, Data = 2, Credit = 3, Eof = 4, Reset = 5 };

inline constexpr size_t kFrameHeaderBytes = 12;
inline constexpr std::string_view kHelloPayload = "CAISSON1";

struct Frame {
  uint32_t channel = 0;
  FrameType type = FrameType::Data;
  std::string_view payload;  // borrowed from the reader, until its next call

  // Only for a Credit frame, whose payload FrameReader has checked to be four bytes.
  uint32_t credit() const;
};

// Writes a frame's header to the first kFrameHeaderBytes of `out`.
void encode_header(char* out, FrameType type, uint32_t channel, uint32_t payload_bytes);

// Cuts a byte stream into frames. Holds at most kBufferBytes.
class FrameReader {
 public:
  static constexpr size_t kBufferBytes = 192 << 10;

  FrameReader() : buffer_(kBufferBytes) {}

  // Room for more bytes, never empty when next() has been called until it returned false.
  std::span<char> space();
  void filled(size_t bytes) { end_ += bytes; }

  // True: `frame` is the next one. False: more bytes are needed. Error (EPROTO): the bytes are no frame of ours.
  Result<bool> next(Frame& frame);

 private:
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace caisson::sandbox
