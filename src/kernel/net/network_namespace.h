// Networks: what sockets are made in, and what /proc/net, /proc/sys/net and /sys/class/net tell of. The one that containers begin in is the
// pod's, in which the kernel process itself lives; others are guests' own, each in a room (net/room_maker.h) that ends with the last task,
// descriptor, socket or mount that refers to the namespace.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/net/broker.h"
#include "kernel/platform/host_proc.h"
#include "kernel/task/credentials.h"
#include "kernel/task/namespaces.h"

namespace caisson::kernel {

class NetworkNamespace : public Namespace {
 public:
  // The pod's. (Everybody else: sandbox_network().)
  NetworkNamespace();
  // EPERM: this node gives none; ENOSPC: too many.
  static Result<std::shared_ptr<NetworkNamespace>> create(std::shared_ptr<UserNamespace> owner);

  // Who configures it, opens raw sockets and binds low ports there is asked for capabilities towards its owner.
  bool lets(const Credentials& creds, int capability) const { return creds.has_in(*owner, capability); }
  // A non-blocking socket of it. The kind has been checked.
  Result<UniqueFd> open_socket(int family, int type, int protocol);
  // What does for guests what takes capabilities.
  NetworkBroker& broker() { return is_pods_ ? pod_broker() : broker_; }

  // Ports below this one take CAP_NET_BIND_SERVICE (net/low_ports.h).
  std::atomic<int> first_unprivileged_port = 1024;

  // Files of the host that tell of it: below /proc/PID/net, and below /proc/sys/net. "": the folder itself.
  enum class Files { State, Settings };
  Result<void> stat_file(Files which, const std::string& path, struct stat* stat);
  Result<std::string> read_file(Files which, const std::string& path);
  Result<std::vector<HostProcEntry>> list_files(Files which, const std::string& path);

  NetworkNamespace(std::shared_ptr<UserNamespace> owner, UniqueFd channel, UniqueFd folder);

 private:
  Result<UniqueFd> open_file(Files which, const std::string& path);
  const bool is_pods_;
  const UniqueFd folder_;  // the room's, below the host's /proc
  NetworkBroker broker_;
};

}  // namespace caisson::kernel
