#include "container/mounts.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "container/labels.h"
#include "container/spawn.h"
#include "host/mount.h"
#include "host/namespaces.h"
#include "host/rooted_path.h"

namespace caisson::container {
namespace {

// Places of /proc that may be covered: what lxcfs and the like put there. Anything else would let an image deceive programs that trust
// /proc.
constexpr std::string_view kAllowedInProc[] = {"/proc/cpuinfo",
                                               "/proc/diskstats",
                                               "/proc/meminfo",
                                               "/proc/stat",
                                               "/proc/swaps",
                                               "/proc/uptime",
                                               "/proc/loadavg",
                                               "/proc/slabinfo",
                                               "/proc/net/dev",
                                               "/proc/sys/kernel/ns_last_pid",
                                               "/proc/sys/crypto/fips_enabled"};
// File systems without a device behind them: "ro" is a matter of the mount alone.
constexpr std::string_view kPseudo[] = {"tmpfs", "proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2"};

template <typename Table>
bool contains(const Table& table, std::string_view name) {
  return std::find(std::begin(table), std::end(table), name) != std::end(table);
}

std::string source_path(const std::string& source, const std::string& bundle) {
  return source.starts_with('/') ? source : bundle + "/" + source;
}

// mount_setattr(2), MOUNT_ATTR_IDMAP: by the mount's own mappings, else by the container's.
Result<void> map_ids(const oci::Spec& spec, const oci::Mount& mount, const MountPlan& plan, int tree) {
  const auto& uids = mount.uid_mappings.empty() ? spec.linux_.uid_mappings : mount.uid_mappings;
  const auto& gids = mount.gid_mappings.empty() ? spec.linux_.gid_mappings : mount.gid_mappings;
  if (uids.empty() || gids.empty()) return make_error(EINVAL, "an id-mapped mount needs uidMappings and gidMappings");
  const UniqueFd user_namespace = TRY(host::make_user_namespace(ranges_of(uids), ranges_of(gids)));
  auto done = host::change_mount(tree, {.set = MOUNT_ATTR_IDMAP, .user_namespace = user_namespace.get()}, plan.idmap_recursive);
  if (!done) return std::move(done).error().within("its file system or this kernel cannot map its ids");
  return {};
}

class Mounter {
 public:
  Mounter(InitContext& context, int root, int index)
      : context_(context), root_(root), index_(index), mount_(context.spec.mounts[static_cast<size_t>(index)]), plan_(plan_mount(mount_)) {}

  Result<void> run() {
    if (plan_.idmap && !plan_.bind) return make_error(EINVAL, "only a bind mount can map ids");
    if (plan_.remount) return remount();
    if (plan_.bind) return bind();
    if (mount_.type == "cgroup" || mount_.type == "cgroup2") {
      const host::RootedPath target = TRY(open_target(host::Missing::MakeFolder));
      return mount_cgroups(context_, plan_, target.fd.get());
    }
    return filesystem();
  }

 private:
  Result<host::RootedPath> open_target(host::Missing missing) {
    host::RootedPath target = TRY(host::open_in_root(root_, mount_.destination, missing));
    if (target.path == "/") return make_error(EINVAL, "a mount cannot cover the container's root");
    if (target.path.starts_with("/proc/") && TRY(host::filesystem_magic(target.fd.get())) == PROC_SUPER_MAGIC &&
        !contains(kAllowedInProc, target.path))
      return make_error(EPERM, "{} is inside /proc, where only {} and the like may be covered", target.path, kAllowedInProc[0]);
    return target;
  }

  Result<UniqueFd> open_bind_source() {
    // That needs rights over the source's file system, and a process of which the host's /proc tells.
    if (plan_.idmap) return wanted_source(context_, index_);
    auto tree = host::clone_mount(AT_FDCWD, source_path(mount_.source, context_.options.bundle), plan_.recursive);
    if (!tree && context_.has_namespace("user") && tree.error().code() != ENOENT) return wanted_source(context_, index_);
    return tree;
  }

