#include "appkernel/channels.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "kernel/control/messages.h"

namespace caisson::appkernel {

Result<std::pair<UniqueFd, UniqueFd>> channel_pair() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return errno_error("cannot make a socket pair for the application kernel");
  return std::pair(UniqueFd(pair[0]), UniqueFd(pair[1]));
}

Result<std::pair<UniqueFd, UniqueFd>> channel_to_kernel() {
  auto ends = TRY(channel_pair());
  if (fcntl(ends.first.get(), F_SETFL, O_NONBLOCK) != 0) return errno_error("cannot set up a socket for the application kernel");
  return ends;
}

Result<UniqueFd> memory_file(const char* name, const std::string& content) {
  auto file = kernel::make_description(name, content);
  if (!file.ok()) return make_error(file.error().value, "cannot make a memory file: {}", strerrordesc_np(file.error().value));
  return std::move(*file);
}

Result<UniqueFd> copy_of(int fd) {
  UniqueFd copy(fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (!copy) return errno_error("cannot duplicate a descriptor for the application kernel");
  return copy;
}

Result<UniqueFd> log_descriptor() { return copy_of(log::descriptor()); }

}  // namespace caisson::appkernel
