// A distribution's kernel file (bzImage): the ELF kernel that is compressed in it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace caisson::microvm {

// The compressed payload of a bzImage, by its setup header (Documentation/arch/x86/boot.rst, protocol 2.08 and later).
struct CompressedKernel {
  std::string_view bytes;  // into the image; without the size that the kernel's build appends
  std::string program;     // that decompresses it from standard input to standard output with -dc: "lz4", "zstd", "xz", "gzip", "bzip2"
  uint64_t size = 0;       // when decompressed, 0: not told
};
Result<CompressedKernel> find_payload(std::string_view image);

// Writes the ELF kernel in the bzImage file to the file vmlinux, by way of files in scratch (a folder). Checks that it can be booted.
Result<void> extract_vmlinux(const std::string& image_file, const std::string& vmlinux, const std::string& scratch);

}  // namespace caisson::microvm
