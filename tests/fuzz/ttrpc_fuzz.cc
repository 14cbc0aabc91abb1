// ttrpc from a hostile peer: the frame decoder in pieces of any size, then a server and a client that get the bytes over a socket.
#include <fcntl.h>
#include <google/protobuf/stubs/logging.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "rpc/frame.h"
#include "rpc/ttrpc.h"

namespace caisson {
namespace {

void require(bool condition) {
  if (!condition) abort();
}

// The first byte says into what pieces the rest is cut.
void decode(std::string_view bytes, size_t piece) {
  rpc::FrameDecoder decoder;
  while (!bytes.empty()) {
    require(decoder.wanted() > 0);
    const size_t count = std::min({bytes.size(), piece, decoder.wanted()});
    auto frame = decoder.feed(bytes.substr(0, count));
    bytes.remove_prefix(count);
    if (!frame) return;
    if (!*frame) continue;
    require((*frame)->payload.size() <= rpc::kMaxMessageBytes);
    require((*frame)->type >= rpc::kTypeRequest && (*frame)->type <= rpc::kTypeData);
    // What was decoded is encoded as it came, but for what is unknown to us.
    if (auto request = rpc::decode_request((*frame)->payload)) {
      auto again = rpc::encode_request((*frame)->stream, request->service, request->method, request->payload, request->timeout);
      require(again.ok());
      auto same = rpc::decode_request(std::string_view(*again).substr(rpc::kFrameHeaderBytes));
      require(same.ok() && same->method == request->method && same->payload == request->payload && same->timeout == request->timeout);
    }
    if (auto response = rpc::decode_response((*frame)->payload); !response) require(response.error().code() != 0);
  }
}

struct Pair {
  UniqueFd hostile, ours;
};

// A socket with the bytes in it, and no more to come.
Pair filled(std::string_view bytes) {
  int fds[2];
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  Pair pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
  require(bytes.empty() || send(pair.hostile.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0);
  require(shutdown(pair.hostile.get(), SHUT_WR) == 0);
  return pair;
}

void serve(host::EventLoop& loop, std::string_view bytes) {
  Pair pair = filled(bytes);
  std::vector<rpc::Responder> kept;
  rpc::Server server(loop, [&](rpc::Call call) {
    if (call.method.size() % 3 == 0) return call.respond(std::move(call.payload));
    if (call.method.size() % 3 == 1) return kept.push_back(call.respond);
    // Dropped without an answer.
  });
  require(server.add_connection(std::move(pair.ours), [&] { loop.stop(); }).ok());
  require(loop.run().ok());
  for (const rpc::Responder& respond : kept) respond(std::string("too late"));
}

void call(host::EventLoop& loop, std::string_view bytes) {
  Pair pair = filled(bytes);
  int answers = 0;
  {
    rpc::AsyncClient client(loop, std::move(pair.ours), [&] { loop.stop(); });
    for (int i = 0; i < 3; ++i) client.call("service", "method", "payload", {}, [&](Result<std::string>) { ++answers; });
    require(loop.run().ok());
  }
  require(answers == 3);
}

}  // namespace
}  // namespace caisson

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);
  caisson::log::to_descriptor(-1);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  caisson::decode(bytes, size_t{1} + data[0]);
  auto loop = std::move(caisson::host::EventLoop::create()).value();
  caisson::serve(*loop, bytes);
  caisson::call(*loop, bytes);
  return 0;
}
