#include "host/namespaces.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/files.h"
#include "host/mount.h"
#include "host/process.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

namespace caisson::host {
namespace {

constexpr uint64_t kNsfsMagic = 0x6e736673;

std::string map_text(const std::vector<IdRange>& ranges) {
  std::string text;
  for (const IdRange& range : ranges) text += fmt::format("{} {} {}\n", range.inside, range.outside, range.count);
  return text;
}

}  // namespace

const std::vector<NamespaceType>& namespace_types() {
  static const std::vector<NamespaceType> types = {
      {"network", "net", CLONE_NEWNET}, {"ipc", "ipc", CLONE_NEWIPC},          {"uts", "uts", CLONE_NEWUTS},
      {"pid", "pid", CLONE_NEWPID},     {"cgroup", "cgroup", CLONE_NEWCGROUP}, {"time", "time", CLONE_NEWTIME},
      {"mount", "mnt", CLONE_NEWNS},    {"user", "user", CLONE_NEWUSER},
  };
  return types;
}

const NamespaceType* find_namespace_type(std::string_view name) {
  for (const NamespaceType& type : namespace_types())
    if (type.name == name) return &type;
  return nullptr;
}

Result<UniqueFd> open_namespace(const NamespaceType& type, const std::string& path) {
  // O_NONBLOCK: the path may name a fifo by mistake.
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return errno_error("cannot open the {} namespace {}", type.name, path);
  if (TRY(filesystem_magic(fd.get())) != kNsfsMagic) return make_error(EINVAL, "{} is not a namespace", path);
  const int flag = ioctl(fd.get(), NS_GET_NSTYPE);
  if (flag == type.flag) return fd;
  for (const NamespaceType& other : namespace_types())
    if (other.flag == flag) return make_error(EINVAL, "{} is a {} namespace, not a {} namespace", path, other.name, type.name);
  return make_error(EINVAL, "{} is not a {} namespace", path, type.name);
}

Result<UniqueFd> own_namespace(const NamespaceType& type) { return open_namespace(type, fmt::format("/proc/self/ns/{}", type.file)); }

Result<bool> same_namespace(int left, int right) {
  struct stat one, two;
  if (fstat(left, &one) != 0 || fstat(right, &two) != 0) return errno_error("cannot compare namespaces");
  return one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

Result<void> join_namespace(int ns, int flags, std::string_view what) {
  if (setns(ns, flags) != 0) return errno_error("cannot join {}", what);
  return {};
}

Result<void> write_id_maps(pid_t pid, const std::vector<IdRange>& uids, const std::vector<IdRange>& gids) {
  TRY(write_file(fmt::format("/proc/{}/uid_map", pid), map_text(uids)));
  TRY(write_file(fmt::format("/proc/{}/gid_map", pid), map_text(gids)));
  return {};
}

Result<UniqueFd> make_user_namespace(const std::vector<IdRange>& uids, const std::vector<IdRange>& gids) {
  Cloned holder = TRY(clone_process(CLONE_NEWUSER));
  if (holder.pid == 0) {
    while (true) pause();
  }
  auto ns = [&]() -> Result<UniqueFd> {
    TRY(write_id_maps(holder.pid, uids, gids));
    return open_namespace(*find_namespace_type("user"), fmt::format("/proc/{}/ns/user", holder.pid));
  }();
  (void)send_signal(holder.pidfd.get(), SIGKILL);
  waitpid(holder.pid, nullptr, 0);
  return ns;
}

Result<void> bring_up_loopback() {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return errno_error("cannot make a socket to bring interface lo up");
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  if (ioctl(fd.get(), SIOCGIFFLAGS, &request) != 0) return errno_error("cannot read the flags of interface lo");
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) return errno_error("cannot bring interface lo up");
  return {};
}

}  // namespace caisson::host