  Result<void> bind() {
    const UniqueFd tree = TRY(open_bind_source());
    struct stat info;
    if (fstat(tree.get(), &info) != 0) return errno_error("cannot stat the source");
    const host::RootedPath target = TRY(open_target(S_ISDIR(info.st_mode) ? host::Missing::MakeFolder : host::Missing::MakeFile));
    TRY(change_bind(tree.get()));
    return put(tree.get(), target.fd.get());
  }

  // Only what the options ask for and is not so yet: in a user namespace the other attributes are locked.
  Result<void> change_bind(int tree) {
    const uint64_t now = TRY(host::mount_attributes(tree));
    uint64_t clear = plan_.clear & now & ~static_cast<uint64_t>(MOUNT_ATTR__ATIME);
    if ((plan_.clear & MOUNT_ATTR__ATIME) != 0 && (plan_.set & MOUNT_ATTR__ATIME) != (now & MOUNT_ATTR__ATIME)) clear |= MOUNT_ATTR__ATIME;
    uint64_t set = plan_.set & ~now;
    set &= ~static_cast<uint64_t>(MOUNT_ATTR__ATIME);
    if ((clear & MOUNT_ATTR__ATIME) != 0) {
      clear |= MOUNT_ATTR__ATIME;
      set |= plan_.set & MOUNT_ATTR__ATIME;
    }
    auto done = host::change_mount(tree, {.set = set, .clear = clear}, false);
    if (done || done.error().code() != EPERM || !context_.has_namespace("user")) return done;
    log::warning("mounts[{}] ({}): the source's mount is more restricted, and a user namespace cannot lift that", index_,
                 mount_.destination);
    return host::change_mount(tree, {.set = set & ~static_cast<uint64_t>(MOUNT_ATTR__ATIME)}, false);
  }

  Result<void> remount() {
    const host::RootedPath target = TRY(open_target(host::Missing::Fail));
    if (plan_.bind) return host::change_mount(target.fd.get(), {.set = plan_.set, .clear = plan_.clear, .propagation = 0}, false);
    return host::mount_filesystem(mount_.type, mount_.source, plan_.parameters, plan_.ms_flags, target.fd.get());
  }

  // The parameters for the file system: the options that are data, and what the type needs besides.
  Result<std::vector<std::string>> parameters(const host::RootedPath& target, bool existed) {
    std::vector<std::string> list = plan_.parameters;
    const bool has_mode = std::any_of(list.begin(), list.end(), [](const std::string& entry) { return entry.starts_with("mode="); });
    if (mount_.type == "tmpfs" && existed && !has_mode) {
      struct stat info;
      if (fstat(target.fd.get(), &info) != 0) return errno_error("cannot stat the destination");
      list.push_back(fmt::format("mode={:o}", info.st_mode & 07777));
    }
    if (!contains(kPseudo, mount_.type) && (plan_.set & MOUNT_ATTR_RDONLY) != 0) list.push_back("ro");
    if (!context_.spec.linux_.mount_label.empty() && mount_.type != "proc" && mount_.type != "sysfs")
      TRY(add_mount_label(context_.spec.linux_.mount_label, list));
    return list;
  }

  Result<void> filesystem() {
    const bool existed = host::open_in_root(root_, mount_.destination).ok();
    const host::RootedPath target = TRY(open_target(host::Missing::MakeFolder));
    if ((mount_.type == "proc" || mount_.type == "sysfs") && target.path != clean_destination())
      return make_error(EPERM, "a {} file system goes to a real folder, not through symbolic links to {}", mount_.type, target.path);
    const std::vector<std::string> list = TRY(parameters(target, existed));
    const uint64_t attributes = plan_.tmpcopyup ? plan_.set & ~static_cast<uint64_t>(MOUNT_ATTR_RDONLY) : plan_.set;
    auto mount = host::make_filesystem(mount_.type, mount_.source, list, attributes);
    if (!mount && mount.error().code() == ENAMETOOLONG) {
      TRY(host::mount_filesystem(mount_.type, mount_.source, list, plan_.ms_flags, target.fd.get()));
      const host::RootedPath mounted = TRY(host::open_in_root(root_, target.path));
      return finish(mounted.fd.get());
    }
    if (!mount && mount.error().code() == EPERM) return bind_instead(std::move(mount).error(), target.fd.get());
    if (!mount) return std::move(mount).error();
    if (plan_.tmpcopyup && mount_.type == "tmpfs") {
      TRY(copy_folder(target.fd.get(), mount->get()));
      if ((plan_.set & MOUNT_ATTR_RDONLY) != 0) TRY(host::change_mount(mount->get(), {.set = MOUNT_ATTR_RDONLY}, false));
    }
    return put(mount->get(), target.fd.get());
  }

