#include "microvm/guest/elf_image.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "base/unique_fd.h"

namespace caisson::microvm {
namespace {

constexpr uint32_t kPvhEntryNote = 18;  // XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h

// A plain structure out of the file, if it is all there.
template <typename T>
std::optional<T> read_at(std::string_view file, uint64_t offset) {
  if (offset > file.size() || file.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

std::optional<std::string_view> slice(std::string_view file, uint64_t offset, uint64_t size) {
  if (offset > file.size() || file.size() - offset < size) return std::nullopt;
  return file.substr(offset, size);
}

Result<Elf64_Ehdr> header_of(std::string_view file) {
  auto header = read_at<Elf64_Ehdr>(file, 0);
  if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return make_error(EINVAL, "it is no ELF file");
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
    return make_error(EINVAL, "it is not for x86-64");
  return *header;
}

uint64_t padded(uint64_t size) { return (size + 3) & ~uint64_t{3}; }

bool has_pvh_note(std::string_view notes) {
  for (uint64_t at = 0;;) {
    auto note = read_at<Elf64_Nhdr>(notes, at);
    if (!note) return false;
    auto name = slice(notes, at + sizeof *note, note->n_namesz);
    if (!name) return false;
    if (note->n_type == kPvhEntryNote && *name == std::string_view("Xen\0", 4)) return true;
    at += sizeof *note + padded(note->n_namesz) + padded(note->n_descsz);
  }
}

}  // namespace

Result<void> check_kernel(std::string_view file) {
  const Elf64_Ehdr header = TRY(header_of(file));
  bool pvh = false, loads = false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    auto segment = read_at<Elf64_Phdr>(file, header.e_phoff + uint64_t{i} * header.e_phentsize);
    if (!segment) return make_error(EINVAL, "it is cut short");
    auto bytes = slice(file, segment->p_offset, segment->p_filesz);
    if (!bytes) return make_error(EINVAL, "it is cut short");
    loads |= segment->p_type == PT_LOAD;
    if (segment->p_type == PT_NOTE) pvh |= has_pvh_note(*bytes);
  }
  if (!loads) return make_error(EINVAL, "nothing in it is to be loaded");
  if (!pvh) return make_error(EINVAL, "it has no PVH entry point (a kernel built with CONFIG_PVH has one)");
  return {};
}

Result<void> check_kernel_file(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_error("cannot open the guest kernel {}", path);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return errno_error("cannot examine the guest kernel {}", path);
  const size_t size = static_cast<size_t>(info.st_size);
  if (!S_ISREG(info.st_mode) || size == 0)
    return make_error(EINVAL, "the guest kernel {} is no file or is empty: make it again with 'caisson guest build --force'", path);
  void* map = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (map == MAP_FAILED) return errno_error("cannot read the guest kernel {}", path);
  auto good = check_kernel(std::string_view(static_cast<const char*>(map), size));
  munmap(map, size);
  if (good) return good;
  return make_error(
      good.error().code(),
      "the guest kernel {} cannot be booted: {}; make it again with 'caisson guest build --force', or give another in microvm.kernel", path,
      good.error().message());
}

Result<std::string> strip_program(std::string_view file) {
  Elf64_Ehdr header = TRY(header_of(file));
  uint64_t end = header.e_phoff + uint64_t{header.e_phnum} * header.e_phentsize;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    auto segment = read_at<Elf64_Phdr>(file, header.e_phoff + uint64_t{i} * header.e_phentsize);
    if (!segment || !slice(file, segment->p_offset, segment->p_filesz)) return make_error(EINVAL, "it is cut short");
    if (segment->p_type == PT_LOAD) end = std::max<uint64_t>(end, segment->p_offset + segment->p_filesz);
  }
  if (end > file.size()) return make_error(EINVAL, "it is cut short");
  std::string stripped(file.substr(0, end));
  header.e_shoff = header.e_shnum = header.e_shstrndx = 0;
  memcpy(stripped.data(), &header, sizeof header);
  return stripped;
}

Result<std::vector<std::string>> modinfo_values(std::string_view module, std::string_view key) {
  const Elf64_Ehdr header = TRY(header_of(module));
  auto section = [&](unsigned index) { return read_at<Elf64_Shdr>(module, header.e_shoff + uint64_t{index} * header.e_shentsize); };
  auto names_header = section(header.e_shstrndx);
  auto names = names_header ? slice(module, names_header->sh_offset, names_header->sh_size) : std::nullopt;
  if (!names) return make_error(EINVAL, "its sections have no names");
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    auto each = section(i);
    if (!each || each->sh_name >= names->size()) return make_error(EINVAL, "its table of sections is broken");
    const std::string_view rest = names->substr(each->sh_name);
    if (rest.substr(0, rest.find('\0')) != ".modinfo") continue;
    auto info = slice(module, each->sh_offset, each->sh_size);
    if (!info) return make_error(EINVAL, "it is cut short");
    std::vector<std::string> values;
    for (std::string_view left = *info; !left.empty();) {
      const std::string_view entry = left.substr(0, left.find('\0'));
      if (entry.size() > key.size() && entry.starts_with(key) && entry[key.size()] == '=')
        values.emplace_back(entry.substr(key.size() + 1));
      left.remove_prefix(std::min(entry.size() + 1, left.size()));
    }
    return values;
  }
  return make_error(EINVAL, "it has no .modinfo section: it is no kernel module");
}

}  // namespace caisson::microvm
