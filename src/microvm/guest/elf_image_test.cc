#include "microvm/guest/elf_image.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/files.h"

namespace caisson::microvm {
namespace {

// A kernel in small: a segment to load and one of notes.
std::string small_kernel(uint32_t note_type) {
  std::string file(512, '\0');
  Elf64_Ehdr header{};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_machine = EM_X86_64;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 2;
  Elf64_Phdr load{.p_type = PT_LOAD, .p_offset = 256, .p_filesz = 100}, note{.p_type = PT_NOTE, .p_offset = 400, .p_filesz = 12 + 4 + 8};
  Elf64_Nhdr entry{.n_namesz = 4, .n_descsz = 8, .n_type = note_type};
  memcpy(file.data(), &header, sizeof header);
  memcpy(file.data() + sizeof header, &load, sizeof load);
  memcpy(file.data() + sizeof header + sizeof load, &note, sizeof note);
  memcpy(file.data() + 400, &entry, sizeof entry);
  memcpy(file.data() + 412, "Xen", 4);
  return file;
}

TEST(CheckKernel, TakesOneWithAPvhNote) {
  auto checked = check_kernel(small_kernel(18));
  EXPECT_TRUE(checked.ok()) << checked.error().message();
}

TEST(CheckKernel, RefusesOthersWithTheReason) {
  EXPECT_NE(check_kernel(small_kernel(5)).error().message().find("PVH"), std::string::npos);
  EXPECT_NE(check_kernel("#!/bin/sh\n").error().message().find("no ELF"), std::string::npos);
  EXPECT_NE(check_kernel("").error().message().find("no ELF"), std::string::npos);
  std::string arm = small_kernel(18);
  arm[18] = static_cast<char>(EM_AARCH64);
  EXPECT_NE(check_kernel(arm).error().message().find("x86-64"), std::string::npos);
}

TEST(CheckKernel, NoCutOfItIsTaken) {
  const std::string whole = small_kernel(18);
  for (size_t length = 0; length < 412 + 4 + 8; ++length) EXPECT_FALSE(check_kernel(whole.substr(0, length)).ok()) << length;
}

TEST(CheckKernel, NoFlippedByteDoesHarm) {
  const std::string whole = small_kernel(18);
  for (size_t at = 0; at < whole.size(); ++at)
    for (const char value : {'\x00', '\x7f', '\xff'}) {
      std::string broken = whole;
      broken[at] = value;
      (void)check_kernel(broken);
      (void)strip_program(broken);
      (void)modinfo_values(broken, "depends");
    }
}

TEST(CheckKernelFile, NamesFileAndRemedy) {
  char name[] = "/tmp/caisson-kernel-XXXXXX";
  const int fd = mkstemp(name);
  ASSERT_GE(fd, 0);
  EXPECT_NE(check_kernel_file(name).error().message().find("caisson guest build"), std::string::npos);
  ASSERT_EQ(write(fd, "junk", 4), 4);
  const std::string message = check_kernel_file(name).error().message();
  EXPECT_NE(message.find(name), std::string::npos);
  EXPECT_NE(message.find("caisson guest build --force"), std::string::npos);
  close(fd);
  unlink(name);
  EXPECT_EQ(check_kernel_file(name).error().code(), ENOENT);
}

TEST(StripProgram, LeavesAProgramThatRuns) {
  const std::string program = *host::read_file(CAISSON_TEST_INIT);
  auto stripped = strip_program(program);
  ASSERT_TRUE(stripped.ok()) << stripped.error().message();
  EXPECT_LT(stripped->size(), program.size());
  char name[] = "/tmp/caisson-stripped-XXXXXX";
  const int fd = mkstemp(name);
  ASSERT_TRUE(host::write_all(fd, *stripped).ok());
  ASSERT_EQ(fchmod(fd, 0755), 0);
  close(fd);
  // It is an init: anywhere but in a guest it says what it is and ends.
  const int status = system((std::string(name) + " 2>/dev/null").c_str());
  unlink(name);
  EXPECT_EQ(WEXITSTATUS(status), 64);
}

}  // namespace
}  // namespace caisson::microvm
