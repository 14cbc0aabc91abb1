// The platform alone: stubs that run a few instructions.
#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <chrono>
#include <thread>

#include "kernel/platform/filter.h"
#include "kernel/platform/stub_thread.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kCode = 0x10000000;

struct Fixture : testing::Test {
  void SetUp() override {
    auto made = StubPool::create();
    ASSERT_TRUE(made.ok());
    pool = std::move(*made);
    auto taken = pool->take();
    ASSERT_TRUE(taken.ok()) << taken.error().value;
    stub = std::move(*taken);
    event = stub->wait(regs);
    ASSERT_EQ(event.kind, StubEvent::Syscall);
    ASSERT_EQ(regs.rax, STUB_START_SYSCALL);
  }
  void load(std::initializer_list<uint8_t> code) {
    auto mapped =
        stub->run_one({SYS_mmap, {kCode, 0x10000, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0ULL, 0}});
    ASSERT_TRUE(mapped.ok());
    ASSERT_EQ(*mapped, kCode);
    std::vector<uint8_t> bytes(code);
    ASSERT_TRUE(write_guest(stub->host_tid(), kCode, bytes.data(), bytes.size()).ok());
    regs.rip = kCode;
    regs.rsp = kCode + 0x8000;
  }
  std::unique_ptr<StubPool> pool;
  std::unique_ptr<StubThread> stub;
  abi::Registers regs{};
  StubEvent event;
};

TEST_F(Fixture, ServesACallAndGoesOn) {
  load({0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7});  // again: mov eax, 39; syscall; jmp again
  for (uint64_t i = 0; i < 1000; ++i) {
    stub->resume(regs);
    event = stub->wait(regs);
    ASSERT_EQ(event.kind, StubEvent::Syscall);
    ASSERT_EQ(regs.rax, 39u);
    ASSERT_EQ(regs.rip, kCode + 7);
    regs.rax = i;
  }
}

TEST_F(Fixture, AnswersWithoutTheKernel) {
  // mov eax, 39; syscall; mov ebx, eax; mov eax, 110; syscall; mov ebp, eax; mov eax, 102; syscall
  load({0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x89, 0xc3, 0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0x89, 0xc5, 0xb8, 102, 0, 0, 0, 0x0f, 0x05});
  Credentials creds;
  creds.uid = 1234;
  stub->answer_numbers({.pid = 7, .tid = 8, .parent = 3});
  stub->answer_credentials(std::make_shared<const Credentials>(creds));
  stub->answer(true);
  const abi::Registers begin = regs;
  // Ends at what lies behind: zeros, add [rax], al with rax = 1234.
  stub->resume(regs);
  event = stub->wait(regs);
  ASSERT_EQ(event.kind, StubEvent::Fault);
  EXPECT_EQ(regs.rbx, 7u);
  EXPECT_EQ(regs.rbp, 3u);
  EXPECT_EQ(regs.rax, 1234u);
  // Not for who wants to see every call.
  regs = begin;
  stub->answer_nothing();
  for (uint64_t number : {39, 110, 102}) {
    stub->resume(regs);
    event = stub->wait(regs);
    ASSERT_EQ(event.kind, StubEvent::Syscall);
    EXPECT_EQ(regs.rax, number);
  }
}

TEST_F(Fixture, FaultsAreReported) {
  load({0x31, 0xc0, 0x89, 0x00});  // xor eax, eax; mov [rax], eax
  stub->resume(regs);
  event = stub->wait(regs);
  ASSERT_EQ(event.kind, StubEvent::Fault);
  EXPECT_EQ(event.info.si_signo, SIGSEGV);
  EXPECT_EQ(event.info.si_addr, nullptr);
}

TEST_F(Fixture, InterruptStopsALoop) {
  load({0xeb, 0xfe});
  stub->resume(regs);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  stub->interrupt();
  event = stub->wait(regs);
  ASSERT_EQ(event.kind, StubEvent::Interrupt);
  EXPECT_EQ(regs.rip, kCode);
}

