#include "container/keyring.h"

#include <linux/keyctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>

#include "base/log.h"

namespace caisson::container {
namespace {

constexpr unsigned long kUserMaySearch = 0x00080000;  // KEY_USR_SEARCH: lets exec join it by name

// KEYCTL_DESCRIBE: "keyring;uid;gid;permissions in hex;name".
bool allow_search(long keyring) {
  char text[1024] = {};
  if (syscall(SYS_keyctl, KEYCTL_DESCRIBE, keyring, text, sizeof text - 1) < 0) return false;
  const std::string description = text;
  size_t start = 0;
  for (int field = 0; field < 3; ++field) {
    start = description.find(';', start);
    if (start == std::string::npos) return false;
    ++start;
  }
  unsigned long permissions = 0;
  const auto parsed = std::from_chars(description.data() + start, description.data() + description.size(), permissions, 16);
  if (parsed.ec != std::errc()) return false;
  return syscall(SYS_keyctl, KEYCTL_SETPERM, keyring, permissions | kUserMaySearch) == 0;
}

}  // namespace

Result<void> join_session_keyring(const std::string& id) {
  const std::string name = "_ses." + id;
  const long keyring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.c_str());
  if (keyring >= 0) {
    if (!allow_search(keyring)) log::debug("keyring {} keeps its permissions", name);
    return {};
  }
  if (errno == ENOSYS) return {};
  if (errno == EPERM || errno == EACCES || errno == EDQUOT) {
    log::warning("no session keyring for the container: {}", strerrordesc_np(errno));
    return {};
  }
  return errno_error("cannot join a session keyring; --no-new-keyring does without");
}

}  // namespace caisson::container
