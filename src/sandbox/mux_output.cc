#include "sandbox/mux_output.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace caisson::sandbox {

MuxOutput::Block MuxOutput::take_block() {
  Block block;
  if (spare_.empty()) {
    block.bytes = std::make_unique_for_overwrite<char[]>(kBlockBytes);
  } else {
    block.bytes = std::move(spare_.back());
    spare_.pop_back();
  }
  return block;
}

void MuxOutput::give_back(Block block) {
  if (spare_.size() < 2) spare_.push_back(std::move(block.bytes));
}

std::span<char> MuxOutput::reserve(size_t at_most) {
  if (!reserved_.bytes) reserved_ = take_block();
  return {reserved_.bytes.get() + kFrameHeaderBytes, std::min(at_most, kSendPayload)};
}

void MuxOutput::commit(Priority priority, uint32_t channel, size_t bytes) {
  const char* payload = reserved_.bytes.get() + kFrameHeaderBytes;
  std::deque<Block>& to = queue(priority);
  // Small frames share a block, which is one write: a keystroke's frame costs no 32 KiB.
  if (bytes <= kSendPayload / 4 && !to.empty() && to.back().end + kFrameHeaderBytes + bytes <= kBlockBytes) {
    Block& last = to.back();
    encode_header(last.bytes.get() + last.end, FrameType::Data, channel, static_cast<uint32_t>(bytes));
    memcpy(last.bytes.get() + last.end + kFrameHeaderBytes, payload, bytes);
    last.end += kFrameHeaderBytes + bytes;
    return;
  }
  encode_header(reserved_.bytes.get(), FrameType::Data, channel, static_cast<uint32_t>(bytes));
  reserved_.end = kFrameHeaderBytes + bytes;
  to.push_back(std::move(reserved_));
  reserved_ = Block{};
}

void MuxOutput::push(Priority priority, FrameType type, uint32_t channel, std::string_view payload) {
  std::deque<Block>& to = queue(priority);
  if (to.empty() || to.back().end + kFrameHeaderBytes + payload.size() > kBlockBytes) to.push_back(take_block());
  Block& last = to.back();
  encode_header(last.bytes.get() + last.end, type, channel, static_cast<uint32_t>(payload.size()));
  if (!payload.empty()) memcpy(last.bytes.get() + last.end + kFrameHeaderBytes, payload.data(), payload.size());
  last.end += kFrameHeaderBytes + payload.size();
}

void MuxOutput::sent(std::deque<Block>& from, size_t bytes) {
  while (bytes > 0) {
    Block& first = from.front();
    size_t part = std::min(bytes, first.end - first.begin);
    first.begin += part;
    bytes -= part;
    if (first.begin == first.end) {
      give_back(std::move(first));
      from.pop_front();
    }
  }
}

Result<bool> MuxOutput::flush(int transport) {
  while (!empty()) {
    // A block that is partly sent goes first: its frames must not be cut. (It holds several frames at most when they are small.)
    bool data_first = control_.empty() || (!data_.empty() && data_.front().begin > 0);
    std::deque<Block>& from = data_first ? data_ : control_;
    std::array<iovec, 8> vectors;
    size_t count = 0;
    for (const Block& block : from) {
      vectors[count++] = {block.bytes.get() + block.begin, block.end - block.begin};
      // While control frames wait, only the block that is partly sent may go before them.
      if (count == vectors.size() || (data_first && !control_.empty())) break;
    }
    ssize_t n = writev(transport, vectors.data(), static_cast<int>(count));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return false;
    if (n < 0) return errno_error("cannot write to the sandbox's transport");
    sent(from, static_cast<size_t>(n));
    if (n == 0) return false;
  }
  return true;
}

}  // namespace caisson::sandbox