TEST_F(Fixture, ForkCopiesMemoryAndRegisters) {
  load({0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7});
  stub->resume(regs);
  ASSERT_EQ(stub->wait(regs).kind, StubEvent::Syscall);
  auto child = stub->fork(0, 0);
  ASSERT_TRUE(child.ok()) << child.error().value;
  EXPECT_NE((*child)->host_tid(), stub->host_tid());
  const uint32_t mark = 77;
  ASSERT_TRUE(write_guest((*child)->host_tid(), kCode + 0x100, &mark, 4).ok());
  uint32_t parents = 1;
  ASSERT_TRUE(read_guest(stub->host_tid(), kCode + 0x100, &parents, 4).ok());
  EXPECT_EQ(parents, 0u);
  abi::Registers childs = regs;
  childs.rbx = 5;
  for (int i = 0; i < 10; ++i) {
    (*child)->resume(childs);
    ASSERT_EQ((*child)->wait(childs).kind, StubEvent::Syscall);
    EXPECT_EQ(childs.rbx, 5u);
    stub->resume(regs);
    ASSERT_EQ(stub->wait(regs).kind, StubEvent::Syscall);
  }
}

TEST_F(Fixture, ThreadsAndProcessesThatShareMemory) {
  load({0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7});
  stub->resume(regs);
  ASSERT_EQ(stub->wait(regs).kind, StubEvent::Syscall);
  for (bool process : {false, true}) {
    auto other = stub->clone_shared(process, 0, 0, 0);
    ASSERT_TRUE(other.ok()) << other.error().value;
    abi::Registers theirs = regs;
    for (int i = 0; i < 10; ++i) {
      (*other)->resume(theirs);
      ASSERT_EQ((*other)->wait(theirs).kind, StubEvent::Syscall);
    }
    EXPECT_EQ((*other)->process() == stub->process(), !process);
    (*other)->exit_thread();
  }
}

TEST_F(Fixture, DescriptorsArePassedForMappings) {
  UniqueFd file(memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(write(file.get(), "hello", 5), 5);
  ASSERT_EQ(ftruncate(file.get(), 4096), 0);
  auto mapped = stub->run_one({SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE, 0, 0}, 4, file.get()});
  ASSERT_TRUE(mapped.ok()) << mapped.error().value;
  char text[6] = {};
  ASSERT_TRUE(read_guest(stub->host_tid(), *mapped, text, 5).ok());
  EXPECT_STREQ(text, "hello");
}

TEST_F(Fixture, NativeCallsDoNotTrapAndTheWindowIsGuarded) {
  // mmap anonymous natively (r10 = MAP_PRIVATE | MAP_ANONYMOUS), then munmap of the window, which must trap.
  load({0x31, 0xff, 0xbe, 0x00, 0x10, 0,    0, 0xba, 3, 0, 0,    0,    0x41, 0xba, 0x22, 0,    0,  0, 0x49, 0xc7, 0xc0, 0xff, 0xff,
        0xff, 0xff, 0x45, 0x31, 0xc9, 0xb8, 9, 0,    0, 0, 0x0f, 0x05, 0x48, 0x89, 0xc3,  // mmap; mov rbx, rax
        0x48, 0xbf, 0,    0,    0,    0,    0, 0x7e, 0, 0, 0xbe, 0,    0,    1,    0,    0xb8, 11, 0, 0,    0,    0x0f, 0x05});  // movabs
                                                                                                                                 // rdi; mov
                                                                                                                                 // esi,
                                                                                                                                 // 0x10000;
                                                                                                                                 // munmap
  stub->resume(regs);
  event = stub->wait(regs);
  ASSERT_EQ(event.kind, StubEvent::Syscall);
  EXPECT_EQ(regs.rax, 11u);
  EXPECT_LT(regs.rbx, 0x7fffffffffffu);
  EXPECT_GT(regs.rbx, 0x10000u);
}

TEST_F(Fixture, KilledStubIsDead) {
  load({0xeb, 0xfe});
  stub->resume(regs);
  stub->process()->kill();
  stub->wake_dead();
  EXPECT_EQ(stub->wait(regs).kind, StubEvent::Dead);
}

// As while a program is loaded into it (found by a crash test, whose exec never returned).
TEST_F(Fixture, DeathIsSeenWhereNobodyWatches) {
  ASSERT_EQ(::kill(stub->process()->pid(), SIGKILL), 0);
  EXPECT_FALSE(stub->run_one({SYS_getpid, {}}).ok());
  EXPECT_TRUE(stub->process()->dead());
}

TEST(StubFilter, EveryRowHasAReason) {
  for (const auto* rows : {&native_calls(), &blob_calls()})
    for (const NativeCall& row : *rows) EXPECT_GT(strlen(row.reason), 5u) << row.name;
  EXPECT_LT(make_stub_filter().size(), 320u);
}

}  // namespace
}  // namespace caisson::kernel
