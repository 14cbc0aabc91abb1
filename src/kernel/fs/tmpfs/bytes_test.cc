#include "kernel/fs/tmpfs/bytes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <random>

namespace caisson::kernel {
namespace {

class FileBytesTest : public testing::Test {
 protected:
  std::string read(size_t size, off_t offset) {
    std::string text(size, '?');
    IoBuffer buffer(text.data(), text.size());
    const Result<size_t> got = bytes.read(buffer, offset);
    EXPECT_TRUE(got);
    text.resize(got ? *got : 0);
    return text;
  }
  Result<size_t> write(std::string_view text, off_t offset) {
    IoBuffer buffer(text.data(), text.size());
    return bytes.write(buffer, offset);
  }
  std::shared_ptr<Budget> budget = std::make_shared<Budget>(1 << 20);
  FileBytes bytes{budget};
};

TEST_F(FileBytesTest, SmallContentsNeedNoDescriptor) {
  ASSERT_TRUE(write("hello", 3));
  EXPECT_EQ(bytes.host_fd_now(), -1);
  EXPECT_EQ(read(100, 0), std::string(3, '\0') + "hello");
  EXPECT_EQ(read(100, 8), "");
  EXPECT_EQ(budget->used(), 4096u);
  ASSERT_TRUE(write(std::string(5000, 'x'), 0));
  EXPECT_GE(bytes.host_fd_now(), 0);
  EXPECT_EQ(bytes.size(), 5000);
}

TEST_F(FileBytesTest, AgreesWithAString) {
  std::mt19937 random(3);
  std::string model;
  for (int step = 0; step < 2000; ++step) {
    // Offsets grow, so that the first steps are small content and the later ones are not.
    const off_t offset = random() % (step + 10);
    const size_t size = random() % 300;
    switch (random() % 4) {
      case 0: {
        const std::string text(size, static_cast<char>('a' + step % 26));
        const Result<size_t> put = write(text, offset);
        ASSERT_TRUE(put);
        ASSERT_EQ(*put, size);
        if (size > 0 && model.size() < offset + size) model.resize(offset + size);
        model.replace(offset, size, text);
        break;
      }
      case 1:
        if (random() % 8 != 0) break;
        ASSERT_TRUE(bytes.resize(offset));
        model.resize(offset);
        break;
      case 2:
        if (random() % 500 == 0) {
          ASSERT_TRUE(bytes.host_fd(true));
        }
        break;
      default:
        ASSERT_EQ(read(size, offset), static_cast<size_t>(offset) < model.size() ? model.substr(offset, size) : "") << "step " << step;
    }
    ASSERT_EQ(bytes.size(), static_cast<off_t>(model.size()));
  }
}

TEST_F(FileBytesTest, TheBudgetIsKept) {
  Result<size_t> put = write(std::string(3 << 20, 'x'), 0);
  ASSERT_TRUE(put);
  EXPECT_EQ(*put, 1u << 20);
  put = write("more", 1 << 20);
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error(), Errno(ENOSPC));
  EXPECT_TRUE(write("overwritten", 1000)) << "pages that are there cost nothing";
  EXPECT_EQ(bytes.allocate(0, 1 << 20, 4096).error(), Errno(ENOSPC));
  ASSERT_TRUE(bytes.allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 19));
  EXPECT_EQ(budget->used(), 1u << 19);
  EXPECT_EQ(read(4, 0), std::string(4, '\0'));
  ASSERT_TRUE(bytes.resize(0));
  EXPECT_EQ(budget->used(), 0u);
}

TEST_F(FileBytesTest, OffsetsBeyondTheEndOfTheWorldAreRefused) {
  EXPECT_EQ(write("x", std::numeric_limits<off_t>::max()).error(), Errno(EFBIG));
  EXPECT_EQ(write("x", -1).error(), Errno(EINVAL));
  EXPECT_FALSE(bytes.resize(-1));
  EXPECT_FALSE(bytes.allocate(0, std::numeric_limits<off_t>::max(), 10));
  EXPECT_FALSE(bytes.allocate(0, 0, 0));
  EXPECT_EQ(read(10, std::numeric_limits<off_t>::max()), "");
}

TEST_F(FileBytesTest, AReadOnlyDescriptorCannotBecomeWritable) {
  ASSERT_TRUE(write("text", 0));
  const Result<int> fd = bytes.host_fd(false);
  ASSERT_TRUE(fd);
  void* mapped = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, *fd, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_NE(mprotect(mapped, 4096, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(std::string_view(static_cast<char*>(mapped), 4), "text");
  munmap(mapped, 4096);
}

TEST_F(FileBytesTest, HolesAreFound) {
  ASSERT_TRUE(bytes.resize(1 << 20));
  ASSERT_TRUE(write("x", 512 << 10));
  EXPECT_EQ(*bytes.seek_data(0, SEEK_DATA), 512 << 10);
  EXPECT_EQ(*bytes.seek_data(512 << 10, SEEK_HOLE), (512 << 10) + 4096);
  EXPECT_EQ(bytes.seek_data(2 << 20, SEEK_DATA).error(), Errno(ENXIO));
}

}  // namespace
}  // namespace caisson::kernel
