#include "sandbox/local/terminal_name.h"

#include <fmt/format.h>

namespace caisson::sandbox::local {

std::string terminal_name(int number) {
  const unsigned device_major = (static_cast<unsigned>(number) >> 8) & 0xff;
  const unsigned device_minor = (static_cast<unsigned>(number) & 0xff) | ((static_cast<unsigned>(number) >> 12) & 0xfff00);
  if (number == 0) return "?";
  if (device_major >= 136 && device_major <= 143) return fmt::format("pts/{}", device_minor + (device_major - 136) * 256);
  if (device_major == 4) return fmt::format("tty{}", device_minor);
  return fmt::format("{}:{}", device_major, device_minor);
}

}  // namespace caisson::sandbox::local
