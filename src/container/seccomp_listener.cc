// The seccomp agent's end of SCMP_ACT_NOTIFY (runtime-spec config-linux.md, "The Container Process State").
#include <sys/socket.h>
#include <sys/un.h>

#include <nlohmann/json.hpp>

#include "container/seccomp.h"
#include "host/files.h"
#include "oci/parse.h"

namespace caisson::container {
namespace {

std::string document(const oci::Seccomp& seccomp, pid_t pid, const oci::Spec& spec, const std::string& id, const std::string& bundle) {
  nlohmann::json state = {{"ociVersion", oci::kSpecVersion}, {"id", id}, {"status", "creating"}, {"pid", pid}, {"bundle", bundle}};
  if (!spec.annotations.empty()) state["annotations"] = spec.annotations;
  nlohmann::json out = {{"ociVersion", oci::kSpecVersion}, {"fds", {"seccompFd"}}, {"pid", pid}, {"state", std::move(state)}};
  if (!seccomp.listener_metadata.empty()) out["metadata"] = seccomp.listener_metadata;
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Result<void> send_seccomp_listener(const oci::Seccomp& seccomp, int listener, pid_t pid, const oci::Spec& spec, const std::string& id,
                                   const std::string& bundle) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (seccomp.listener_path.empty() || seccomp.listener_path.size() >= sizeof address.sun_path)
    return make_error(EINVAL, "linux.seccomp.listenerPath: must be a path of 1 to {} bytes", sizeof address.sun_path - 1);
  seccomp.listener_path.copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("making a socket for linux.seccomp.listenerPath");
  timeval limit{10, 0};  // an agent that does not accept must not hold the container for ever
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return errno_error("linux.seccomp.listenerPath: connecting to the seccomp agent at {}", seccomp.listener_path);
  Result<void> sent = host::send_with_fds(socket.get(), document(seccomp, pid, spec, id, bundle), {listener});
  if (!sent.ok())
    return std::move(sent).error().within(
        fmt::format("linux.seccomp.listenerPath: sending to the seccomp agent at {}", seccomp.listener_path));
  return {};
}

}  // namespace caisson::container
