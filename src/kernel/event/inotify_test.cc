#include "kernel/event/inotify.h"

#include "kernel/fs/common/test_kernel.h"
#include "kernel/vfs/notify.h"

namespace caisson::kernel {
namespace {

class InotifyTest : public TestKernel {
 protected:
  std::shared_ptr<Inotify> instance(uid_t user = 0) { return *Inotify::create(user, O_RDONLY | O_NONBLOCK); }
  Path place(std::string_view path) { return *walk(*task, AT_FDCWD, path); }
  // "wd:mask name" of each event.
  std::string events(Inotify& inotify) {
    char room[4096];
    IoBuffer buffer(room, sizeof room);
    const Result<size_t> got = inotify.read(*task, buffer, 0);
    std::string text;
    for (size_t at = 0; got && at < *got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(room + at);
      text += std::to_string(event->wd) + ":" + std::to_string(event->mask) + (event->len > 0 ? std::string(" ") + event->name : "") + ",";
      at += sizeof *event + event->len;
    }
    return text;
  }
};

TEST_F(InotifyTest, NobodyWatchesNothingIsCounted) {
  EXPECT_FALSE(anybody_watches());
  {
    const auto inotify = instance();
    ASSERT_TRUE(inotify->add_watch(*task, place("/"), IN_CREATE));
    EXPECT_TRUE(anybody_watches());
  }
  EXPECT_FALSE(anybody_watches());
  EXPECT_EQ(place("/").inode()->watched, 0U);
}

TEST_F(InotifyTest, EqualEventsAreOne) {
  const auto inotify = instance();
  ASSERT_EQ(*inotify->add_watch(*task, place("/"), IN_MODIFY | IN_OPEN), 1);
  const FileRef file = open("/f", O_CREAT | O_RDWR);
  notify(file->path(), IN_MODIFY);
  notify(file->path(), IN_MODIFY);
  EXPECT_EQ(events(*inotify), "1:32 f,1:2 f,");
}

TEST_F(InotifyTest, LimitsAreOfUsers) {
  std::vector<std::shared_ptr<Inotify>> all;
  for (size_t i = 0; i < kMostUserInstances; ++i) all.push_back(instance(7));
  EXPECT_EQ(Inotify::create(7, 0).error(), Errno(EMFILE));
  EXPECT_TRUE(Inotify::create(8, 0));
  all.pop_back();
  EXPECT_TRUE(Inotify::create(7, 0));
}

TEST_F(InotifyTest, OverflowIsToldOnce) {
  const auto inotify = instance();
  ASSERT_TRUE(inotify->add_watch(*task, place("/"), IN_CREATE));
  for (size_t i = 0; i < kMostQueuedEvents + 100; ++i) notify_entry(place("/"), IN_CREATE, std::to_string(i));
  std::string all, last;
  for (std::string now = events(*inotify); !now.empty(); now = events(*inotify)) last = now;
  EXPECT_TRUE(last.ends_with("-1:16384,")) << last;
}

TEST_F(InotifyTest, WatchesEndWithTheirFileSystem) {
  const auto inotify = instance();
  {
    const MountRef mount = *mount_in_container(*task, "/t", "tmpfs", "t", "");
    ASSERT_TRUE(inotify->add_watch(*task, place("/t"), IN_CREATE));
    ASSERT_TRUE(container.mounts->remove(mount));
  }
  EXPECT_EQ(events(*inotify), "1:" + std::to_string(IN_UNMOUNT | IN_ISDIR) + ",1:" + std::to_string(IN_IGNORED) + ",");
  EXPECT_FALSE(anybody_watches());
}

}  // namespace
}  // namespace caisson::kernel
