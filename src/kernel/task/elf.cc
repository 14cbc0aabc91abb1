#include "kernel/task/elf.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t down(uint64_t address) { return address & ~(kPage - 1); }
constexpr uint64_t up(uint64_t address) { return (address + kPage - 1) & ~(kPage - 1); }

Result<void> read_all(Task& task, File& file, uint64_t offset, void* to, size_t size) {
  IoBuffer buffer(to, size);
  while (!buffer.empty()) {
    const size_t got = TRY(file.read(task, buffer, static_cast<off_t>(offset + size - buffer.left())));
    if (got == 0) return Errno(ENOEXEC);
  }
  return {};
}

Result<void> check_segment(const Elf64_Phdr& segment, uint64_t after) {
  constexpr uint64_t kMost = STUB_WINDOW;
  if (segment.p_filesz > segment.p_memsz || segment.p_memsz > kMost || segment.p_vaddr > kMost - segment.p_memsz) return Errno(ENOEXEC);
  if (segment.p_vaddr < after) return Errno(ENOEXEC);
  if (segment.p_vaddr % kPage != segment.p_offset % kPage || segment.p_offset > (1ULL << 60)) return Errno(ENOEXEC);
  return {};
}

int protection(uint32_t flags) {
  return ((flags & PF_R) ? PROT_READ : 0) | ((flags & PF_W) ? PROT_WRITE : 0) | ((flags & PF_X) ? PROT_EXEC : 0);
}

}  // namespace

Result<ElfImage> read_elf(Task& task, const FileRef& file) {
  ElfImage image;
  image.file = file;
  Elf64_Ehdr& header = image.header;
  TRY(read_all(task, *file, 0, &header, sizeof header));
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
    return Errno(ENOEXEC);
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return Errno(ENOEXEC);
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > 128) return Errno(ENOEXEC);
  std::vector<Elf64_Phdr> all(header.e_phnum);
  TRY(read_all(task, *file, header.e_phoff, all.data(), all.size() * sizeof(Elf64_Phdr)));
  uint64_t after = 0;
  for (const Elf64_Phdr& segment : all) {
    if (segment.p_type == PT_INTERP) {
      if (segment.p_filesz < 2 || segment.p_filesz > 4096) return Errno(ENOEXEC);
      image.interpreter.resize(segment.p_filesz);
      TRY(read_all(task, *file, segment.p_offset, image.interpreter.data(), image.interpreter.size()));
      image.interpreter.resize(strnlen(image.interpreter.c_str(), image.interpreter.size()));
    } else if (segment.p_type == PT_GNU_STACK) {
      image.executable_stack = (segment.p_flags & PF_X) != 0;
    } else if (segment.p_type == PT_LOAD && segment.p_memsz > 0) {
      TRY(check_segment(segment, after));
      after = segment.p_vaddr + segment.p_memsz;
      image.segments.push_back(segment);
      if (header.e_phoff >= segment.p_offset && header.e_phoff < segment.p_offset + segment.p_filesz)
        image.headers_address = segment.p_vaddr + (header.e_phoff - segment.p_offset);
    }
  }
  if (image.segments.empty() || image.segments.size() > 12) return Errno(ENOEXEC);
  image.position_independent = header.e_type == ET_DYN;
  image.lowest = down(image.segments.front().p_vaddr);
  image.highest = up(after);
  return image;
}

Result<void> plan_elf(const ElfImage& image, uint64_t bias, std::vector<StubCall>& calls, std::vector<UserSpan>& zeros) {
  for (const Elf64_Phdr& segment : image.segments) {
    const uint64_t start = bias + segment.p_vaddr, file_end = start + segment.p_filesz, end = start + segment.p_memsz;
    const int prot = protection(segment.p_flags);
    if (segment.p_filesz > 0) {
      const uint64_t offset = down(segment.p_offset);
      const MapSource source = TRY(image.file->map(offset, up(file_end) - down(start), prot, MAP_PRIVATE));
      calls.push_back({SYS_mmap,
                       {down(start), up(file_end) - down(start), static_cast<uint64_t>(prot), MAP_PRIVATE | MAP_FIXED, 0, source.offset},
                       4,
                       source.host_fd});
    }
    const uint64_t anonymous = segment.p_filesz > 0 ? up(file_end) : down(start);
    if (segment.p_memsz > segment.p_filesz && segment.p_filesz > 0 && (prot & PROT_WRITE) != 0 && file_end % kPage != 0)
      zeros.push_back({file_end, std::min(up(file_end), up(end)) - file_end});
    if (up(end) > anonymous)
      calls.push_back(
          {SYS_mmap, {anonymous, up(end) - anonymous, static_cast<uint64_t>(prot), MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, ~0ULL, 0}});
  }
  return {};
}

}  // namespace caisson::kernel
