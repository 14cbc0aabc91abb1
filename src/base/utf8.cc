#include "base/utf8.h"

#include <fmt/format.h>

#include <cstdint>

namespace caisson {
namespace {

uint8_t byte_at(std::string_view bytes, size_t index) { return static_cast<uint8_t>(bytes[index]); }

}  // namespace

size_t utf8_sequence(std::string_view bytes) {
  if (bytes.empty()) return 0;
  const uint8_t lead = byte_at(bytes, 0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xc2 && lead <= 0xdf ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
  if (length == 0 || bytes.size() < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte_at(bytes, i) & 0xc0) != 0x80) return 0;
  const uint8_t second = byte_at(bytes, 1);
  // Overlong forms, UTF-16 surrogates, and what lies beyond U+10FFFF.
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) ||
      (lead == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

std::string json_string(std::string_view bytes) {
  std::string out = "\"";
  out.reserve(bytes.size() + 2);
  while (!bytes.empty()) {
    size_t length = utf8_sequence(bytes);
    const uint8_t lead = byte_at(bytes, 0);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      length = 1;
    } else if (lead == '"' || lead == '\\') {
      out += '\\';
      out += bytes[0];
    } else if (lead == '\n') {
      out += "\\n";
    } else if (lead == '\t') {
      out += "\\t";
    } else if (lead < 0x20 || lead == 0x7f) {
      out += fmt::format("\\u{:04x}", lead);
    } else {
      out += bytes.substr(0, length);
    }
    bytes.remove_prefix(length);
  }
  return out += '"';
}

std::string printable(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    size_t length = utf8_sequence(bytes);
    const uint8_t lead = byte_at(bytes, 0);
    const bool c1_control = length == 2 && lead == 0xc2 && byte_at(bytes, 1) < 0xa0;
    if (length == 0 || (lead < 0x20 && lead != '\n' && lead != '\t') || lead == 0x7f) {
      out += fmt::format("\\x{:02x}", lead);
      length = 1;
    } else if (c1_control) {
      out += fmt::format("\\x{:02x}\\x{:02x}", lead, byte_at(bytes, 1));
    } else {
      out += bytes.substr(0, length);
    }
    bytes.remove_prefix(length);
  }
  return out;
}

}  // namespace caisson
