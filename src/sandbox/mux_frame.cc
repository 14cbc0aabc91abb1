#include "sandbox/mux_frame.h"

#include <cstring>

#include "sandbox/mux.h"

namespace caisson::sandbox {
namespace {

uint32_t load_le32(const char* bytes) {
  const auto* b = reinterpret_cast<const unsigned char*>(bytes);
  return uint32_t{b[0]} | uint32_t{b[1]} << 8 | uint32_t{b[2]} << 16 | uint32_t{b[3]} << 24;
}

void store_le32(char* out, uint32_t value) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

// What a frame of this type must look like, beyond the common limits.
bool payload_fits(FrameType type, uint32_t channel, uint32_t bytes) {
  switch (type) {
    case FrameType::Hello:
      return channel == kControlChannel && bytes == kHelloPayload.size();
    case FrameType::Data:
      return bytes > 0;
    case FrameType::Credit:
      return bytes == 4;
    case FrameType::Eof:
    case FrameType::Reset:
      return bytes == 0;
  }
  return false;
}

}  // namespace

uint32_t Frame::credit() const { return load_le32(payload.data()); }

void encode_header(char* out, FrameType type, uint32_t channel, uint32_t payload_bytes) {
  store_le32(out, payload_bytes);
  store_le32(out + 4, channel);
  store_le32(out + 8, static_cast<uint8_t>(type));
}

std::span<char> FrameReader::space() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (buffer_.size() - end_ < kFrameHeaderBytes + kMaxFramePayload) {
    // What remains is the start of one frame: after this it fits, whatever its length.
    memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return {buffer_.data() + end_, buffer_.size() - end_};
}

Result<bool> FrameReader::next(Frame& frame) {
  if (end_ - begin_ < kFrameHeaderBytes) return false;
  const char* header = buffer_.data() + begin_;
  uint32_t bytes = load_le32(header);
  uint32_t channel = load_le32(header + 4);
  uint32_t type = load_le32(header + 8);  // the type's byte and three that must be zero
  if (bytes > kMaxFramePayload) return make_error(EPROTO, "a frame of {} bytes, more than {}", bytes, kMaxFramePayload);
  if (!payload_fits(static_cast<FrameType>(type & 0xff), channel, bytes) || type > 0xff)
    return make_error(EPROTO, "a malformed frame (type {:#x}, channel {}, {} bytes)", type, channel, bytes);
  if (end_ - begin_ < kFrameHeaderBytes + bytes) return false;
  frame = Frame{channel, static_cast<FrameType>(type), {header + kFrameHeaderBytes, bytes}};
  begin_ += kFrameHeaderBytes + bytes;
  return true;
}

}  // namespace caisson::sandbox
