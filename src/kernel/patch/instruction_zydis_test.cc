// Our decoder of instructions held to Zydis's, which knows them all: real programs' text, every form of every opcode, and random bytes.
// What Zydis takes for an instruction must be one of the same length here. (More than that is fine: who looks for the ways to read bytes
// may see too many, but must not miss one; see call_form.cc.)
// A program of its own: Debian has Zydis as a shared library only.
#include <Zydis/Zydis.h>
#include <elf.h>
#include <glob.h>
#include <gtest/gtest.h>
#include <string.h>

#include <array>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/patch/instruction.h"

namespace caisson::kernel {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kLongest = 15, kMostWrong = 20;
constexpr size_t kEveryByte = 1 << 20;  // of a program's text every byte is looked at up to here, then every instruction

class Comparison {
 public:
  Comparison() { ZydisDecoderInit(&decoder_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64); }

  // The length as Zydis has it; 0: no instruction.
  size_t at(const uint8_t* code, size_t size) {
    ZydisDecodedInstruction theirs;
    const bool known = ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder_, nullptr, code, size, &theirs));
    const std::optional<Instruction> ours = decode_instruction({code, size});
    // Knights Corner's own encodings (jkzd...) are other instructions, or none, for every other processor; it was a coprocessor.
    if (!known || std::string_view(ZydisISAExtGetString(theirs.meta.isa_ext)).starts_with("KNC")) return 0;
    ++compared_;
    const bool relative = (theirs.attributes & ZYDIS_ATTRIB_IS_RELATIVE) != 0;
    if (!ours)
      wrong(code, theirs, "is no instruction here");
    else if (ours->length != theirs.length)
      wrong(code, theirs, ("has length " + std::to_string(ours->length) + " here").c_str());
    else if (relative && !ours->rip_relative && !ours->branch_relative)
      wrong(code, theirs, "is not known to depend on its place");
    return theirs.length;
  }
  size_t compared() const { return compared_; }

 private:
  void wrong(const uint8_t* code, const ZydisDecodedInstruction& theirs, const char* what) {
    if (++wrong_ > kMostWrong) return;
    std::string text;
    for (size_t i = 0; i < theirs.length; ++i) {
      char two[4];
      snprintf(two, sizeof two, "%02x ", code[i]);
      text += two;
    }
    ADD_FAILURE() << text << "(" << ZydisMnemonicGetString(theirs.mnemonic) << ", " << int{theirs.length} << " bytes) " << what;
  }

  ZydisDecoder decoder_;
  size_t compared_ = 0, wrong_ = 0;
};

// What of a program is executable.
std::vector<Bytes> text_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const Bytes file((std::istreambuf_iterator<char>(in)), {});
  Elf64_Ehdr header;
  std::vector<Bytes> found;
  if (file.size() < sizeof header) return found;
  memcpy(&header, file.data(), sizeof header);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != EM_X86_64) return found;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const size_t at = header.e_phoff + i * sizeof segment;
    if (at + sizeof segment > file.size()) break;
    memcpy(&segment, file.data() + at, sizeof segment);
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0 || segment.p_offset + segment.p_filesz > file.size()) continue;
    const auto from = file.begin() + static_cast<ptrdiff_t>(segment.p_offset);
    found.emplace_back(from, from + static_cast<ptrdiff_t>(segment.p_filesz));
  }
  return found;
}

std::vector<std::string> programs() {
  std::vector<std::string> found;
  for (const char* pattern : {"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2", "/usr/bin/python3.[0-9]*[0-9]",
                              "/usr/lib/gcc/x86_64-linux-gnu/*/cc1", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
                              "/usr/lib/jvm/java-*/lib/server/libjvm.so", "/usr/bin/node"}) {
    glob_t names{};
    if (glob(pattern, 0, nullptr, &names) == 0 && names.gl_pathc > 0) found.emplace_back(names.gl_pathv[0]);
    globfree(&names);
  }
  return found;
}

