#include "rpc/ttrpc.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "host/files.h"

namespace caisson::rpc {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::pair<UniqueFd, UniqueFd> socket_pair() {
  int fds[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// A server in a thread of its own, and the methods that the tests call.
class TtrpcTest : public ::testing::Test {
 protected:
  void SetUp() override {
    loop_ = std::move(host::EventLoop::create()).value();
    server_ = std::make_unique<Server>(*loop_, [this](Call call) { handle(std::move(call)); });
    int fds[2];
    ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
    stop_read_.reset(fds[0]);
    stop_write_.reset(fds[1]);
    ASSERT_TRUE(loop_->add(stop_read_.get(), 1, [this](uint32_t) {
      loop_->remove(stop_read_.get());
      loop_->stop();
    }));
  }
  void TearDown() override { stop(); }

  void start() {
    thread_ = std::thread([this] { EXPECT_TRUE(loop_->run().ok()); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    stop_write_.reset();
    thread_.join();
  }

  // A client of a connection added before start().
  UniqueFd connect(std::function<void()> closed = {}) {
    auto [ours, theirs] = socket_pair();
    EXPECT_TRUE(server_->add_connection(std::move(theirs), std::move(closed)).ok());
    return std::move(ours);
  }

  void handle(Call call) {
    if (call.method == "Echo") return call.respond(std::move(call.payload));
    if (call.method == "Fail") return call.respond(make_error(ESRCH, "no \xff such thing"));
    if (call.method == "Drop") return;
    if (call.method == "Late") {
      auto respond = call.respond;
      loop_->add_timer(milliseconds(100), [respond] { respond(std::string("late")); });
      return;
    }
    if (call.method == "Wait") {
      call.respond.on_disconnect([this] { ++disconnects_; });
      waiting_.push_back(call.respond);
      return;
    }
    if (call.method == "Wake") {
      for (const Responder& respond : waiting_) respond(std::string("woken"));
      waiting_.clear();
      return call.respond(std::string());
    }
    if (call.method == "ReadAll") {
      std::string all;
      for (const UniqueFd& fd : call.fds) all += std::move(host::read_descriptor(fd.get())).value() + ";";
      return call.respond(all);
    }
    if (call.method == "Huge") return call.respond(std::string(kMaxMessageBytes + 1, 'x'));
    if (call.method == "Big") return call.respond(std::string(kMaxMessageBytes - 100, 'x'));
    call.respond(make_error(ENOSYS, "no method {}", call.method));
  }

  std::unique_ptr<host::EventLoop> loop_;
  std::unique_ptr<Server> server_;
  std::vector<Responder> waiting_;
  std::atomic<int> disconnects_ = 0;
  UniqueFd stop_read_, stop_write_;
  std::thread thread_;
};

TEST_F(TtrpcTest, AnswersAndErrors) {
  Client client(connect());
  start();
  EXPECT_EQ(*client.call("s", "Echo", "hello"), "hello");
  EXPECT_EQ(*client.call("s", "Echo", ""), "");
  const std::string big(kMaxMessageBytes - 100, 'b');
  EXPECT_EQ(*client.call("s", "Echo", big), big);
  auto failed = client.call("s", "Fail", "");
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), ESRCH);
  EXPECT_EQ(failed.error().message(), "no \\xff such thing");
  EXPECT_EQ(client.call("s", "Drop", "").error().code(), EPROTO);
  EXPECT_EQ(client.call("s", "Huge", "").error().code(), EMSGSIZE);
  EXPECT_EQ(client.call("s", "Echo", std::string(kMaxMessageBytes, 'x')).error().code(), EMSGSIZE);
  EXPECT_EQ(client.call("s", "Absent", "").error().code(), ENOSYS);
  EXPECT_EQ(*client.call("s", "Echo", "still there"), "still there");
}

TEST_F(TtrpcTest, DescriptorsComeWithTheirRequest) {
  Client client(connect());
  start();
  for (int round = 0; round < 3; ++round) {
    int fds[2];
    ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
    UniqueFd read_end(fds[0]), write_end(fds[1]);
    ASSERT_TRUE(host::write_all(write_end.get(), "first").ok());
    write_end.reset();
    UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(*client.call("s", "ReadAll", std::string(200000, 'p'), {read_end.get(), null.get()}), "first;;");
    EXPECT_EQ(*client.call("s", "ReadAll", ""), "");
  }
  EXPECT_EQ(client.call("s", "Echo", "", {1234567}).error().code(), EBADF);
  EXPECT_EQ(*client.call("s", "Echo", "after"), "after");
}

// One call is blocked while others, of the same and of another connection, are answered.
TEST_F(TtrpcTest, CallsAreConcurrent) {
  UniqueFd socket = connect();
  UniqueFd socket_copy(fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  Client other(connect());
  start();
  // By hand: two requests on one connection before any answer is read.
  ASSERT_TRUE(host::write_all(socket.get(), *encode_request(1, "s", "Wait", "", {})).ok());
  ASSERT_TRUE(host::write_all(socket.get(), *encode_request(3, "s", "Echo", "quick", {})).ok());
  FrameDecoder decoder;
  auto next = [&]() -> Frame {
    while (true) {
      std::string bytes(decoder.wanted(), 0);
      const ssize_t count = read(socket.get(), bytes.data(), bytes.size());
      if (count <= 0) return {};
      auto frame = std::move(decoder.feed(std::string_view(bytes).substr(0, static_cast<size_t>(count)))).value();
      if (frame) return std::move(*frame);
    }
  };
  Frame first = next();
  EXPECT_EQ(first.stream, 3u);
  EXPECT_EQ(*decode_response(first.payload), "quick");
  ASSERT_TRUE(other.call("s", "Wake", "").ok());
  Frame second = next();
  EXPECT_EQ(second.stream, 1u);
  EXPECT_EQ(*decode_response(second.payload), "woken");
}

TEST_F(TtrpcTest, DeadlineThenLateAnswer) {
  Client client(connect());
  start();
  const auto begin = std::chrono::steady_clock::now();
  auto late = client.call("s", "Late", "", {}, milliseconds(20));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code(), ETIMEDOUT);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
  std::this_thread::sleep_for(milliseconds(150));
  EXPECT_EQ(*client.call("s", "Echo", "mine"), "mine");  // not the late one
}

TEST_F(TtrpcTest, DisconnectRunsHooks) {
  std::atomic<bool> closed = false;
  auto client = std::make_unique<Client>(connect([&] { closed = true; }));
  Client other(connect());
  start();
  EXPECT_EQ(client->call("s", "Wait", "", {}, milliseconds(20)).error().code(), ETIMEDOUT);
  EXPECT_EQ(disconnects_, 0);
  client.reset();
  for (int i = 0; i < 500 && !closed; ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_TRUE(closed);
  EXPECT_EQ(disconnects_, 1);
  EXPECT_TRUE(other.call("s", "Wake", "").ok());  // answers into the void
  EXPECT_EQ(disconnects_, 1);
}

TEST_F(TtrpcTest, ServerGone) {
  Client client(connect());
  start();
  EXPECT_TRUE(client.call("s", "Echo", "").ok());
  stop();
  server_.reset();
  EXPECT_EQ(client.call("s", "Echo", "").error().code(), ECONNRESET);
  EXPECT_EQ(client.call("s", "Echo", "").error().code(), ECONNRESET);
}

// Bytes that break the protocol end their connection and no other.
TEST_F(TtrpcTest, HostileBytes) {
  auto frame = [](uint32_t length, uint32_t stream, uint8_t type, uint8_t flags, const std::string& payload) {
    std::string bytes = *encode_frame(stream, type, flags, payload);
    for (int i = 0; i < 4; ++i) bytes[static_cast<size_t>(i)] = static_cast<char>(length >> (24 - 8 * i));
    return bytes;
  };
  const std::string good = encode_request(1, "s", "Echo", "x", {})->substr(kFrameHeaderBytes);
  const std::vector<std::string> bad = {
      frame(0xffffffff, 1, kTypeRequest, 0, "x"),                                                       // a length that no memory holds
      frame(kMaxMessageBytes + 1, 1, kTypeRequest, 0, ""),                                              // just too long
      frame(3, 1, 9, 0, "abc"),                                                                         // unknown type
      frame(3, 1, 0, 0, "abc"),                                                                         //
      frame(3, 1, kTypeResponse, 0, "abc"),                                                             // an answer to a server
      frame(3, 1, kTypeRequest, 0, "\xff\xff\xff"),                                                     // no protobuf
      encode_request(1, "s", "Wait", "", {}).value() + encode_request(1, "s", "Echo", "", {}).value(),  // a stream twice
      std::string("GET / HTTP/1.1\r\n\r\n"),
  };
  std::vector<UniqueFd> sockets;
  for (size_t i = 0; i < bad.size(); ++i) sockets.push_back(connect());
  Client witness(connect());
  start();
  for (size_t i = 0; i < bad.size(); ++i) {
    ASSERT_TRUE(host::write_all(sockets[i].get(), bad[i]).ok());
    char byte;
    EXPECT_LE(read(sockets[i].get(), &byte, 1), 0) << "case " << i;
    EXPECT_EQ(*witness.call("s", "Echo", "alive"), "alive");
  }
  waiting_.clear();
}

// Streaming, an even stream id: refused with a status, and the connection lives on.
TEST_F(TtrpcTest, StreamingIsRefusedPerStream) {
  UniqueFd socket = connect();
  start();
  const std::string request = encode_request(1, "s", "Echo", "x", {})->substr(kFrameHeaderBytes);
  std::string bytes;
  bytes += *encode_frame(1, kTypeRequest, kFlagRemoteOpen, request);
  bytes += *encode_frame(1, kTypeData, 0, "late data of a refused call");
  bytes += *encode_frame(7, kTypeData, kFlagRemoteClosed, "data of nothing");
  bytes += *encode_frame(2, kTypeRequest, 0, request);
  bytes += *encode_frame(9, kTypeRequest, kFlagRemoteClosed, request);
  ASSERT_TRUE(host::write_all(socket.get(), bytes).ok());
  FrameDecoder decoder;
  std::vector<std::pair<uint32_t, int>> seen;
  while (seen.size() < 4) {
    std::string part(decoder.wanted(), 0);
    const ssize_t count = read(socket.get(), part.data(), part.size());
    ASSERT_GT(count, 0);
    auto frame = std::move(decoder.feed(std::string_view(part).substr(0, static_cast<size_t>(count)))).value();
    if (!frame) continue;
    auto answer = decode_response(frame->payload);
    seen.emplace_back(frame->stream, answer ? 0 : answer.error().code());
  }
  EXPECT_EQ(seen, (std::vector<std::pair<uint32_t, int>>{{1, ENOSYS}, {7, ENOSYS}, {2, EINVAL}, {9, 0}}));
}

TEST_F(TtrpcTest, DescriptorFloodIsClosed) {
  UniqueFd socket = connect();
  Client witness(connect());
  start();
  auto open_descriptors = [] {
    int count = 0;
    for (int fd = 0; fd < 4096; ++fd) count += fcntl(fd, F_GETFD) >= 0;
    return count;
  };
  const int before = open_descriptors();
  UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::vector<int> many(60, null.get());
  const std::string request = *encode_request(1, "s", "Echo", "x", {});
  // 60 with the first byte, 60 more with the second: more than one frame may have.
  ASSERT_TRUE(host::send_with_fds(socket.get(), request.substr(0, 1), many).ok());
  (void)host::send_with_fds(socket.get(), request.substr(1, 1), many);
  char byte;
  EXPECT_LE(read(socket.get(), &byte, 1), 0);
  EXPECT_TRUE(witness.call("s", "Echo", "").ok());
  EXPECT_EQ(open_descriptors(), before - 1 + 1);  // the server's end has gone, /dev/null has come
}

TEST_F(TtrpcTest, SlowReaderIsDropped) {
  UniqueFd socket = connect();
  Client witness(connect());
  start();
  bool dropped = false;
  for (uint32_t stream = 1; stream < 41 && !dropped; stream += 2)
    dropped = !host::send_with_fds(socket.get(), *encode_request(stream, "s", "Big", "", {}), {}).ok();
  ASSERT_TRUE(witness.call("s", "Echo", "").ok());
  pollfd hung_up{socket.get(), 0, 0};
  ASSERT_EQ(poll(&hung_up, 1, 20000), 1) << "the connection is still open";
  // What was sent may be read; then comes the end, before 80 MB.
  uint64_t total = 0;
  std::string buffer(1 << 20, 0);
  for (ssize_t count; (count = read(socket.get(), buffer.data(), buffer.size())) > 0;) total += static_cast<uint64_t>(count);
  EXPECT_LT(total, 20u << 20);
}

TEST_F(TtrpcTest, SlowButPatientReaderGetsEverything) {
  UniqueFd socket = connect();
  start();
  for (uint32_t stream = 1; stream < 7; stream += 2)
    ASSERT_TRUE(host::write_all(socket.get(), *encode_request(stream, "s", "Big", "", {})).ok());
  FrameDecoder decoder;
  std::vector<uint32_t> streams;
  while (streams.size() < 3) {
    std::string part(std::min<size_t>(decoder.wanted(), 100000), 0);
    const ssize_t count = read(socket.get(), part.data(), part.size());
    ASSERT_GT(count, 0);
    auto frame = std::move(decoder.feed(std::string_view(part).substr(0, static_cast<size_t>(count)))).value();
    if (!frame) continue;
    EXPECT_EQ(*decode_response(frame->payload), std::string(kMaxMessageBytes - 100, 'x'));
    streams.push_back(frame->stream);
  }
  EXPECT_EQ(streams, (std::vector<uint32_t>{1, 3, 5}));
}

TEST_F(TtrpcTest, ListenerAndLongSocketNames) {
  std::string dir = testing::TempDir() + "caisson-rpc-XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const std::string deep = dir + "/" + std::string(100, 'd');
  ASSERT_TRUE(host::mkdir_p(deep).ok());
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  UniqueFd folder(open(deep.c_str(), O_PATH | O_CLOEXEC));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/s", folder.get());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener.get(), 16), 0);
  ASSERT_TRUE(server_->add_listener(std::move(listener)).ok());
  start();
  auto one = Client::connect(deep + "/s");
  auto two = Client::connect(deep + "/s");
  ASSERT_TRUE(one.ok()) << one.error().message();
  ASSERT_TRUE(two.ok());
  EXPECT_EQ(*one->call("s", "Echo", "1"), "1");
  EXPECT_EQ(*two->call("s", "Echo", "2"), "2");
  EXPECT_EQ(Client::connect(deep + "/absent").error().code(), ENOENT);
  EXPECT_TRUE(host::remove_tree(dir).ok());
}

// Server and client on one loop.
class AsyncClientTest : public TtrpcTest {
 protected:
  void run() {
    loop_->add_timer(seconds(10), [this] {
      ADD_FAILURE() << "still waiting after 10 s";
      loop_->stop();
    });
    ASSERT_TRUE(loop_->run().ok());
  }
};

TEST_F(AsyncClientTest, ManyCallsUnderWay) {
  AsyncClient client(*loop_, connect());
  int answers = 0;
  std::string order;
  client.call("s", "Wait", "", {}, [&](Result<std::string> answer) {
    EXPECT_EQ(*answer, "woken");
    order += 'w';
    loop_->stop();
  });
  for (int i = 0; i < 50; ++i)
    client.call("s", "Echo", std::to_string(i), {}, [&, i](Result<std::string> answer) {
      EXPECT_EQ(*answer, std::to_string(i));
      if (++answers == 50) client.call("s", "Wake", "", {}, [&](Result<std::string>) { order += 'k'; });
    });
  run();
  EXPECT_EQ(answers, 50);
  EXPECT_EQ(order, "w");
}

TEST_F(AsyncClientTest, DeadlineAndLateAnswer) {
  AsyncClient client(*loop_, connect());
  int calls = 0;
  client.call("s", "Late", "", milliseconds(10), [&](Result<std::string> answer) {
    EXPECT_EQ(answer.error().code(), ETIMEDOUT);
    ++calls;
  });
  client.call("s", "Late", "", milliseconds(1000), [&](Result<std::string> answer) {
    EXPECT_EQ(*answer, "late");
    ++calls;
    loop_->stop();
  });
  run();
  EXPECT_EQ(calls, 2);
}

TEST_F(AsyncClientTest, CallsFailBeforeClosed) {
  auto [ours, theirs] = socket_pair();
  std::string order;
  AsyncClient client(*loop_, std::move(ours), [&] {
    order += 'c';
    client.call("s", "Echo", "", {}, [&](Result<std::string> answer) {
      EXPECT_EQ(answer.error().code(), ECONNRESET);
      order += 'x';
      loop_->stop();
    });
  });
  for (int i = 0; i < 2; ++i)
    client.call("s", "Echo", "", {}, [&](Result<std::string> answer) {
      EXPECT_EQ(answer.error().code(), ECONNRESET);
      order += 'f';
    });
  theirs.reset();
  run();
  EXPECT_EQ(order, "ffcx");
}

TEST_F(AsyncClientTest, PeerThatDoesNotSpeakTtrpc) {
  auto [ours, theirs] = socket_pair();
  bool closed = false;
  AsyncClient client(*loop_, std::move(ours), [&] {
    closed = true;
    loop_->stop();
  });
  ASSERT_TRUE(host::write_all(theirs.get(), "\xff\xff\xff\xff and more").ok());
  run();
  EXPECT_TRUE(closed);
}

TEST(StatusTest, GoesThereAndBack) {
  for (int code : {ENOENT, EINVAL, EPERM, ECANCELED, EEXIST, ENOMEM, EBUSY, ENOSYS, ETIMEDOUT, EAGAIN})
    EXPECT_EQ(errno_from_status(status_from_errno(code)), code);
  EXPECT_EQ(status_from_errno(ESRCH), 5);
  EXPECT_EQ(status_from_errno(9999), 2);
  EXPECT_EQ(errno_from_status(9999), EIO);
  // A peer that is not Caisson sends no errno.
  EXPECT_EQ(decode_response(encode_status(1, 5, "not there").substr(kFrameHeaderBytes)).error().code(), ENOENT);
}

}  // namespace
}  // namespace caisson::rpc
