#include "agent/mirror.h"

#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "base/unique_fd.h"
#include "host/files.h"

namespace caisson::agent {
namespace {

namespace fs = std::filesystem;

// Writes as kubelet's atomic writer does.
class MirrorTest : public testing::Test {
 protected:
  void SetUp() override {
    folder = testing::TempDir() + "mirror." + std::to_string(getpid());
    source = folder + "/source";
    target = folder + "/target";
    fs::create_directories(source);
    fs::permissions(source, fs::perms(0777));
  }
  void TearDown() override { fs::remove_all(folder); }

  void update(const std::string& version, const std::map<std::string, std::string>& files) {
    const fs::path data = source + "/" + version;
    const std::string old = link(source + "/..data");
    for (const auto& [name, text] : files) {
      fs::create_directories((data / name).parent_path());
      ASSERT_TRUE(host::write_file_atomic(data / name, text, 0640).ok());
    }
    fs::create_symlink(version, source + "/..data_tmp");
    fs::rename(source + "/..data_tmp", source + "/..data");
    for (const auto& [name, text] : files) {
      const std::string top = *fs::path(name).begin();
      if (link(source + "/" + top).empty()) fs::create_symlink("..data/" + top, source + "/" + top);
    }
    for (const auto& entry : fs::directory_iterator(source))
      if (entry.is_symlink() && entry.path().filename() != "..data" && !fs::exists(entry.path())) fs::remove(entry.path());
    if (!old.empty()) fs::remove_all(source + "/" + old);
  }
  static std::string link(const std::string& path) {
    std::error_code none;
    return fs::read_symlink(path, none).string();
  }
  std::string read(const std::string& name) const {
    auto text = host::read_file(target + "/" + name);
    return text.ok() ? *text : "(" + text.error().message() + ")";
  }
  std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(target)) found.insert(entry.path().filename());
    return found;
  }
  std::string folder, source, target;
};

TEST_F(MirrorTest, IsWhatTheSourceIs) {
  update("..one", {{"key", "1"}, {"sub/deep/file", "2"}});
  ASSERT_TRUE(mirror_volume(source, target).ok());
  EXPECT_EQ(names(), (std::set<std::string>{"..data", "..one", "key", "sub"}));
  EXPECT_EQ(read("key"), "1");
  EXPECT_EQ(read("sub/deep/file"), "2");
  struct stat info {};
  ASSERT_EQ(stat((target + "/key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
  ASSERT_EQ(stat(target.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0777u);
}

TEST_F(MirrorTest, AnUpdateIsSeenByInotifyAsTheWriterMakesIt) {
  update("..one", {{"key", "1"}, {"goes", "x"}});
  ASSERT_TRUE(mirror_volume(source, target).ok());
  UniqueFd events(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(inotify_add_watch(events.get(), target.c_str(), IN_CREATE | IN_MOVED_TO | IN_DELETE), 0);
  update("..two", {{"key", "2"}, {"comes", "y"}});
  ASSERT_TRUE(mirror_volume(source, target).ok());
  EXPECT_EQ(names(), (std::set<std::string>{"..data", "..two", "key", "comes"}));
  EXPECT_EQ(read("key"), "2");
  std::set<std::string> moved, deleted;
  alignas(inotify_event) char buffer[16384];
  const ssize_t size = ::read(events.get(), buffer, sizeof buffer);
  for (ssize_t at = 0; at < size;) {
    const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
    if (event->mask & IN_MOVED_TO) moved.insert(event->name);
    if (event->mask & IN_DELETE) deleted.insert(event->name);
    at += static_cast<ssize_t>(sizeof *event + event->len);
  }
  EXPECT_EQ(moved, (std::set<std::string>{"..data", "comes"}));
  EXPECT_EQ(deleted, (std::set<std::string>{"..one", "goes"}));
}

TEST_F(MirrorTest, WithoutAChangeNothingIsTouched) {
  update("..one", {{"key", "1"}});
  ASSERT_TRUE(mirror_volume(source, target).ok());
  UniqueFd events(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(inotify_add_watch(events.get(), target.c_str(), IN_CREATE | IN_MOVED_TO | IN_DELETE), 0);
  ASSERT_TRUE(mirror_volume(source, target).ok());
  char buffer[1024];
  EXPECT_EQ(::read(events.get(), buffer, sizeof buffer), -1);
}

TEST_F(MirrorTest, WhatIsNotTheWritersIsRefusedOrLeftOut) {
  EXPECT_EQ(mirror_volume(source, target).error().code(), EINVAL);
  fs::create_symlink("../../etc", source + "/..data");
  EXPECT_EQ(mirror_volume(source, target).error().code(), EINVAL);
  fs::remove(source + "/..data");
  update("..one", {{"key", "1"}});
  ASSERT_TRUE(host::write_file_atomic(source + "/plain", "x").ok());
  ASSERT_EQ(mkfifo((source + "/..one/pipe").c_str(), 0600), 0);
  ASSERT_TRUE(mirror_volume(source, target).ok());
  EXPECT_EQ(names(), (std::set<std::string>{"..data", "..one", "key"}));
  EXPECT_FALSE(fs::exists(target + "/..one/pipe"));
}

TEST_F(MirrorTest, AFailureLeavesTheOldData) {
  update("..one", {{"key", "1"}});
  ASSERT_TRUE(mirror_volume(source, target).ok());
  fs::create_symlink("..gone", source + "/..data_tmp");
  fs::rename(source + "/..data_tmp", source + "/..data");
  EXPECT_EQ(mirror_volume(source, target).error().code(), ENOENT);
  EXPECT_EQ(read("key"), "1");
}

}  // namespace
}  // namespace caisson::agent
