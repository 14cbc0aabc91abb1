#include "microvm/guest/bzimage.h"

#include <string.h>
#include <sys/stat.h>

#include <array>

#include "host/files.h"
#include "microvm/guest/elf_image.h"
#include "microvm/guest/program.h"

namespace caisson::microvm {
namespace {

constexpr size_t kMaxImage = 256 << 20;

struct Format {
  std::string_view magic;
  const char* program;
  const char* package;
  bool size_appended;  // scripts/Makefile.lib: all but gzip get the size as four bytes at the end
};
constexpr std::array<Format, 6> kFormats = {{
    {std::string_view("\x02\x21\x4c\x18", 4), "lz4", "lz4", true},
    {std::string_view("\x28\xb5\x2f\xfd", 4), "zstd", "zstd", true},
    {std::string_view("\xfd"
                      "7zXZ\0",
                      6),
     "xz", "xz-utils", true},
    {std::string_view("\x1f\x8b", 2), "gzip", "gzip", false},
    {std::string_view("BZh", 3), "bzip2", "bzip2", true},
    {std::string_view("\x5d\0\0", 3), "xz", "xz-utils", true},
}};

uint32_t read_u32(std::string_view bytes, size_t offset) {
  uint32_t value = 0;
  memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

const Format* format_of(std::string_view bytes) {
  for (const Format& format : kFormats)
    if (bytes.starts_with(format.magic)) return &format;
  return nullptr;
}

}  // namespace

Result<CompressedKernel> find_payload(std::string_view image) {
  if (image.size() < 0x260 || image.substr(0x202, 4) != "HdrS") return make_error(EINVAL, "it is no Linux kernel image");
  if (static_cast<uint8_t>(image[0x207]) < 2 || (image[0x207] == 2 && static_cast<uint8_t>(image[0x206]) < 8))
    return make_error(EINVAL, "its boot protocol is older than 2.08");
  const uint8_t sectors = static_cast<uint8_t>(image[0x1f1]);
  const uint64_t start = (uint64_t{sectors == 0 ? uint8_t{4} : sectors} + 1) * 512 + read_u32(image, 0x248);
  const uint64_t length = read_u32(image, 0x24c);
  if (start > image.size() || image.size() - start < length || length < 16) return make_error(EINVAL, "it is cut short");
  std::string_view payload = image.substr(start, length);
  const Format* format = format_of(payload);
  if (format == nullptr) return make_error(EINVAL, "it is compressed in an unknown way");
  CompressedKernel found{payload, format->program, 0};
  if (format->size_appended) {
    found.size = read_u32(payload, payload.size() - 4);
    found.bytes.remove_suffix(4);
  }
  return found;
}

Result<void> extract_vmlinux(const std::string& image_file, const std::string& vmlinux, const std::string& scratch) {
  const std::string image = TRY(host::read_file(image_file, kMaxImage));
  auto payload = find_payload(image);
  if (!payload) return std::move(payload).error().within(fmt::format("cannot take the kernel out of {}", image_file));
  const std::string packed = scratch + "/payload";
  TRY(host::write_file_atomic(packed, payload->bytes));
  const Format* format = format_of(payload->bytes);
  auto unpacked = run_program(
      {.arguments = {payload->program, "-dc"}, .input = packed, .output = vmlinux, .log = scratch + "/log", .package = format->package});
  if (!unpacked) return std::move(unpacked).error().within(fmt::format("cannot decompress the kernel in {}", image_file));
  struct stat info {};
  if (stat(vmlinux.c_str(), &info) != 0) return errno_error("cannot examine {}", vmlinux);
  if (payload->size != 0 && static_cast<uint64_t>(info.st_size) != payload->size)
    return make_error(EIO, "the kernel in {} is {} bytes when decompressed, not {}: is the disk full?", image_file, info.st_size,
                      payload->size);
  return check_kernel_file(vmlinux);
}

}  // namespace caisson::microvm
