#include "microvm/mirrored_volumes.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <string_view>

#include "base/log.h"
#include "base/unique_fd.h"

namespace caisson::microvm {
namespace {

constexpr uint64_t kMostBytes = 1 << 20;
constexpr size_t kMostFiles = 512;
constexpr int kDeepest = 8;
// An update is several changes in a row: they are followed together.
constexpr std::chrono::milliseconds kDelay{10};

struct Size {
  uint64_t bytes = 0;
  size_t files = 0;
};

std::string link_of(int folder, const char* name) {
  char text[PATH_MAX];
  const ssize_t size = readlinkat(folder, name, text, sizeof text);
  return size > 0 && size < static_cast<ssize_t>(sizeof text) ? std::string(text, static_cast<size_t>(size)) : "";
}

// "..2026_11_21_13_05_59.123456789" (kubernetes, pkg/volume/util/atomic_writer.go, newTimestampDir).
bool is_timestamp(std::string_view name) {
  constexpr std::string_view kForm = "..0000_00_00_00_00_00.";
  if (name.size() <= kForm.size() || name.find('/') != std::string_view::npos) return false;
  return std::equal(kForm.begin(), kForm.end(), name.begin(),
                    [](char form, char is) { return form == '0' ? std::isdigit(static_cast<unsigned char>(is)) != 0 : form == is; });
}

// False where there is more than may be, or something that is neither file, folder nor link.
bool measure(int at, const char* name, int depth, Size& size) {
  UniqueFd folder(openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  std::unique_ptr<DIR, int (*)(DIR*)> opened(folder && depth <= kDeepest ? fdopendir(folder.get()) : nullptr, closedir);
  if (!opened) return false;
  const int fd = folder.release();
  while (const dirent* entry = readdir(opened.get())) {
    const std::string_view child = entry->d_name;
    if (child == "." || child == "..") continue;
    struct stat info {};
    if (fstatat(fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || ++size.files > kMostFiles) return false;
    if (S_ISREG(info.st_mode)) size.bytes += static_cast<uint64_t>(info.st_size);
    if (S_ISDIR(info.st_mode) && !measure(fd, entry->d_name, depth + 1, size)) return false;
    if ((!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode) && !S_ISLNK(info.st_mode)) || size.bytes > kMostBytes) return false;
  }
  return true;
}

}  // namespace

bool is_atomic_volume(const std::string& path) {
  UniqueFd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
  if (!folder) return false;
  const std::string data = link_of(folder.get(), "..data");
  if (!is_timestamp(data)) return false;
  std::unique_ptr<DIR, int (*)(DIR*)> opened(fdopendir(fcntl(folder.get(), F_DUPFD_CLOEXEC, 3)), closedir);
  if (!opened) return false;
  size_t entries = 0;
  while (const dirent* entry = readdir(opened.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == ".." || name.starts_with("..data") || is_timestamp(name)) continue;
    if (++entries > kMostFiles || link_of(folder.get(), entry->d_name).empty()) return false;
  }
  Size size;
  return measure(folder.get(), data.c_str(), 0, size) && host::FolderWatch::is_available();
}

void MirroredVolumes::add(const std::vector<Mirror>& mirrors, std::function<void(Result<void>)> done) {
  if (mirrors.empty()) return done({});
  if (!watch_) {
    auto made = host::FolderWatch::create(loop_);
    if (!made.ok()) return done(std::move(made).error());
    watch_ = std::move(*made);
  }
  auto waiting = std::make_shared<size_t>(mirrors.size());
  auto outcome = std::make_shared<Result<void>>();
  auto one_less = [waiting, outcome, done = std::move(done)](Result<void> copied) {
    if (!copied.ok() && outcome->ok()) *outcome = std::move(copied);
    if (--*waiting == 0) done(std::move(*outcome));
  };
  for (const Mirror& mirror : mirrors) {
    auto volume = std::make_shared<Volume>();
    volume->name = mirror.name;
    // Before the first copy, so that nothing is missed.
    auto watched = watch_->add(mirror.host_path, [this, weak = std::weak_ptr(volume)] {
      if (auto self = weak.lock()) changed(self);
    });
    if (!watched.ok()) {
      one_less(std::move(watched).error());
      continue;
    }
    volume->watch = *watched;
    volumes_[mirror.name] = volume;
    copy(volume, one_less);
  }
}

void MirroredVolumes::changed(const std::shared_ptr<Volume>& volume) {
  if (volume->delay != 0) return;
  volume->delay = loop_.add_timer(kDelay, [this, alive = alive_, weak = std::weak_ptr(volume)] {
    auto self = weak.lock();
    if (!*alive || !self) return;
    self->delay = 0;
    if (self->busy) {
      self->again = true;
      return;
    }
    copy(self, [name = self->name](Result<void> copied) {
      if (!copied.ok()) log::warning("an update of volume {} does not reach its container: {}", name, copied.error().message());
    });
  });
}

void MirroredVolumes::copy(const std::shared_ptr<Volume>& volume, std::function<void(Result<void>)> done) {
  volume->busy = true;
  sandbox::v1::MirrorRequest request;
  request.set_name(volume->name);
  link_.call<sandbox::v1::MirrorResponse>("Mirror", request, link_.timeout(),
                                          [this, alive = alive_, weak = std::weak_ptr(volume), done = std::move(done)](auto response) {
                                            auto self = weak.lock();
                                            if (*alive && self) {
                                              self->busy = false;
                                              if (std::exchange(self->again, false)) changed(self);
                                            }
                                            if (!response.ok()) return done(std::move(response).error());
                                            done({});
                                          });
}

void MirroredVolumes::remove(const std::string& folder) {
  const auto begin = volumes_.lower_bound(folder + "/"), end = volumes_.lower_bound(folder + "0");  // '0' follows '/'
  if (begin == end) return;
  for (auto volume = begin; volume != end; ++volume) {
    watch_->remove(volume->second->watch);
    if (volume->second->delay != 0) loop_.cancel_timer(volume->second->delay);
  }
  volumes_.erase(begin, end);
  if (!link_.ready()) return;
  sandbox::v1::MirrorRequest request;
  request.set_name(folder);
  request.set_remove(true);
  link_.call<sandbox::v1::MirrorResponse>("Mirror", request, link_.timeout(), [folder](auto response) {
    if (!response.ok()) log::debug("mirrors of {} remain in the guest: {}", folder, response.error().message());
  });
}

}  // namespace caisson::microvm
