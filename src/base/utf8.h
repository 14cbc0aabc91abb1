// Text from strangers made safe to print and to put into JSON.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace caisson {

// Length in bytes of the well-formed UTF-8 sequence (RFC 3629) at the front of bytes; 0 if there is none.
size_t utf8_sequence(std::string_view bytes);

// A JSON string literal with its quotes (RFC 8259). What is not UTF-8 becomes U+FFFD, one per byte.
std::string json_string(std::string_view bytes);

// One line that is safe on a terminal: line feeds, tabs and well-formed text stay, other control characters and bytes that are not UTF-8
// become \xNN.
std::string printable(std::string_view bytes);

}  // namespace caisson
