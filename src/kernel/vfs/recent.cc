#include "kernel/vfs/recent.h"

#include <array>

namespace caisson::kernel {
namespace {

constexpr size_t kMost = 64;
std::mutex g_lock;
std::array<DentryRef, kMost>& kept_folders() {
  static auto* kept = new std::array<DentryRef, kMost>;  // never torn down: threads may still walk when the process ends
  return *kept;
}

size_t place_of(const Dentry* folder) { return (reinterpret_cast<uintptr_t>(folder) >> 4) * 0x9e3779b97f4a7c15ULL >> 58; }
static_assert(kMost == 1 << (64 - 58));

}  // namespace

void RecentFolders::keep(const DentryRef& folder) {
  if (!folder->inode()->fs()->may_keep_folders()) return;
  DentryRef other = folder;  // what was there goes after the lock
  std::lock_guard guard(g_lock);
  DentryRef& kept = kept_folders()[place_of(folder.get())];
  if (kept != folder) std::swap(kept, other);
}

void RecentFolders::drop(const Dentry& folder) {
  DentryRef other;
  std::lock_guard guard(g_lock);
  DentryRef& kept = kept_folders()[place_of(&folder)];
  if (kept.get() == &folder) std::swap(kept, other);
}

void RecentFolders::drop_all(const FileSystem& fs) {
  std::array<DentryRef, kMost> all;
  {
    std::lock_guard guard(g_lock);
    all = kept_folders();
  }
  for (const DentryRef& folder : all)
    if (folder && folder->inode()->fs().get() == &fs) drop(*folder);
}

}  // namespace caisson::kernel
