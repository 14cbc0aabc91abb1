// The tuned guest image: Debian's kernel source, compiled with src/microvm/guest.config.
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>

#include "host/files.h"
#include "microvm/guest/build.h"
#include "microvm/guest/elf_image.h"
#include "microvm/guest/kernel_config.h"
#include "microvm/guest/program.h"
#include "microvm_guest_config.h"  // generated from guest.config

namespace caisson::microvm {
namespace {

constexpr const char* kSourcePackage = "linux-source-6.12";
constexpr const char* kTarball = "/usr/src/linux-source-6.12.tar.xz";
constexpr int kObjects = 2360;  // lines "CC", "AS", "LD", "AR" that make prints for this configuration, for the estimate of progress
const std::vector<std::string> kBuildPackages = {"bc", "flex", "bison", "libelf-dev", "libssl-dev", "gcc", "make", "xz-utils", "libc6-dev"};

struct Paths {
  std::string scratch, log, source;
};

bool is_installed(const std::string& package, const Paths& paths) {
  const std::string status = paths.scratch + "/status";
  auto asked = run_program({.arguments = {"dpkg-query", "-W", "-f", "${db:Status-Status}", package}, .output = status, .package = "dpkg"});
  auto text = asked ? host::read_file(status) : Result<std::string>(asked.error());
  return text && *text == "installed";
}

Result<void> install_build_packages(const Paths& paths, Progress& progress) {
  std::vector<std::string> missing;
  for (const std::string& package : kBuildPackages)
    if (!is_installed(package, paths)) missing.push_back(package);
  if (missing.empty()) return {};
  progress.step(fmt::format("installing {} and {} other packages that compiling a kernel needs", missing[0], missing.size() - 1));
  Program install{.arguments = {"apt-get", "install", "-y", "-q", "--no-install-recommends"},
                  .log = paths.log,
                  .environment = {{"DEBIAN_FRONTEND", "noninteractive"}},
                  .package = "apt",
                  .tick = [&] { progress.update(); }};
  install.arguments.insert(install.arguments.end(), missing.begin(), missing.end());
  auto installed = run_program(install);
  if (installed) return {};
  TRY(run_program({.arguments = {"apt-get", "update"}, .log = paths.log, .package = "apt"}));
  return run_program(install);
}

// The kernel's source, unpacked to paths.source; where it came from.
Result<std::string> get_source(const Paths& paths, Progress& progress) {
  std::string tarball = kTarball;
  if (access(tarball.c_str(), R_OK) != 0) {
    progress.step(fmt::format("downloading {}", kSourcePackage));
    const Program get{.arguments = {"apt-get", "-o", "APT::Sandbox::User=root", "download", kSourcePackage},
                      .folder = paths.scratch,
                      .log = paths.log,
                      .package = "apt",
                      .tick = [&] { progress.update(); }};
    if (!run_program(get)) {
      TRY(run_program({.arguments = {"apt-get", "update"}, .log = paths.log, .package = "apt"}));
      TRY(run_program(get));
    }
    TRY(run_program({.arguments = {"sh", "-c", "exec dpkg-deb -x linux-source-*.deb deb"},
                     .folder = paths.scratch,
                     .log = paths.log,
                     .package = "dpkg"}));
    tarball = paths.scratch + "/deb" + kTarball;
  }
  progress.step("unpacking the kernel's source");
  TRY(host::mkdir_p(paths.source));
  TRY(run_program({.arguments = {"tar", "-xf", tarball, "--strip-components=1"},
                   .folder = paths.source,
                   .log = paths.log,
                   .package = "tar",
                   .tick = [&] { progress.update(); }}));
  return tarball;
}

Result<void> configure(const Paths& paths, Progress& progress) {
  progress.step("configuring");
  TRY(host::write_file_atomic(paths.source + "/.config", kGuestKernelConfig, 0644));
  TRY(run_program({.arguments = {"make", "olddefconfig"}, .folder = paths.source, .log = paths.log, .package = "make"}));
  const std::vector<std::string> dropped = dropped_options(kGuestKernelConfig, TRY(host::read_file(paths.source + "/.config")));
  if (dropped.empty()) return {};
  return make_error(EINVAL, "the kernel's configuration does not take {}: guest.config does not fit this source", fmt::join(dropped, ", "));
}

// Objects that make has finished, by its output.
int count_objects(const std::string& log, size_t from) {
  auto text = host::read_file(log, 64 << 20);
  if (!text || text->size() < from) return 0;
  int count = 0;
  for (size_t at = text->find("\n  ", from); at != std::string::npos; at = text->find("\n  ", at + 1)) {
    const std::string_view word = std::string_view(*text).substr(at + 3, 3);
    count += word == "CC " || word == "AS " || word == "LD " || word == "AR ";
  }
  return count;
}

Result<void> compile(const Paths& paths, Progress& progress, int jobs) {
  if (jobs <= 0) jobs = std::max(1, get_nprocs());
  progress.step(fmt::format("compiling the kernel with {} jobs", jobs));
  struct stat log_before {};
  const size_t from = stat(paths.log.c_str(), &log_before) == 0 ? static_cast<size_t>(log_before.st_size) : 0;
  int ticks = 0;
  return run_program({.arguments = {"make", fmt::format("-j{}", jobs), "vmlinux"},
                      .folder = paths.source,
                      .log = paths.log,
                      .environment = {{"LC_ALL", "C"}, {"KBUILD_BUILD_USER", "caisson"}, {"KBUILD_BUILD_HOST", "caisson"}},
                      .nice = 5,
                      .package = "make",
                      .tick = [&] {
                        if (ticks++ % 10 == 0) progress.update(static_cast<double>(count_objects(paths.log, from)) / kObjects);
                      }});
}

}  // namespace

std::string tuned_config_hash() { return content_hash(kGuestKernelConfig); }

Result<ImageManifest> build_tuned(ImageBuild& build, Progress& progress, int jobs) {
  const Paths paths{build.scratch(), build.scratch() + "/log", build.scratch() + "/source"};
  TRY(install_build_packages(paths, progress));
  ImageManifest manifest{
      .name = "tuned", .source = TRY(get_source(paths, progress)), .config_hash = tuned_config_hash(), .made_at = timestamp()};
  TRY(configure(paths, progress));
  TRY(compile(paths, progress, jobs));
  const std::string vmlinux = build.result() + "/vmlinux";
  // Symbols stay in the source folder: a fifth of the file that every boot would read.
  TRY(run_program({.arguments = {"objcopy", "--strip-all", paths.source + "/vmlinux", vmlinux}, .log = paths.log, .package = "binutils"}));
  TRY(check_kernel_file(vmlinux));
  const std::string kernel = TRY(host::read_file(vmlinux, 512 << 20));
  manifest.kernel_release = kernel_release_of(kernel);
  manifest.has_9p = has_builtin_9p(kernel);
  manifest.has_mmio = has_builtin_mmio(kernel);
  return manifest;
}

}  // namespace caisson::microvm
