#include "appkernel/answer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace caisson::appkernel {
namespace {

namespace v1 = sandbox::v1;

kernel::v1::ProcessState* add(kernel::v1::Processes& all, int pid, int ppid, int host_pid) {
  auto* process = all.add_processes();
  process->set_pid(pid);
  process->set_ppid(ppid);
  process->set_host_pid(host_pid);
  process->set_command("program " + std::to_string(pid));
  return process;
}

// The container's first process (stub 10), its child (stub 11), an exec (stub 12) and a child of that (stub 13).
v1::DebugResponse translated() {
  kernel::v1::Processes all;
  add(all, 1, 0, 10)->set_exec(0);
  add(all, 2, 1, 11);
  add(all, 3, 0, 12)->set_exec(7);
  add(all, 4, 3, 13);
  return translate_processes(all, {{7, "the-exec"}}, {{"the-exec", 5000}}, {{10, 4010}, {11, 4011}, {12, 4012}, {13, 4013}}, 4000,
                             1'000'000);
}

TEST(Answer, APidIsThatOfWhoStandsForTheProcess) {
  const v1::DebugResponse response = translated();
  ASSERT_EQ(response.processes_size(), 4);
  EXPECT_EQ(response.processes(0).process().pid(), 4000) << "the kernel process";
  EXPECT_EQ(response.processes(1).process().pid(), 4011) << "its stub";
  EXPECT_EQ(response.processes(1).process().ppid(), 4000);
  EXPECT_EQ(response.processes(2).process().pid(), 5000) << "the exec's stand-in";
  EXPECT_EQ(response.processes(2).process().exec_id(), "the-exec");
  EXPECT_EQ(response.processes(3).process().ppid(), 5000);
  EXPECT_EQ(response.processes(3).process().guest_pid(), 4);
  EXPECT_EQ(response.processes(3).guest_ppid(), 3);
}

TEST(Answer, OfAForgottenExecItsStubIsTold) {
  kernel::v1::Processes all;
  add(all, 3, 0, 12)->set_exec(8);
  const auto response = translate_processes(all, {}, {}, {{12, 4012}}, 4000, 0);
  EXPECT_EQ(response.processes(0).process().pid(), 4012);
  EXPECT_EQ(response.processes(0).process().exec_id(), "");
}

TEST(Answer, AnAgeIsNoneThatCannotBe) {
  kernel::v1::Processes all;
  for (const int64_t age : {INT64_MIN, int64_t{-5}, int64_t{400}, INT64_MAX}) add(all, 9, 0, 0)->set_age_nanos(age);
  const auto response = translate_processes(all, {}, {}, {}, 4000, 1000);
  EXPECT_EQ(response.processes(0).process().started_at_unix_nanos(), 1000);
  EXPECT_EQ(response.processes(1).process().started_at_unix_nanos(), 1000);
  EXPECT_EQ(response.processes(2).process().started_at_unix_nanos(), 600);
  EXPECT_EQ(response.processes(3).process().started_at_unix_nanos(), 0);
}

TEST(Answer, WhatAGuestHasMadeUpIsNotPrintedAsItIs) {
  kernel::v1::Processes all;
  auto* process = add(all, 9, 0, 0);
  process->set_command("evil\033[2J\n");
  auto* task = process->add_tasks();
  task->set_name(std::string("\xff\0x", 3));
  const auto response = translate_processes(all, {}, {}, {}, 4000, 0);
  EXPECT_EQ(response.processes(0).process().command().find('\033'), std::string::npos);
  EXPECT_EQ(response.processes(0).process().pid(), 0);
  EXPECT_EQ(response.processes(0).threads(0).name().find('\xff'), std::string::npos);
}

// Whoever reads an answer gives everything up first: a process of its own does.
template <typename Check>
void in_child(Check&& check) {
  const pid_t child = fork();
  if (child == 0) _exit(check() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

struct Channel {
  UniqueFd ours, theirs;
  Channel() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ours.reset(pair[0]);
    theirs.reset(pair[1]);
  }
};

TEST(Answer, CountsComeFromTheKernel) {
  Channel control;
  kernel::v1::Limits limits;
  limits.set_pids(50);
  auto asked = ask_kernel(control.ours.get(), kernel::Question::Count, {}, limits, true);
  ASSERT_TRUE(asked.ok());
  auto message = kernel::receive_message(control.theirs.get());
  ASSERT_TRUE(message.ok());
  ASSERT_EQ(message->fds.size(), 1u);
  kernel::v1::Processes all;
  all.set_tasks(3);
  all.set_held_bytes(4096);
  auto file = kernel::make_description("test", all.SerializeAsString());
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(kernel::send_message(message->fds[0].get(), kernel::MessageKind::Answer, 0, {file->get()}).ok());
  in_child([&] {
    v1::StatsResponse stats;
    stats.set_memory_usage_bytes(1000);
    return (*asked)->correct(stats).ok() && stats.pids_current() == 3 && stats.pids_limit() == 50 && stats.memory_usage_bytes() == 5096;
  });
}

TEST(Answer, AKernelThatHasEndedOrTalksNonsenseIsAnError) {
  Channel control;
  for (const bool nonsense : {false, true}) {
    auto asked = ask_kernel(control.ours.get(), kernel::Question::Count, {}, {}, false);
    ASSERT_TRUE(asked.ok());
    auto message = kernel::receive_message(control.theirs.get());
    ASSERT_TRUE(message.ok());
    auto file = kernel::make_description("test", "\xff\xff\xff nonsense");
    if (nonsense) {
      ASSERT_TRUE(kernel::send_message(message->fds[0].get(), kernel::MessageKind::Answer, 0, {file->get()}).ok());
    }
    message->fds.clear();
    in_child([&] {
      v1::StatsResponse stats;
      return !(*asked)->correct(stats).ok();
    });
  }
}

TEST(Answer, WhoReadsItHasNothingLeft) {
  Channel control;
  auto asked = ask_kernel(control.ours.get(), kernel::Question::Count, {}, {}, false);
  ASSERT_TRUE(asked.ok());
  auto message = kernel::receive_message(control.theirs.get());
  ASSERT_TRUE(message.ok());
  auto file = kernel::make_description("test", "");
  ASSERT_TRUE(kernel::send_message(message->fds[0].get(), kernel::MessageKind::Answer, 0, {file->get()}).ok());
  in_child([&] {
    v1::StatsResponse stats;
    if (!(*asked)->correct(stats).ok()) return false;
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == EPERM && socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 &&
           fork() < 0 && kill(getppid(), 0) < 0;
  });
}

}  // namespace
}  // namespace caisson::appkernel
