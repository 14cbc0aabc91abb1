// What we need to know of ELF files: kernels (vmlinux) and kernel modules. Pure functions over bytes; broken files give errors, never more.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace caisson::microvm {

// A 64-bit little-endian x86-64 ELF file whose segments are all there (not cut), with a PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY), by which
// QEMU boots it without a boot loader.
Result<void> check_kernel(std::string_view file);
// The same for a file, read only as far as needed. The errors name it and say what to do.
Result<void> check_kernel_file(const std::string& path);

// A program without its symbols and debugging information: what is loaded to run it, and no sections. For a static program that nobody
// debugs from within.
Result<std::string> strip_program(std::string_view file);

// The values of one key ("depends", "alias") in a module's .modinfo section.
Result<std::vector<std::string>> modinfo_values(std::string_view module, std::string_view key);

}  // namespace caisson::microvm
