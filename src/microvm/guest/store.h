// The cache of guest images: <cache>/<name>/{vmlinux, modules/, manifest.json, initrd-*.cpio}. An image appears and is replaced by rename,
// whole.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::microvm {

struct ImageManifest {
  std::string name;                       // "stock", "tuned"
  std::string kernel_release;             // "6.1.0-53-cloud-amd64"
  std::string source;                     // package and version that it was made from
  std::string config_hash;                // of guest.config, or of the list of modules
  std::string made_at;                    // RFC 3339
  std::vector<std::string> modules;       // files below modules/, in the order in which they are loaded
  bool has_9p = false, has_mmio = false;  // as GuestImage
};

std::string image_folder(const std::string& cache, const std::string& name);
// ENOENT where there is no such image; EINVAL where the manifest is broken.
Result<ImageManifest> read_manifest(const std::string& folder);

// An image in the making: holds the lock of its name (waits for another build), a scratch folder, and what becomes the image.
class ImageBuild {
 public:
  // waiting() is called once if another build has the lock. need: bytes of disk space below cache (ENOSPC).
  static Result<ImageBuild> begin(const std::string& cache, const std::string& name, uint64_t need, const std::function<void()>& waiting);
  ~ImageBuild();  // removes what was not installed
  ImageBuild(ImageBuild&&) = default;
  ImageBuild& operator=(ImageBuild&&) = delete;

  const std::string& scratch() const { return scratch_; }
  const std::string& result() const { return result_; }  // <scratch>/image, exists
  // Writes the manifest and puts the image in its place.
  Result<void> install(const ImageManifest& manifest);

 private:
  ImageBuild(std::string cache, std::string scratch, UniqueFd lock)
      : cache_(std::move(cache)), scratch_(std::move(scratch)), result_(scratch_ + "/image"), lock_(std::move(lock)) {}

  std::string cache_, scratch_, result_;
  UniqueFd lock_;
};

// 64-bit FNV-1a in hexadecimal: names contents, no protection against anybody.
std::string content_hash(std::string_view bytes);

}  // namespace caisson::microvm
