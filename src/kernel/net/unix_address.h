// Names of Unix sockets: struct sockaddr_un, and inodes that stand for them.
#pragma once

#include <string>

#include "kernel/net/socket.h"

namespace caisson::kernel {

struct UnixName {
  enum Kind { Unnamed, Path, Abstract } kind = Unnamed;
  std::string text;  // without the NUL in front of an abstract one
  // EINVAL: not a Unix address.
  static Result<UnixName> parse(const SocketAddress& address);
  SocketAddress address() const;
};

// bind(2) to a path. EADDRINUSE: there is something.
Result<InodeRef> make_socket_inode(Task& task, const std::string& path);

}  // namespace caisson::kernel