  // proc and sysfs belong to the owner of the PID and network namespace: in a user namespace that does not own them the host's are bound
  // instead.
  Result<void> bind_instead(Error error, int target) {
    const bool shares =
        mount_.type == "proc" ? !context_.has_fresh_namespace("pid") : mount_.type == "sysfs" && !context_.has_fresh_namespace("network");
    if (!context_.has_namespace("user") || !shares) return error;
    log::debug("mounts[{}] ({}): bound from the host, since the container shares its namespace", index_, mount_.destination);
    const UniqueFd tree = TRY(host::clone_mount(AT_FDCWD, mount_.type == "proc" ? "/proc" : "/sys", true));
    TRY(host::change_mount(tree.get(), {.set = plan_.set}, true));
    return put(tree.get(), target);
  }

  std::string clean_destination() const {
    std::string path;
    size_t start = 0;
    while (start < mount_.destination.size()) {
      size_t end = mount_.destination.find('/', start);
      if (end == std::string::npos) end = mount_.destination.size();
      const std::string part = mount_.destination.substr(start, end - start);
      if (part == "..")
        path.erase(std::min(path.rfind('/'), path.size()));
      else if (!part.empty() && part != ".")
        path += "/" + part;
      start = end + 1;
    }
    return path.empty() ? "/" : path;
  }

  Result<void> put(int mount, int target) {
    TRY(host::attach_mount(mount, target));
    return finish(mount);
  }

  Result<void> finish(int mount) {
    TRY(host::change_mount(mount, {.set = plan_.recursive_set, .clear = plan_.recursive_clear}, true));
    return host::change_mount(mount, {.propagation = plan_.propagation}, plan_.propagation_recursive);
  }

  InitContext& context_;
  int root_;
  int index_;
  const oci::Mount& mount_;
  MountPlan plan_;
};

}  // namespace

Result<void> make_mounts(InitContext& context, int root) {
  for (size_t index = 0; index < context.spec.mounts.size(); ++index) {
    auto done = Mounter(context, root, static_cast<int>(index)).run();
    const oci::Mount& mount = context.spec.mounts[index];
    if (!done) {
      const std::string source = plan_mount(mount).bind ? ", source " + mount.source : "";
      return std::move(done).error().within(fmt::format("mounts[{}] ({}{})", index, mount.destination, source));
    }
  }
  return {};
}

Result<UniqueFd> wanted_source(InitContext& context, int index) {
  TRY(send_note(context.channel.get(), NoteKind::SourceWanted, index));
  Note note = TRY(expect_note(context.channel.get(), NoteKind::Source));
  if (note.value != 0) return Error(note.value, note.text);
  if (note.fds.size() != 1) return make_error(EPROTO, "the creator sent no source");
  return std::move(note.fds[0]);
}

Result<UniqueFd> open_source(const oci::Spec& spec, const std::string& bundle, int index) {
  if (index == kRootSource) return host::clone_mount(AT_FDCWD, source_path(spec.root.path, bundle), true);
  if (index < 0 || static_cast<size_t>(index) >= spec.mounts.size()) return make_error(EPROTO, "there is no mount {}", index);
  const oci::Mount& mount = spec.mounts[static_cast<size_t>(index)];
  const MountPlan plan = plan_mount(mount);
  UniqueFd tree = TRY(host::clone_mount(AT_FDCWD, source_path(mount.source, bundle), plan.recursive));
  if (plan.idmap) TRY(map_ids(spec, mount, plan, tree.get()));
  return tree;
}

}  // namespace caisson::container
