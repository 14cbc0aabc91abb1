#include "microvm/guest/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "host/files.h"

namespace caisson::microvm {
namespace {

constexpr int kManifestFormat = 1;

std::string text_of(const nlohmann::json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

bool flag_of(const nlohmann::json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

// Scratch folders of builds that were killed. The caller holds the lock, so none is in use.
void remove_old_scratch(const std::string& cache, const std::string& prefix) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(cache.c_str()), closedir);
  if (!folder) return;
  while (const dirent* entry = readdir(folder.get()))
    if (std::string_view(entry->d_name).starts_with(prefix)) (void)host::remove_tree(cache + "/" + entry->d_name);
}

Result<void> check_space(const std::string& cache, uint64_t need) {
  struct statvfs info {};
  if (statvfs(cache.c_str(), &info) != 0) return errno_error("cannot examine {}", cache);
  const uint64_t free = uint64_t{info.f_bavail} * info.f_frsize;
  if (free >= need) return {};
  return make_error(
      ENOSPC,
      "{} has {} MiB of free space, and building the image needs {} MiB: make room, or set microvm.guest_cache to a folder on another disk",
      cache, free >> 20, need >> 20);
}

}  // namespace

std::string image_folder(const std::string& cache, const std::string& name) { return cache + "/" + name; }

Result<ImageManifest> read_manifest(const std::string& folder) {
  const std::string path = folder + "/manifest.json";
  const std::string text = TRY(host::read_file(path, 1 << 20));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  auto format = json.is_object() ? json.find("format") : json.end();
  if (!json.is_object() || format == json.end() || *format != kManifestFormat)
    return make_error(EINVAL, "{} is not as this version writes it: make the image again with 'caisson guest build --force'", path);
  ImageManifest manifest{text_of(json, "name"),        text_of(json, "kernel_release"), text_of(json, "source"),
                         text_of(json, "config_hash"), text_of(json, "made_at"),        {},
                         flag_of(json, "has_9p"),      flag_of(json, "has_mmio")};
  if (auto modules = json.find("modules"); modules != json.end() && modules->is_array())
    for (const auto& module : *modules)
      if (module.is_string()) manifest.modules.push_back(module.get<std::string>());
  return manifest;
}

Result<ImageBuild> ImageBuild::begin(const std::string& cache, const std::string& name, uint64_t need,
                                     const std::function<void()>& waiting) {
  TRY(host::mkdir_p(cache));
  UniqueFd lock(open((cache + "/." + name + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return errno_error("cannot make a lock file in {}", cache);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error("cannot lock {}", cache);
    waiting();
    while (flock(lock.get(), LOCK_EX) != 0)
      if (errno != EINTR) return errno_error("cannot lock {}", cache);
  }
  const std::string prefix = "." + name + ".building-";
  remove_old_scratch(cache, prefix);
  TRY(check_space(cache, need));
  std::string scratch = cache + "/" + prefix + "XXXXXX";
  if (mkdtemp(scratch.data()) == nullptr) return errno_error("cannot make a folder in {}", cache);
  ImageBuild build(cache, scratch, std::move(lock));
  TRY(host::mkdir_p(build.result_));
  return build;
}

ImageBuild::~ImageBuild() {
  if (lock_) (void)host::remove_tree(scratch_);
}

Result<void> ImageBuild::install(const ImageManifest& manifest) {
  const nlohmann::json json = {{"format", kManifestFormat},
                               {"name", manifest.name},
                               {"kernel_release", manifest.kernel_release},
                               {"source", manifest.source},
                               {"config_hash", manifest.config_hash},
                               {"made_at", manifest.made_at},
                               {"modules", manifest.modules},
                               {"has_9p", manifest.has_9p},
                               {"has_mmio", manifest.has_mmio}};
  TRY(host::write_file_atomic(result_ + "/manifest.json", json.dump(2) + "\n", 0644));
  const std::string place = image_folder(cache_, manifest.name);
  // Exchanged, so that there is an image at every moment; what was there goes with the scratch folder.
  if (renameat2(AT_FDCWD, result_.c_str(), AT_FDCWD, place.c_str(), RENAME_EXCHANGE) == 0) return {};
  if (errno == ENOENT && rename(result_.c_str(), place.c_str()) == 0) return {};
  return errno_error("cannot put the image at {}", place);
}

std::string content_hash(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

}  // namespace caisson::microvm
