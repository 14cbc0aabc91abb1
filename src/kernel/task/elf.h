// ELF files: headers read and checked (elf(5)).
#pragma once

#include <elf.h>

#include <string>
#include <vector>

#include "kernel/errno.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

struct ElfImage {
  FileRef file;
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> segments;  // PT_LOAD, ascending, page-checked
  std::string interpreter;           // "" where there is none
  uint64_t lowest = 0, highest = 0;  // of the segments' addresses, whole pages
  uint64_t headers_address = 0;      // of the program headers, unrelocated; 0: not loaded
  bool position_independent = false;
  bool executable_stack = false;
};

// ENOEXEC: not one that we run.
Result<ElfImage> read_elf(Task& task, const FileRef& file);

// Calls that map the image at `bias`, appended to `calls`; `zeros` gets what must be zeroed by hand afterwards. EACCES...
Result<void> plan_elf(const ElfImage& image, uint64_t bias, std::vector<StubCall>& calls, std::vector<UserSpan>& zeros);

}  // namespace caisson::kernel
