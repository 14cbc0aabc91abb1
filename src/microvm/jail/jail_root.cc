#include "microvm/jail/jail_root.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>

#include "host/files.h"
#include "host/mount.h"
#include "host/namespaces.h"
#include "microvm/share_layout.h"

namespace caisson::microvm {
namespace {

// What a dynamically linked program and its loader look for. A symbolic link (usr-merge) stays one.
constexpr std::array<const char*, 5> kLibraries = {"/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"};
constexpr std::array<const char*, 3> kDevices = {"/dev/null", "/dev/zero", "/dev/urandom"};

// Something of the host, taken (detached) while its paths can still be looked up.
struct Piece {
  std::string to;
  UniqueFd tree;
  bool folder = false;
  std::string link;  // a symbolic link to this instead
};

Result<Piece> take(const std::string& from, const std::string& to, bool device) {
  UniqueFd source(open(from.c_str(), O_PATH | O_CLOEXEC));
  struct stat info {};
  if (!source || fstat(source.get(), &info) != 0) return errno_error("cannot find {}", from);
  Piece piece{to, TRY(host::clone_mount(source.get(), "", false)), S_ISDIR(info.st_mode), ""};
  const uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY | (device ? MOUNT_ATTR_NOEXEC : MOUNT_ATTR_NODEV);
  TRY(host::change_mount(piece.tree.get(), {.set = attributes, .propagation = MS_PRIVATE}, false));
  return piece;
}

Result<std::vector<Piece>> take_all(const JailSpec& spec) {
  std::vector<Piece> pieces;
  for (const char* path : kLibraries) {
    struct stat info {};
    if (lstat(path, &info) != 0) continue;
    if (S_ISLNK(info.st_mode)) {
      char target[PATH_MAX] = {};
      if (readlink(path, target, sizeof target - 1) < 0) return errno_error("cannot read the link {}", path);
      pieces.push_back({path, {}, false, target});
    } else {
      pieces.push_back(TRY(take(path, path, false)));
    }
  }
  // Last, so that none of them is covered by a library folder.
  if (!spec.arguments[0].starts_with("/usr/lib/")) pieces.push_back(TRY(take(spec.arguments[0], spec.arguments[0], false)));
  for (const JailFile& file : spec.files) pieces.push_back(TRY(take(file.from, file.to, false)));
  for (const char* device : kDevices) pieces.push_back(TRY(take(device, device, true)));
  return pieces;
}

// Puts a piece below the current folder, the new root.
Result<void> put(const Piece& piece) {
  const std::string to = "." + piece.to;
  TRY(host::mkdir_p(to.substr(0, to.rfind('/'))));
  if (!piece.link.empty()) {
    if (symlink(piece.link.c_str(), to.c_str()) != 0) return errno_error("cannot make the link {}", piece.to);
    return {};
  }
  if (piece.folder) {
    TRY(host::mkdir_p(to));
  } else {
    UniqueFd file(open(to.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444));
    if (!file) return errno_error("cannot make {}", piece.to);
  }
  UniqueFd target(open(to.c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
  if (!target) return errno_error("cannot open {}", piece.to);
  return host::attach_mount(piece.tree.get(), target.get());
}

// Out of the host's mount namespace, into a private copy of the share's, which has nothing in it but the share. What is exposed later
// arrives as it is a slave.
Result<void> enter_share_copy(const JailSpec& spec) {
  TRY(host::join_namespace(spec.jail_namespace, CLONE_NEWNS, "the shared folder's mount namespace"));
  if (unshare(CLONE_NEWNS) != 0) return errno_error("cannot make a mount namespace");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return errno_error("cannot make a mount namespace private");
  return {};
}

// A /proc with the jail's own processes and nothing else: file servers reach files by /proc/self/fd. subset=pid leaves out /proc/sys, where
// uid 0 could write without any capability (proc(5)); the one file there that virtiofsd insists on reading is made up. A mount of proc
// cannot be added to, so it lies beside.
Result<void> put_proc() {
  TRY(host::mkdir_p("./processes"));
  if (mount("proc", "./processes", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid,hidepid=2") != 0)
    return errno_error("cannot mount /proc");
  TRY(host::mkdir_p("./proc/sys/fs"));
  TRY(host::write_file_atomic("./proc/sys/fs/file-max", "1048576\n", 0444));
  if (symlink("/processes/self", "./proc/self") != 0) return errno_error("cannot make /proc/self");
  return {};
}

// Device nodes of our own, which belong to the jail's user: the host's may be for root or a group.
Result<void> put_devices(const JailSpec& spec) {
  if (spec.devices.empty()) return {};
  TRY(host::mkdir_p("./device"));
  UniqueFd place(open("./device", O_PATH | O_DIRECTORY | O_CLOEXEC));
  UniqueFd nodes = TRY(host::make_filesystem("tmpfs", "caisson-devices", {"mode=0755", "size=4k"}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  TRY(host::attach_mount(nodes.get(), place.get()));
  for (const JailDevice& device : spec.devices) {
    const std::string name = device.path.substr(device.path.rfind('/') + 1);
    if (mknodat(nodes.get(), name.c_str(), S_IFCHR | 0600, device.number) != 0 ||
        fchownat(nodes.get(), name.c_str(), spec.uid, spec.gid, 0) != 0)
      return errno_error("cannot make the device {}", device.path);
    if (symlink(("/device/" + name).c_str(), ("." + device.path).c_str()) != 0) return errno_error("cannot make the link {}", device.path);
  }
  return {};
}

Result<void> make_root(const JailSpec& spec, const std::vector<Piece>& pieces) {
  UniqueFd root = TRY(host::make_filesystem("tmpfs", "caisson-jail", {"mode=0755", "size=256k"}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  UniqueFd place(open(kJailFolder, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place && errno == ENOENT)
    return make_error(ENOENT,
                      "{} is not there: in a chroot a virtual machine cannot be jailed; run Caisson in a root of its mount namespace",
                      kJailFolder);
  if (!place) return errno_error("cannot open {}", kJailFolder);
  TRY(host::attach_mount(root.get(), place.get()));
  if (fchdir(root.get()) != 0) return errno_error("cannot enter a jail's root");
  for (const Piece& piece : pieces) TRY(put(piece));
  TRY(put_devices(spec));
  if (spec.proc) TRY(put_proc());
  TRY(host::mkdir_p("." + std::string(kJailShare)));
  if (spec.share) {
    UniqueFd share = TRY(host::clone_mount(AT_FDCWD, kShareRoot, true));
    UniqueFd target(open(("." + std::string(kJailShare)).c_str(), O_PATH | O_CLOEXEC));
    if (!target) return errno_error("cannot open {}", kJailShare);
    TRY(host::attach_mount(share.get(), target.get()));
  }
  return {};
}

}  // namespace

Result<void> enter_jail_root(const JailSpec& spec) {
  if (!spec.confined) {
    // The host's root as it is, with the share in it.
    UniqueFd share, own = TRY(host::own_namespace(*host::find_namespace_type("mount")));
    TRY(host::join_namespace(spec.jail_namespace, CLONE_NEWNS, "the shared folder's mount namespace"));
    share = TRY(host::clone_mount(AT_FDCWD, kShareRoot, true));
    TRY(host::change_mount(share.get(), {.propagation = MS_SLAVE}, true));
    TRY(host::join_namespace(own.get(), CLONE_NEWNS, "the host's mount namespace"));
    if (unshare(CLONE_NEWNS) != 0) return errno_error("cannot make a mount namespace");
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno_error("cannot make a mount namespace private");
    UniqueFd target(open(kUnconfinedShare, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!target) return errno_error("cannot open {}", kUnconfinedShare);
    return host::attach_mount(share.get(), target.get());
  }
  const std::vector<Piece> pieces = TRY(take_all(spec));
  TRY(enter_share_copy(spec));
  TRY(make_root(spec, pieces));
  if (syscall(SYS_pivot_root, ".", ".") != 0) return errno_error("cannot change the root");
  if (umount2(".", MNT_DETACH) != 0) return errno_error("cannot leave the old root");
  if (chdir("/") != 0) return errno_error("cannot enter the new root");
  UniqueFd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return errno_error("cannot open the new root");
  return host::change_mount(root.get(), {.set = MOUNT_ATTR_RDONLY}, false);
}

}  // namespace caisson::microvm
