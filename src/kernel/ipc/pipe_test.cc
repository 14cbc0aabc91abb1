#include "kernel/ipc/pipe.h"

#include <gtest/gtest.h>

#include <numeric>

namespace caisson::kernel {
namespace {

Result<size_t> put(Pipe& pipe, std::string_view text, bool packets = false) {
  IoBuffer buffer(text.data(), text.size());
  return pipe.write(buffer, packets);
}
std::string get(Pipe& pipe, size_t size) {
  std::string text(size, '\0');
  IoBuffer buffer(text.data(), text.size());
  const Result<size_t> got = pipe.read(buffer);
  text.resize(got ? *got : 0);
  return text;
}
struct OpenPipe : Pipe {
  OpenPipe() { add_end(true, true); }
};

TEST(Pipe, KeepsOrderAndCountsBytes) {
  OpenPipe pipe;
  EXPECT_EQ(*put(pipe, "abc"), 3U);
  EXPECT_EQ(*put(pipe, "defg"), 4U);
  EXPECT_EQ(pipe.used(), 7U);
  EXPECT_EQ(get(pipe, 5), "abcde");
  EXPECT_EQ(get(pipe, 5), "fg");
  EXPECT_EQ(pipe.used(), 0U);
}

TEST(Pipe, SmallWritesAreWholeOrNotAtAll) {
  OpenPipe pipe;
  ASSERT_TRUE(put(pipe, std::string(Pipe::kDefaultCapacity - 10, 'x')));
  EXPECT_EQ(put(pipe, std::string(11, 'y')).error(), Errno(EAGAIN));
  EXPECT_EQ(*put(pipe, std::string(10, 'y')), 10U);
  EXPECT_EQ(put(pipe, "z").error(), Errno(EAGAIN));
  // A large one takes what there is room for.
  get(pipe, 100);
  EXPECT_EQ(*put(pipe, std::string(5000, 'y')), 100U);
}

TEST(Pipe, WhatIsTakenAndPutBackIsStillThere) {
  OpenPipe pipe;
  ASSERT_TRUE(put(pipe, "0123456789"));
  auto chunks = pipe.take(6);
  ASSERT_TRUE(chunks);
  EXPECT_EQ(pipe.used(), 4U);
  pipe.put_back(*std::move(chunks));
  // Bytes that a peeker holds are not changed by later writes.
  const auto seen = pipe.peek(100);
  ASSERT_TRUE(put(pipe, "more"));
  EXPECT_EQ(get(pipe, 100), "0123456789more");
  std::string copied;
  for (const Chunk& chunk : seen.value()) copied.append(chunk.data(), chunk.size());
  EXPECT_EQ(copied, "0123456789");
}

TEST(Pipe, AppendsOnlyWhatHasRoom) {
  OpenPipe from, to;
  ASSERT_TRUE(to.set_capacity(4096, false));
  ASSERT_TRUE(put(from, std::string(6000, 'a')));
  auto chunks = from.take(6000);
  ASSERT_TRUE(chunks);
  EXPECT_EQ(*to.append(*chunks), 4096U);
  EXPECT_EQ(std::accumulate(chunks->begin(), chunks->end(), size_t{0}, [](size_t sum, const Chunk& chunk) { return sum + chunk.size(); }),
            1904U);
  EXPECT_EQ(to.append(*chunks).error(), Errno(EAGAIN));
  EXPECT_EQ(*to.append(*chunks, true), 1904U);
}

TEST(Pipe, EndsAreTold) {
  Pipe pipe;
  pipe.add_end(true, false);
  EXPECT_EQ(pipe.poll(true, false, 0), 0U);
  pipe.add_end(false, true);
  pipe.remove_end(false, true);
  EXPECT_EQ(pipe.poll(true, false, 0), static_cast<Events>(POLLHUP));
  pipe.remove_end(true, false);
  EXPECT_EQ(put(pipe, "x").error(), Errno(EPIPE));
}

TEST(Pipe, CapacityHasBounds) {
  OpenPipe pipe;
  EXPECT_EQ(*pipe.set_capacity(5000, false), 8192U);
  EXPECT_EQ(pipe.set_capacity(2 << 20, false).error(), Errno(EPERM));
  EXPECT_EQ(pipe.set_capacity(1UL << 30, true).error(), Errno(ENOMEM));
}

TEST(Pipe, AContainersMemory) {
  HeldMemory& memory = *held_memory();  // of no container here
  const uint64_t before = memory.used();
  {
    Pipe pipe;
    pipe.add_end(true, true);
    memory.set_limit(before + 10'000);
    std::string bytes(8192, 'x');
    IoBuffer all(bytes.data(), bytes.size());
    EXPECT_EQ(*pipe.write(all, false), 8192u);
    EXPECT_EQ(memory.used(), before + 8192);
    IoBuffer more(bytes.data(), bytes.size());
    EXPECT_EQ(pipe.write(more, false).error(), Errno(ENOMEM));
    EXPECT_EQ(pipe.used(), 8192u);
    IoBuffer out(bytes.data(), bytes.size());
    EXPECT_EQ(*pipe.read(out), 8192u);
    EXPECT_EQ(memory.used(), before);
    IoBuffer again(bytes.data(), bytes.size());
    EXPECT_EQ(*pipe.write(again, false), 8192u);
    memory.set_limit(HeldMemory::kNoLimit);
  }
  EXPECT_EQ(memory.used(), before);
}

}  // namespace
}  // namespace caisson::kernel