TEST(InstructionAgainstZydis, TextOfPrograms) {
  Comparison comparison;
  const std::vector<std::string> all = programs();
  ASSERT_GE(all.size(), 2u) << "not even the C library is here";
  for (const std::string& path : all) {
    SCOPED_TRACE(path);
    const size_t before = comparison.compared();
    for (const Bytes& text : text_of(path))
      for (size_t at = 0; at < text.size();) {
        const size_t length = comparison.at(&text[at], std::min(kLongest, text.size() - at));
        at += at < kEveryByte || length == 0 ? 1 : length;
      }
    EXPECT_GT(comparison.compared(), before) << "no text in " << path;
  }
  EXPECT_GT(comparison.compared(), 1'000'000u);
}

// Every opcode of every map with every ModRM byte, with and without the prefixes that change what follows.
TEST(InstructionAgainstZydis, EveryForm) {
  Comparison comparison;
  const Bytes prefixes[] = {{},     {0x66}, {0x67},       {0xf2},       {0xf3},       {0xf0},
                            {0x2e}, {0x48}, {0x66, 0x48}, {0x48, 0x66}, {0xf2, 0x41}, {0x66, 0x67, 0x44}};
  const Bytes maps[] = {{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
  const uint8_t sibs[] = {0x00, 0x24, 0x25, 0x65, 0xe5, 0xff};
  for (const Bytes& prefix : prefixes)
    for (const Bytes& map : maps)
      for (int opcode = 0; opcode < 256; ++opcode)
        for (int modrm = 0; modrm < 256; ++modrm)
          for (const uint8_t sib : sibs) {
            Bytes code = prefix;
            code.insert(code.end(), map.begin(), map.end());
            code.insert(code.end(), {static_cast<uint8_t>(opcode), static_cast<uint8_t>(modrm), sib});
            code.resize(kLongest, 0x11);
            comparison.at(code.data(), code.size());
            if ((modrm & 0xc7) != 0x04 && (modrm & 0xc7) != 0x44 && (modrm & 0xc7) != 0x84) break;  // there is no SIB byte
          }
  EXPECT_GT(comparison.compared(), 1'000'000u);
}

// The same of VEX, EVEX and XOP: every opcode of every map, with random other bits.
TEST(InstructionAgainstZydis, EveryVectorForm) {
  Comparison comparison;
  std::mt19937 random(20260101);
  for (const uint8_t first : {0xc4, 0xc5, 0x62, 0x8f})
    for (int map = 0; map < 32; ++map)
      for (int opcode = 0; opcode < 256; ++opcode)
        for (int round = 0; round < 100; ++round) {
          std::array<uint8_t, kLongest> code;
          for (uint8_t& byte : code) byte = static_cast<uint8_t>(random());
          code[0] = first;
          const size_t payload = first == 0xc5 ? 1 : first == 0x62 ? 3 : 2;
          if (payload > 1) code[1] = static_cast<uint8_t>((code[1] & 0xe0) | map);
          if (first == 0x62) code[1] &= 0xf7;  // as the manuals have it
          if (first == 0x62) code[2] |= 0x04;
          if (round % 4 != 0) code[first == 0xc5 ? 1 : 2] |= 0x78;  // vvvv unused, as most have it
          code[payload + 1] = static_cast<uint8_t>(opcode);
          comparison.at(code.data(), code.size());
        }
  EXPECT_GT(comparison.compared(), 50'000u);
}

TEST(InstructionAgainstZydis, RandomBytes) {
  Comparison comparison;
  std::mt19937_64 random(4711);
  for (int round = 0; round < 2'000'000; ++round) {
    std::array<uint64_t, 2> words{random(), random()};
    std::array<uint8_t, sizeof words> code;
    memcpy(code.data(), words.data(), sizeof words);
    comparison.at(code.data(), 1 + random() % kLongest);
  }
  EXPECT_GT(comparison.compared(), 500'000u);
}

}  // namespace
}  // namespace caisson::kernel
