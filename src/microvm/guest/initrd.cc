#include "microvm/guest/initrd.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "host/files.h"
#include "microvm/guest/cpio.h"
#include "microvm/guest/elf_image.h"
#include "sandbox/program.h"

#ifndef CAISSON_BUILD_BIN
#define CAISSON_BUILD_BIN ""
#endif

namespace caisson::microvm {
namespace {

constexpr int kLayoutVersion = 2;  // changes when assemble_initrd makes something else of the same parts
constexpr time_t kKeepSeconds = 3600;
constexpr const char* kFallbackFolder = "/run/caisson-guest";
constexpr std::string_view kPrefix = "initrd-";

// Names the parts: a changed agent, image or layout gives another name.
Result<std::string> key_of(const ImageManifest& manifest, const std::string& agent) {
  struct stat info {};
  if (stat(agent.c_str(), &info) != 0) return errno_error("cannot find the guest agent {}", agent);
  return content_hash(fmt::format("{} {} {} {} {} {} {} {} {}", kLayoutVersion, manifest.name, manifest.kernel_release, manifest.made_at,
                                  static_cast<uint64_t>(info.st_dev), static_cast<uint64_t>(info.st_ino),
                                  static_cast<int64_t>(info.st_size),
                                  static_cast<int64_t>(info.st_mtim.tv_sec) * 1000000000 + info.st_mtim.tv_nsec,
                                  static_cast<int64_t>(info.st_ctim.tv_sec) * 1000000000 + info.st_ctim.tv_nsec));
}

// Is the initrd there? Marks it as used, so that it is not removed as old.
bool is_there(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
  if (info.st_mtime < time(nullptr) - kKeepSeconds / 4) (void)utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
  return true;
}

// Initrds of agents that are no longer used. One that is in use stays readable in its VM, which has opened it.
void remove_old(const std::string& folder) {
  std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), closedir);
  if (!entries) return;
  while (const dirent* entry = readdir(entries.get())) {
    struct stat info {};
    if (!std::string_view(entry->d_name).starts_with(kPrefix) ||
        fstatat(dirfd(entries.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    if (info.st_mtime < time(nullptr) - kKeepSeconds) unlinkat(dirfd(entries.get()), entry->d_name, 0);
  }
}

bool is_read_only(int code) { return code == EROFS || code == EACCES || code == EPERM; }

}  // namespace

Result<std::string> find_agent() {
  std::vector<std::string> places;
  if (std::string own = sandbox::own_program_folder(); !own.empty()) places.push_back(std::move(own));
  for (const char* place : {"/usr/local/libexec/caisson", "/usr/libexec/caisson", "/usr/local/bin", "/usr/bin", CAISSON_BUILD_BIN})
    if (*place != 0) places.emplace_back(place);
  std::string tried;
  for (const std::string& place : places) {
    const std::string agent = place + "/caisson-agent";
    if (access(agent.c_str(), R_OK) == 0) return agent;
    tried += (tried.empty() ? "" : ", ") + place;
  }
  return make_error(ENOENT, "caisson-agent, the program that runs in a guest, is not in {}: install it beside caisson", tried);
}

Result<std::string> assemble_initrd(const std::string& image_folder, const ImageManifest& manifest, const std::string& agent) {
  Cpio archive;
  for (const char* folder : {"dev", "proc", "sys", "run", "tmp", "etc", "etc/caisson", "lib", "lib/modules"}) archive.add_folder(folder);
  archive.add_character_device("dev/console", 5, 1);
  archive.add_character_device("dev/null", 1, 3, 0666);
  auto program = host::read_file(agent, 256 << 20);
  if (!program) return std::move(program).error().within("cannot read the guest agent");
  auto stripped = strip_program(*program);
  if (!stripped) return std::move(stripped).error().within(fmt::format("the guest agent {} is no program", agent));
  archive.add_file("init", *stripped, 0755);
  std::string list;
  for (const std::string& module : manifest.modules) {
    auto bytes = host::read_file(image_folder + "/modules/" + module, 64 << 20);
    if (!bytes)
      return std::move(bytes).error().within("the guest image is not complete (make it again with 'caisson guest build --force')");
    archive.add_file("lib/modules/" + module, *bytes);
    list += "/lib/modules/" + module + "\n";
  }
  archive.add_file("etc/caisson/modules", list);
  return std::move(archive).finish();
}

Result<std::string> prepare_initrd(const std::string& image_folder, const ImageManifest& manifest, const std::string& agent) {
  const std::string name = std::string(kPrefix) + TRY(key_of(manifest, agent)) + ".cpio";
  const std::array<std::string, 2> folders = {image_folder, std::string(kFallbackFolder) + "/" + manifest.name};
  for (const std::string& folder : folders)
    if (is_there(folder + "/" + name)) return folder + "/" + name;
  const std::string archive = TRY(assemble_initrd(image_folder, manifest, agent));
  Result<void> written;
  for (const std::string& folder : folders) {
    written = host::mkdir_p(folder);
    if (written) written = host::write_file_atomic(folder + "/" + name, archive, 0644);
    if (written) {
      remove_old(folder);
      return folder + "/" + name;
    }
    if (!is_read_only(written.error().code())) break;
  }
  return std::move(written).error().within("cannot make the guest's initrd");
}

}  // namespace caisson::microvm
