// ttrpc's frames and envelopes as bytes: no sockets here, so that a fuzzer can drive it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace caisson::rpc {

inline constexpr size_t kMaxMessageBytes = 4 << 20;
inline constexpr size_t kFrameHeaderBytes = 10;

inline constexpr uint8_t kTypeRequest = 1;
inline constexpr uint8_t kTypeResponse = 2;
inline constexpr uint8_t kTypeData = 3;

inline constexpr uint8_t kFlagRemoteClosed = 1;  // the sender will send no more on the stream
inline constexpr uint8_t kFlagRemoteOpen = 2;    // the sender will send data frames: a streaming call
inline constexpr uint8_t kFlagNoData = 4;

struct Frame {
  uint32_t stream = 0;
  uint8_t type = 0;
  uint8_t flags = 0;
  std::string payload;
};

// Header and payload. EMSGSIZE over kMaxMessageBytes.
Result<std::string> encode_frame(uint32_t stream, uint8_t type, uint8_t flags, std::string_view payload);

// Puts frames together from bytes as they come. Bytes come from strangers.
class FrameDecoder {
 public:
  // How many bytes to feed next at most: those of one header, or the rest of one payload. Never 0. Reading no further keeps descriptors
  // with the frame that they came with.
  size_t wanted() const { return wanted_; }
  // Takes at most wanted() bytes; a frame when it is complete. EPROTO when the peer does not speak ttrpc: nothing more can be decoded then.
  Result<std::optional<Frame>> feed(std::string_view bytes);
  // In the middle of a frame.
  bool partial() const { return !buffer_.empty() || in_payload_; }

 private:
  Result<void> parse_header();

  Frame frame_;
  std::string buffer_;
  size_t wanted_ = kFrameHeaderBytes;
  bool in_payload_ = false;
};

// What a request frame carries.
struct RequestEnvelope {
  std::string service;
  std::string method;
  std::string payload;
  std::chrono::nanoseconds timeout{0};  // 0: none
};
Result<std::string> encode_request(uint32_t stream, std::string_view service, std::string_view method, std::string_view payload,
                                   std::chrono::nanoseconds timeout);
Result<RequestEnvelope> decode_request(std::string_view payload);

// A response frame; an answer that is too long becomes an error.
std::string encode_response(uint32_t stream, const Result<std::string>& answer);
std::string encode_status(uint32_t stream, int status, std::string_view message);
// What the peer answered: its payload or its error. EPROTO if it is no answer.
Result<std::string> decode_response(std::string_view payload);

}  // namespace caisson::rpc
