// find_guest_image and build_guest_image.
#include <sys/stat.h>
#include <time.h>

#include "host/files.h"
#include "microvm/guest/build.h"
#include "microvm/guest/elf_image.h"
#include "microvm/guest/initrd.h"
#include "microvm/hypervisor.h"

namespace caisson::microvm {
namespace {

constexpr uint64_t kStockSpace = 600ULL << 20;
constexpr uint64_t kTunedSpace = 3500ULL << 20;

// An image of the cache, with its initrd for our agent.
Result<GuestImage> open_image(const std::string& cache, const std::string& name) {
  const std::string folder = image_folder(cache, name);
  const ImageManifest manifest = TRY(read_manifest(folder));
  GuestImage image{.name = name, .kernel = folder + "/vmlinux", .initrd = {}, .has_9p = manifest.has_9p, .has_mmio = manifest.has_mmio};
  TRY(check_kernel_file(image.kernel));
  image.initrd = TRY(prepare_initrd(folder, manifest, TRY(find_agent())));
  return image;
}

// A kernel of the user's own.
Result<GuestImage> open_custom(const sandbox::MicrovmConfig& config) {
  TRY(check_kernel_file(config.kernel));
  const std::string kernel = TRY(host::read_file(config.kernel, 512 << 20));
  GuestImage image{.name = "custom",
                   .kernel = config.kernel,
                   .initrd = config.initrd,
                   .has_9p = has_builtin_9p(kernel),
                   .has_mmio = has_builtin_mmio(kernel)};
  if (!image.initrd.empty()) {
    struct stat info {};
    if (stat(image.initrd.c_str(), &info) != 0) return errno_error("cannot find the guest's initrd {} (microvm.initrd)", image.initrd);
    return image;
  }
  // Everything built in is assumed: modules of a kernel that we did not make cannot be known.
  ImageManifest manifest{.name = "custom", .kernel_release = content_hash(config.kernel)};
  const std::string folder = image_folder(config.guest_cache, "custom");
  image.initrd = TRY(prepare_initrd(folder, manifest, TRY(find_agent())));
  return image;
}

Error not_built(const std::string& name, const std::string& cache) {
  return make_error(ENOENT, "there is no {}guest image in {}: make one with 'caisson guest build{}'", name.empty() ? "" : name + " ", cache,
                    name == "tuned" ? " --tuned" : "");
}

}  // namespace

Result<GuestImage> find_guest_image(const sandbox::MicrovmConfig& config) {
  if (!config.kernel.empty()) return open_custom(config);
  if (config.guest != "auto") {
    auto image = open_image(config.guest_cache, config.guest);
    if (!image && image.error().code() == ENOENT && !read_manifest(image_folder(config.guest_cache, config.guest)))
      return not_built(config.guest, config.guest_cache);
    return image;
  }
  for (const char* name : {"tuned", "stock"}) {
    auto manifest = read_manifest(image_folder(config.guest_cache, name));
    if (manifest || manifest.error().code() != ENOENT) return open_image(config.guest_cache, name);
  }
  return not_built("", config.guest_cache);
}

Result<GuestImage> build_guest_image(const sandbox::MicrovmConfig& config, const BuildOptions& options) {
  const std::string name = options.tuned ? "tuned" : "stock";
  const std::string folder = image_folder(config.guest_cache, name);
  Progress progress(options.quiet);
  auto build = TRY(ImageBuild::begin(config.guest_cache, name, options.tuned ? kTunedSpace : kStockSpace,
                                     [&] { progress.step("waiting for another build of this image"); }));
  // Made meanwhile by the build that we have waited for, or long ago.
  if (!options.force) {
    auto manifest = read_manifest(folder);
    if (manifest && manifest->config_hash == (options.tuned ? tuned_config_hash() : stock_recipe_hash())) {
      auto image = open_image(config.guest_cache, name);
      if (image) {
        progress.done(fmt::format("the {} guest image is there: {} ({})", name, folder, manifest->kernel_release));
        return image;
      }
    }
  }
  auto manifest = options.tuned ? build_tuned(build, progress, options.jobs) : build_stock(build, progress);
  if (!manifest) return std::move(manifest).error().within(fmt::format("cannot make the {} guest image", name));
  TRY(build.install(*manifest));
  auto image = open_image(config.guest_cache, name);
  if (image) progress.done(fmt::format("made the {} guest image: {} ({})", name, folder, manifest->kernel_release));
  return image;
}

std::string kernel_release_of(std::string_view vmlinux) {
  constexpr std::string_view kBanner = "Linux version ";
  for (size_t at = vmlinux.find(kBanner); at != std::string_view::npos; at = vmlinux.find(kBanner, at + 1)) {
    const std::string_view rest = vmlinux.substr(at + kBanner.size(), 100);
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return std::string(rest.substr(0, rest.find(' ')));
  }
  return "";
}

bool has_builtin_9p(std::string_view vmlinux) {
  return vmlinux.find(std::string_view("9pnet_virtio\0", 13)) != std::string_view::npos &&
         vmlinux.find("9p2000.L") != std::string_view::npos;
}

// The parameter by which QEMU's microvm machine tells of its devices; only there with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES.
bool has_builtin_mmio(std::string_view vmlinux) { return vmlinux.find("virtio_mmio.device") != std::string_view::npos; }

std::string timestamp() {
  const time_t now = time(nullptr);
  tm parts{};
  gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                     parts.tm_min, parts.tm_sec);
}

}  // namespace caisson::microvm
