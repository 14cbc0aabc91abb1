#include "container/spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "container/note.h"
#include "host/files.h"
#include "host/namespaces.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

namespace caisson::container {
namespace {

struct Joined {
  const host::NamespaceType* type;
  UniqueFd fd;
  std::string path;
};

struct Plan {
  std::vector<Joined> joined;  // in the order of joining
  uint64_t fresh = 0;          // CLONE_NEW flags for clone3(2)
  bool fresh_time = false;
  bool joins_user = false;
};

Result<Plan> plan_namespaces(const oci::Spec& spec) {
  Plan plan;
  for (const host::NamespaceType& type : host::namespace_types()) {
    const oci::Namespace* ns = spec.find_namespace(std::string(type.name));
    if (ns == nullptr) continue;
    if (!ns->path.empty()) {
      auto fd = host::open_namespace(type, ns->path);
      if (!fd) return std::move(fd).error().within("linux.namespaces");
      plan.joined.push_back({&type, std::move(*fd), ns->path});
      if (type.flag == CLONE_NEWUSER) plan.joins_user = true;
    } else if (type.flag == CLONE_NEWTIME) {
      plan.fresh_time = true;
    } else if (type.flag != CLONE_NEWCGROUP) {
      plan.fresh |= static_cast<uint64_t>(type.flag);
    }
  }
  return plan;
}

// time_namespaces(7): offsets are set after unshare(2), before the first process is in it.
Result<void> make_time_namespace(const oci::Spec& spec) {
  if (unshare(CLONE_NEWTIME) != 0) return errno_error("linux.namespaces: cannot make a time namespace");
  std::string text;
  for (const auto& [clock, offset] : spec.linux_.time_offsets) text += fmt::format("{} {} {}\n", clock, offset.secs, offset.nanosecs);
  if (text.empty()) return {};
  auto written = host::write_file("/proc/self/timens_offsets", text);
  if (!written) return std::move(written).error().within("linux.timeOffsets");
  return {};
}

Result<void> join(const Joined& joined) {
  auto done = host::join_namespace(joined.fd.get(), joined.type->flag, joined.path);
  if (!done) return std::move(done).error().within("linux.namespaces");
  return {};
}

// This process's own namespaces and working directory, to come back to.
class Home {
 public:
  static Result<Home> remember(const Plan& plan) {
    Home home;
    home.folder_.reset(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!home.folder_) return errno_error("cannot open the working directory");
    for (const Joined& joined : plan.joined) home.own_.push_back({joined.type, TRY(host::own_namespace(*joined.type)), ""});
    if (plan.fresh_time)
      home.own_.push_back({host::find_namespace_type("time"), TRY(host::own_namespace(*host::find_namespace_type("time"))), ""});
    return home;
  }
  // Last joined, first left: the mount namespace comes before what was joined by the rights of the others.
  Result<void> come_back() const {
    for (auto own = own_.rbegin(); own != own_.rend(); ++own)
      TRY(host::join_namespace(own->fd.get(), own->type->flag, "the runtime's own namespaces again"));
    if (fchdir(folder_.get()) != 0) return errno_error("cannot enter the working directory again");
    return {};
  }

 private:
  UniqueFd folder_;
  std::vector<Joined> own_;
};

Result<host::Cloned> enter_and_clone(const oci::Spec& spec, const Plan& plan, const std::string& rootfs, int cgroup) {
  if (plan.fresh_time) TRY(make_time_namespace(spec));
  for (const Joined& joined : plan.joined)
    if (joined.type->flag != CLONE_NEWUSER) TRY(join(joined));
  if (chdir(rootfs.c_str()) != 0) return errno_error("root.path: cannot enter {}", rootfs);
  for (const Joined& joined : plan.joined)
    if (joined.type->flag == CLONE_NEWUSER) TRY(join(joined));
  auto cloned = host::clone_process(CLONE_PARENT | plan.fresh, cgroup);
  if (!cloned) return std::move(cloned).error().within("linux.namespaces");
  return cloned;
}

[[noreturn]] void go_between(const Result<host::Cloned>& cloned, int socket) {
  // Whatever is not delivered shows as the end of the socket.
  if (cloned)
    (void)send_note(socket, NoteKind::Go, cloned->pid, "", {cloned->pidfd.get()});
  else
    (void)send_note(socket, NoteKind::Error, cloned.error().code(), cloned.error().message());
  _exit(0);
}

Result<host::Cloned> spawn_through_go_between(const oci::Spec& spec, const Plan& plan, const std::string& rootfs, int cgroup) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) return errno_error("cannot make a socket pair");
  const UniqueFd ours(sockets[0]);
  UniqueFd theirs(sockets[1]);
  host::Cloned between = TRY(host::clone_process(CLONE_PARENT));
  if (between.pid == 0) {
    auto cloned = enter_and_clone(spec, plan, rootfs, cgroup);
    if (cloned && cloned->pid == 0) return cloned;
    go_between(cloned, theirs.get());
  }
  theirs.reset();
  Note note = TRY(expect_note(ours.get(), NoteKind::Go));
  if (note.fds.size() != 1) return make_error(EPROTO, "the new process's descriptor is lost");
  host::Cloned cloned;
  cloned.pid = note.value;
  cloned.pidfd = std::move(note.fds[0]);
  return cloned;
}

}  // namespace

Result<host::Cloned> spawn_init(const oci::Spec& spec, const std::string& rootfs, int cgroup) {
  const Plan plan = TRY(plan_namespaces(spec));
  if (plan.joins_user) return spawn_through_go_between(spec, plan, rootfs, cgroup);
  const Home home = TRY(Home::remember(plan));
  auto cloned = enter_and_clone(spec, plan, rootfs, cgroup);
  if (cloned && cloned->pid == 0) return cloned;
  TRY(home.come_back());
  return cloned;
}

bool has_fresh(const oci::Spec& spec, const char* type) {
  const oci::Namespace* ns = spec.find_namespace(type);
  return ns != nullptr && ns->path.empty();
}

std::vector<host::IdRange> ranges_of(const std::vector<oci::IdMapping>& mappings) {
  std::vector<host::IdRange> ranges;
  for (const oci::IdMapping& mapping : mappings) ranges.push_back({mapping.container_id, mapping.host_id, mapping.size});
  return ranges;
}

Result<void> write_id_maps(const oci::Spec& spec, pid_t pid) {
  if (!has_fresh(spec, "user")) return {};
  auto written = host::write_id_maps(pid, ranges_of(spec.linux_.uid_mappings), ranges_of(spec.linux_.gid_mappings));
  if (!written) return std::move(written).error().within("linux.uidMappings, linux.gidMappings");
  return {};
}

}  // namespace caisson::container
