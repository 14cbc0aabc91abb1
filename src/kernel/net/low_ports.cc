#include "kernel/net/low_ports.h"

#include <algorithm>
#include <charconv>

namespace caisson::kernel {

Result<int> parse_first_unprivileged_port(std::string_view text) {
  text = text.substr(0, text.find_last_not_of(" \t\n") + 1);
  text.remove_prefix(std::min(text.find_first_not_of(" \t\n"), text.size()));
  int port = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < 0 || port > 65535) return Errno(EINVAL);
  return port;
}

}  // namespace caisson::kernel
