#include "kernel/net/network_namespace.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "kernel/net/room_maker.h"

namespace caisson::kernel {

NetworkNamespace::NetworkNamespace() : Namespace(NamespaceKind::Network, UserNamespace::initial()), is_pods_(true) {}

NetworkNamespace::NetworkNamespace(std::shared_ptr<UserNamespace> whose, UniqueFd channel, UniqueFd folder)
    : Namespace(NamespaceKind::Network, std::move(whose)), is_pods_(false), folder_(std::move(folder)) {
  broker_.set_room(std::move(channel));
}

Result<std::shared_ptr<NetworkNamespace>> NetworkNamespace::create(std::shared_ptr<UserNamespace> owner) {
  TRY(may_make_namespace(NamespaceKind::Network));
  Room room = TRY(make_room());
  return std::make_shared<NetworkNamespace>(std::move(owner), std::move(room.channel), std::move(room.folder));
}

Result<UniqueFd> NetworkNamespace::open_socket(int family, int type, int protocol) {
  const bool raw = type == SOCK_RAW && family != AF_NETLINK;
  if (family == AF_PACKET) return broker().open(family, type, protocol & 0xffff);  // as the host cuts it
  if (raw && (protocol < 0 || protocol >= IPPROTO_MAX)) return Errno(EINVAL);
  if (raw || !is_pods_) return broker().open(family, type, protocol);
  UniqueFd fd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  if (!fd) return host_errno();
  return fd;
}

namespace {
std::string name_of(NetworkNamespace::Files which, const std::string& path) {
  const std::string folder = which == NetworkNamespace::Files::State ? "net" : "sys/net";
  return path.empty() ? folder : folder + "/" + path;
}
// Of this process.
std::string own_name_of(NetworkNamespace::Files which, const std::string& path) {
  return (which == NetworkNamespace::Files::State ? "self/" : "") + name_of(which, path);
}
}  // namespace

Result<UniqueFd> NetworkNamespace::open_file(Files which, const std::string& path) {
  if (which == Files::Settings) return broker_.open_setting(path);
  UniqueFd fd(openat(folder_.get(), name_of(which, path).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return host_errno();
  return fd;
}

Result<void> NetworkNamespace::stat_file(Files which, const std::string& path, struct stat* stat) {
  if (is_pods_) return stat_host_proc(own_name_of(which, path).c_str(), stat);
  const UniqueFd fd = TRY(open_file(which, path));
  TRY(host_result(fstat(fd.get(), stat)));
  return {};
}

Result<std::string> NetworkNamespace::read_file(Files which, const std::string& path) {
  if (is_pods_) return read_host_proc(own_name_of(which, path).c_str());
  return read_host_file(TRY(open_file(which, path)));
}

Result<std::vector<HostProcEntry>> NetworkNamespace::list_files(Files which, const std::string& path) {
  if (is_pods_) return list_host_proc(own_name_of(which, path).c_str());
  return list_host_folder(TRY(open_file(which, path)));
}

const std::shared_ptr<NetworkNamespace>& sandbox_network() {
  static const auto* const one = new std::shared_ptr<NetworkNamespace>(std::make_shared<NetworkNamespace>());
  return *one;
}

}  // namespace caisson::kernel
