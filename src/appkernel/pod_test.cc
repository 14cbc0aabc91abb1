#include "appkernel/pod.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace caisson::appkernel {
namespace {

// A process in an IPC namespace of its own.
class Other {
 public:
  Other() : pid_(fork()) {
    if (pid_ != 0) return;
    if (unshare(CLONE_NEWIPC) != 0) _exit(1);
    raise(SIGSTOP);
    _exit(0);
  }
  ~Other() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  bool stands() const {
    int status = 0;
    return waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

oci::Spec spec_with(std::vector<oci::Namespace> namespaces) {
  oci::Spec spec;
  spec.linux_.namespaces = std::move(namespaces);
  return spec;
}

TEST(Pod, WhoJoinsNoNamespaceSharesNothing) {
  const Residents residents = {{"first", {.kernel_of = "first", .pid = getpid()}}};
  EXPECT_EQ(find_sharing(spec_with({{"pid", ""}, {"ipc", ""}, {"uts", ""}}), residents).kernel_of, "");
  EXPECT_EQ(find_sharing(spec_with({{"ipc", "/proc/self/ns/ipc"}}), {}).kernel_of, "");
  EXPECT_EQ(find_sharing(spec_with({{"ipc", "/no/such/file"}}), residents).kernel_of, "");
}

TEST(Pod, NamespacesLeadToWhoHasThem) {
  const Other other;
  if (!other.stands()) GTEST_SKIP() << "no IPC namespace can be made here";
  const Residents residents = {{"a", {.kernel_of = "b", .pid = other.pid()}}, {"b", {.kernel_of = "b", .pid = getpid()}}};
  // By what they are: the file may lie anywhere.
  Sharing sharing = find_sharing(spec_with({{"ipc", "/proc/self/ns/ipc"}}), residents);
  EXPECT_EQ(sharing.kernel_of, "b");
  EXPECT_EQ(sharing.ipc_of, "b");
  EXPECT_EQ(sharing.pid_of, "");
  sharing = find_sharing(spec_with({{"ipc", fmt::format("/proc/{}/task/{}/ns/ipc", other.pid(), other.pid())}}), residents);
  EXPECT_EQ(sharing.kernel_of, "b") << "the kernel process that it lives in";
  EXPECT_EQ(sharing.ipc_of, "a");
  // Both are in one PID namespace of the node's: the name says whose is meant, and nothing else leads to a further container's.
  EXPECT_EQ(find_sharing(spec_with({{"pid", fmt::format("/proc/{}/ns/pid", other.pid())}}), residents).pid_of, "a");
  EXPECT_EQ(find_sharing(spec_with({{"pid", "/proc/self/ns/pid"}}), residents).pid_of, "b");
}

TEST(Pod, TwoKernelsAreNotOne) {
  const Other other;
  if (!other.stands()) GTEST_SKIP() << "no IPC namespace can be made here";
  const Residents residents = {{"a", {.kernel_of = "a", .pid = other.pid()}}, {"b", {.kernel_of = "b", .pid = getpid()}}};
  const Sharing sharing =
      find_sharing(spec_with({{"ipc", fmt::format("/proc/{}/ns/ipc", other.pid())}, {"uts", "/proc/self/ns/uts"}}), residents);
  EXPECT_EQ(sharing.kernel_of, "a");
  EXPECT_EQ(sharing.ipc_of, "a");
}

TEST(Pod, OtherNetworksAndUsersAreOtherKernels) {
  const Resident first = {.kernel_of = "first", .kernel = getpid(), .pid = getpid()};
  EXPECT_FALSE(obstacle(spec_with({{"network", "/proc/self/ns/net"}}), first));
  EXPECT_TRUE(obstacle(spec_with({{"network", ""}}), first)) << "a network of its own";
  EXPECT_TRUE(obstacle(spec_with({{"network", "/proc/self/ns/net"}, {"user", ""}}), first)) << "a user namespace of its own";
}

}  // namespace
}  // namespace caisson::appkernel
