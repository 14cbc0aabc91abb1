#include "kernel/net/unix_address.h"

#include <string.h>
#include <sys/un.h>

#include "kernel/vfs/notify.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {

Result<UnixName> UnixName::parse(const SocketAddress& address) {
  constexpr size_t kStart = offsetof(sockaddr_un, sun_path);
  if (address.length < kStart || address.length > sizeof(sockaddr_un) || address.family() != AF_UNIX) return Errno(EINVAL);
  const auto* un = reinterpret_cast<const sockaddr_un*>(&address.storage);
  const size_t size = address.length - kStart;
  if (size == 0) return UnixName{};
  if (un->sun_path[0] == 0) return UnixName{Abstract, std::string(un->sun_path + 1, size - 1)};
  return UnixName{Path, std::string(un->sun_path, strnlen(un->sun_path, size))};
}

SocketAddress UnixName::address() const {
  SocketAddress address;
  auto* un = reinterpret_cast<sockaddr_un*>(&address.storage);
  un->sun_family = AF_UNIX;
  const size_t size = std::min(text.size(), sizeof un->sun_path - (kind == Abstract ? 1 : 0));
  memcpy(un->sun_path + (kind == Abstract ? 1 : 0), text.data(), size);
  // A path counts with its NUL, also where it fills all of sun_path (unix(7), BUGS).
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size + 1);
  return address;
}

Result<InodeRef> make_socket_inode(Task& task, const std::string& path) {
  Result<LastName> last = walk_to_last(task, AT_FDCWD, path);
  if (!last) return last.error();
  if (last->name.empty() || last->name == "." || last->name == "..") return Errno(EADDRINUSE);
  if (last->trailing_slash) return Errno(ENOENT);
  const InodeRef folder = last->folder.inode();
  if (last->folder.mount->read_only()) return Errno(EROFS);
  TRY(permission(task, *folder, W_OK | X_OK));
  const mode_t mode = S_IFSOCK | (0777 & ~task.fs->umask.load());
  Result<InodeRef> made = folder->make(task, last->name, mode, 0);
  if (!made && made.error() == Errno(EEXIST)) return Errno(EADDRINUSE);
  if (made) notify_entry(last->folder, IN_CREATE, last->name);
  return made;
}

}  // namespace caisson::kernel
