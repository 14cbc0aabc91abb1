// JSON text from strangers into a tree, within bounds. Internal to src/oci (and configuration): it brings in nlohmann/json.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

namespace caisson::oci {

using Json = nlohmann::json;

inline constexpr size_t kMaxDocumentBytes = 16 << 20;
inline constexpr size_t kMaxDocumentDepth = 128;
inline constexpr size_t kMaxDocumentValues = 1 << 20;  // bounds memory: a value costs tens of bytes, "[]," three

// Parses one document. Errors are EINVAL, say line and column, and start with `name`. Refused besides wrong syntax: invalid UTF-8, strings
// with NUL bytes, and what exceeds the limits above. A key that comes twice: the last one counts, as in Go's decoder, for which engines
// write.
Result<Json> parse_document(std::string_view text, std::string_view name);

// Text that is safe to print: control characters and bytes that are not UTF-8 become '?', the middle of what exceeds `limit` bytes is left
// out.
std::string excerpt(std::string_view text, size_t limit = 120);

}  // namespace caisson::oci
