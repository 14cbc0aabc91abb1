#include "sandbox/name_frames.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace caisson::sandbox {
namespace {

std::string query(char fill, size_t size = 40) { return std::string(size, fill); }

TEST(NameFrameReader, FramesComeOutAsTheyWentInWhateverThePieces) {
  const std::string bytes = pack_name_frame({1, false, query('a')}) + pack_name_frame({0xbeef, true, query('b', 65535)});
  NameFrameReader reader;
  std::vector<NameFrame> frames;
  for (size_t at = 0; at < bytes.size(); at += 7) {
    reader.add(std::string_view(bytes).substr(at, 7));
    auto next = reader.next();
    ASSERT_TRUE(next.ok());
    if (*next) frames.push_back(**next);
  }
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].key, 1);
  EXPECT_FALSE(frames[0].tcp);
  EXPECT_EQ(frames[0].message, query('a'));
  EXPECT_EQ(frames[1].key, 0xbeef);
  EXPECT_TRUE(frames[1].tcp);
  EXPECT_EQ(frames[1].message.size(), 65535u);
}

TEST(NameFrameReader, WhatIsNoFrameIsRefused) {
  NameFrameReader too_short, unknown;
  too_short.add(std::string("\x0b\0\0\0\0", 5));
  EXPECT_EQ(too_short.next().error().code(), EPROTO);
  unknown.add(std::string("\x20\0\0\0\2", 5));
  EXPECT_EQ(unknown.next().error().code(), EPROTO);
}

class NameChannelTest : public testing::Test {
 protected:
  void SetUp() override {
    loop = std::move(*host::EventLoop::create());
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peer.reset(ends[1]);
    auto made = NameChannel::create(
        *loop, UniqueFd(ends[0]),
        [this](NameFrame frame) {
          frames.push_back(std::move(frame));
          loop->stop();
        },
        [this] {
          channel.reset();
          loop->stop();
        });
    ASSERT_TRUE(made.ok());
    channel = std::move(*made);
  }
  std::unique_ptr<host::EventLoop> loop;
  UniqueFd peer;
  std::unique_ptr<NameChannel> channel;
  std::vector<NameFrame> frames;
};

TEST_F(NameChannelTest, CarriesBothWaysAndEndsWithThePeer) {
  const std::string bytes = pack_name_frame({7, false, query('q')});
  ASSERT_EQ(write(peer.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  ASSERT_TRUE(loop->run().ok());
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(channel->send({7, false, query('r')}));
  char answer[128];
  EXPECT_EQ(read(peer.get(), answer, sizeof answer), 45);
  peer.reset();
  ASSERT_TRUE(loop->run().ok());
  EXPECT_EQ(channel, nullptr);
}

TEST_F(NameChannelTest, APeerThatBreaksTheRulesIsLeft) {
  ASSERT_EQ(write(peer.get(), "\0\0\0\0\0", 5), 5);
  ASSERT_TRUE(loop->run().ok());
  EXPECT_EQ(channel, nullptr);
  EXPECT_TRUE(frames.empty());
}

TEST_F(NameChannelTest, APeerThatDoesNotReadCostsABoundedAmount) {
  size_t taken = 0;
  while (channel->send({1, true, query('x', 60000)})) ASSERT_LT(++taken, 100u);
  EXPECT_GT(taken, 2u);
}

}  // namespace
}  // namespace caisson::sandbox
