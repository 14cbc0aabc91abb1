#include "rpc/frame.h"

#include "base/utf8.h"
#include "rpc/ttrpc.h"
#include "ttrpc.pb.h"

namespace caisson::rpc {
namespace {

void append_be32(std::string& bytes, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
}

uint32_t be32(const std::string& bytes, size_t offset) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[offset + i]);
  return value;
}

std::string frame_bytes(uint32_t stream, uint8_t type, uint8_t flags, std::string_view payload) {
  std::string bytes;
  bytes.reserve(kFrameHeaderBytes + payload.size());
  append_be32(bytes, static_cast<uint32_t>(payload.size()));
  append_be32(bytes, stream);
  bytes += static_cast<char>(type);
  bytes += static_cast<char>(flags);
  return bytes.append(payload);
}

// proto3 strings must be UTF-8; messages quote paths and output that may be anything.
std::string status_payload(int status, int errno_value, std::string_view message) {
  ttrpc::Response response;
  response.mutable_status()->set_code(status);
  response.mutable_status()->set_errno_value(errno_value);
  response.mutable_status()->set_message(printable(message.substr(0, 64 << 10)));
  return response.SerializeAsString();
}

}  // namespace

Result<std::string> encode_frame(uint32_t stream, uint8_t type, uint8_t flags, std::string_view payload) {
  if (payload.size() > kMaxMessageBytes)
    return make_error(EMSGSIZE, "a message of {} bytes is too long: at most {} can be sent", payload.size(), kMaxMessageBytes);
  return frame_bytes(stream, type, flags, payload);
}

Result<void> FrameDecoder::parse_header() {
  const uint32_t length = be32(buffer_, 0);
  frame_ = Frame{be32(buffer_, 4), static_cast<uint8_t>(buffer_[8]), static_cast<uint8_t>(buffer_[9]), {}};
  if (length > kMaxMessageBytes) return make_error(EPROTO, "a ttrpc frame claims {} bytes, more than {}", length, kMaxMessageBytes);
  if (frame_.type < kTypeRequest || frame_.type > kTypeData)
    return make_error(EPROTO, "a ttrpc frame has the unknown type {}", frame_.type);
  buffer_.clear();
  wanted_ = length;
  in_payload_ = true;
  return {};
}

Result<std::optional<Frame>> FrameDecoder::feed(std::string_view bytes) {
  if (bytes.size() > wanted_) return make_error(EPROTO, "a ttrpc decoder was fed beyond a frame");
  buffer_.append(bytes);
  wanted_ -= bytes.size();
  if (wanted_ > 0) return std::optional<Frame>();
  if (!in_payload_) {
    auto parsed = parse_header();
    if (!parsed) {
      wanted_ = 1;  // never 0; the caller gives up
      return std::move(parsed).error();
    }
    if (wanted_ > 0) return std::optional<Frame>();
  }
  frame_.payload = std::move(buffer_);
  buffer_.clear();
  wanted_ = kFrameHeaderBytes;
  in_payload_ = false;
  return std::optional<Frame>(std::move(frame_));
}

Result<std::string> encode_request(uint32_t stream, std::string_view service, std::string_view method, std::string_view payload,
                                   std::chrono::nanoseconds timeout) {
  ttrpc::Request request;
  request.set_service(std::string(service));
  request.set_method(std::string(method));
  request.set_payload(std::string(payload));
  request.set_timeout_nano(timeout.count());
  return encode_frame(stream, kTypeRequest, kFlagRemoteClosed, request.SerializeAsString());
}

Result<RequestEnvelope> decode_request(std::string_view payload) {
  ttrpc::Request request;
  if (!request.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
    return make_error(EPROTO, "a ttrpc request cannot be decoded");
  return RequestEnvelope{std::move(*request.mutable_service()), std::move(*request.mutable_method()), std::move(*request.mutable_payload()),
                         std::chrono::nanoseconds(request.timeout_nano())};
}

std::string encode_status(uint32_t stream, int status, std::string_view message) {
  return frame_bytes(stream, kTypeResponse, 0, status_payload(status, 0, message));
}

std::string encode_response(uint32_t stream, const Result<std::string>& answer) {
  if (!answer) {
    const int code = answer.error().code();
    return frame_bytes(stream, kTypeResponse, 0, status_payload(status_from_errno(code), code, answer.error().message()));
  }
  ttrpc::Response response;
  response.set_payload(*answer);
  const std::string payload = response.SerializeAsString();
  if (payload.size() > kMaxMessageBytes)
    return encode_response(
        stream, make_error(EMSGSIZE, "the answer has {} bytes, more than the {} that can be sent", payload.size(), kMaxMessageBytes));
  return frame_bytes(stream, kTypeResponse, 0, payload);
}

Result<std::string> decode_response(std::string_view payload) {
  ttrpc::Response response;
  if (!response.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
    return make_error(EPROTO, "a ttrpc response cannot be decoded");
  if (response.has_status() && response.status().code() != 0) {
    const int exact = response.status().errno_value();
    return Error(exact > 0 && exact < 4096 ? exact : errno_from_status(response.status().code()), printable(response.status().message()));
  }
  return std::move(*response.mutable_payload());
}

}  // namespace caisson::rpc
