// What the host's /proc/PID/maps of a stub says about places for patches.
#pragma once

#include <cstdint>
#include <string>

namespace caisson::kernel {

// [start, end) is within one private mapping of a file that is readable and executable, and not writable.
bool is_private_text(const std::string& maps, uint64_t start, uint64_t end);
// The mapping at an address is a private one of a file.
bool is_of_file(const std::string& maps, uint64_t address);
// PROT_* of the mapping at an address; 0: none.
uint64_t protection_at(const std::string& maps, uint64_t address);
// An address for `size` bytes, a multiple of 64 KiB, that jumps to and from `near` reach and where nothing is. As far below `near` as can
// be, so that what grows there does not meet it soon; else above. 0: none.
uint64_t place_near(const std::string& maps, uint64_t near, uint64_t size);

}  // namespace caisson::kernel
