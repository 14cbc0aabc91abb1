#include "base/mountinfo.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace caisson {
namespace {

// The kernel writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      plain += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER-OPTIONS
bool parse_line(std::string_view line, MountInfo& mount) {
  constexpr size_t kBeforeTags = 6;
  const std::vector<std::string_view> fields = split_fields(line, ' ');
  if (fields.size() < kBeforeTags) return false;
  const auto dash = std::find(fields.begin() + kBeforeTags, fields.end(), "-");
  const size_t after = static_cast<size_t>(fields.end() - dash);
  if (after < 3) return false;
  if (std::from_chars(fields[0].data(), fields[0].data() + fields[0].size(), mount.id).ec != std::errc()) return false;
  mount.root = unescape(fields[3]);
  mount.point = unescape(fields[4]);
  mount.options = fields[5];
  mount.type = unescape(dash[1]);
  // The source of a file system that has none may be empty: then two spaces follow the type, and the options come next.
  if (after > 3) mount.source = unescape(dash[2]);
  mount.super_options = fields.back();
  for (auto tag = fields.begin() + kBeforeTags; tag != dash; ++tag) mount.tags += (mount.tags.empty() ? "" : " ") + std::string(*tag);
  return true;
}

}  // namespace

std::vector<MountInfo> parse_mountinfo(std::string_view text) {
  std::vector<MountInfo> mounts;
  for (std::string_view line : split_fields(text, '\n'))
    if (MountInfo mount; parse_line(line, mount)) mounts.push_back(std::move(mount));
  return mounts;
}

}  // namespace caisson
