#include "kernel/control/tenant.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "kernel.pb.h"
#include "kernel/platform/stub_thread.h"

namespace caisson::kernel {
namespace {

struct Ends {
  UniqueFd ours, theirs;
  Ends() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ours.reset(pair[0]);
    theirs.reset(pair[1]);
  }
};

UniqueFd null_device() { return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)); }

class Tenants : public testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Kernel>> made = Kernel::create();
    ASSERT_TRUE(made);
    kernel = *std::move(made);
    event.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    house.reset(new Household{.kernel = *kernel,
                              .event = event.get(),
                              .user_namespace = [this] { return space ? Result<UniqueFd>(null_device()) : Result<UniqueFd>(UniqueFd()); },
                              .shared_namespaces = [this](const v1::Start&) { return shared; },
                              .somebody_begins = [this] { return another_begins; },
                              .join = [this](UniqueFd, UniqueFd) { ++joined; }});
    tenant = std::make_unique<Tenant>(*house, std::move(control.theirs), std::move(stand_in.theirs));
  }
  void TearDown() override {
    tenant.reset();
    if (kernel) kernel->shutdown();
  }

  // Waits until there is something to read, and reads it. (The zygote has copies of our ends for its first moments.)
  void turn() {
    std::vector<pollfd> entries;
    tenant->add_descriptors(entries);
    ASSERT_GT(poll(entries.data(), entries.size(), 30'000), 0);
    for (const pollfd& entry : entries)
      if (entry.revents != 0) tenant->take_from(entry.fd);
    tenant->settle();
  }
  Message answer() {
    EXPECT_TRUE(receive_message(stand_in.ours.get()));  // the welcome
    Result<Message> message = receive_message(stand_in.ours.get());
    EXPECT_TRUE(message);
    return message ? *std::move(message) : Message();
  }
  void describe(const v1::Start& start, size_t streams = 3) {
    Result<UniqueFd> file = make_description("test", start.SerializeAsString());
    ASSERT_TRUE(file);
    const UniqueFd null = null_device();
    std::vector<int> fds = {file->get()};
    fds.resize(kContainerDescriptors + streams, null.get());
    ASSERT_TRUE(send_message(stand_in.ours.get(), MessageKind::Container, 0, fds));
    turn();
  }

  std::unique_ptr<Kernel> kernel;
  UniqueFd event;
  bool space = false, another_begins = false;
  SharedNamespaces shared;
  int joined = 0;
  std::unique_ptr<Household> house;
  Ends control, stand_in;
  std::unique_ptr<Tenant> tenant;
};

TEST_F(Tenants, AreWelcomedWithTheKernelsUserNamespace) {
  Result<Message> welcome = receive_message(stand_in.ours.get());
  ASSERT_TRUE(welcome);
  EXPECT_EQ(welcome->kind, MessageKind::Welcome);
  EXPECT_TRUE(welcome->fds.empty());
  space = true;
  Ends other, its;
  Tenant second(*house, std::move(other.theirs), std::move(its.theirs));
  welcome = receive_message(its.ours.get());
  ASSERT_TRUE(welcome);
  EXPECT_EQ(welcome->fds.size(), 1u);
}

TEST_F(Tenants, WhatDoesNotFitWhatWasHandedOverIsRefused) {
  v1::Start start;
  start.add_host_mounts()->set_point("/");
  describe(start);  // a mount without its descriptor
  const Message message = answer();
  EXPECT_EQ(message.kind, MessageKind::Failed);
  EXPECT_EQ(message.number, EPROTO);
  EXPECT_FALSE(tenant->over()) << "the sandbox process still has it";
  control.ours.reset();
  turn();
  EXPECT_TRUE(tenant->over());
}

TEST_F(Tenants, AVdsoIsAPlaceOfAGuest) {
  v1::Start start;
  start.set_vdso(1ULL << 50);
  describe(start);
  EXPECT_EQ(answer().number, EPROTO);
}

TEST_F(Tenants, StreamsAreAsManyAsDescribed) {
  v1::Start start;
  start.mutable_process()->set_preserved(7);
  describe(start);
  EXPECT_EQ(answer().number, EPROTO);
}

TEST_F(Tenants, NamespacesOfWhoHasEndedAreNotShared) {
  v1::Start start;
  start.set_pid_of("gone");
  describe(start);
  EXPECT_EQ(answer().number, ESRCH);
}

TEST_F(Tenants, WhoShareNamespacesWaitForWhoIsOnItsWay) {
  const auto told = [this] {
    pollfd entry{stand_in.ours.get(), POLLIN, 0};
    return poll(&entry, 1, 0) == 1;
  };
  EXPECT_TRUE(receive_message(stand_in.ours.get()));  // the welcome
  another_begins = true;
  v1::Start start;
  start.set_pid_of("first");
  describe(start);
  EXPECT_FALSE(told());
  EXPECT_FALSE(tenant->begins_by_itself());
  shared.pids = std::make_shared<PidNamespace>();
  tenant->settle();
  pollfd ended{event.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ended, 1, 30'000), 1);
  tenant->settle();
  const Result<Message> message = receive_message(stand_in.ours.get());
  ASSERT_TRUE(message);
  EXPECT_EQ(message->number, ENOTSOCK) << "what was handed over for the zygote's socket was used";
}

TEST_F(Tenants, WhoWaitForOneThatNeverBeginsAreTold) {
  another_begins = true;
  v1::Start start;
  start.set_pid_of("first");
  describe(start);
  another_begins = false;
  tenant->settle();
  EXPECT_EQ(answer().number, ESRCH);
}

TEST_F(Tenants, MoreMountsThanThereMayBeAreRefused) {
  const UniqueFd null = null_device();
  const std::vector<int> fds(kMostDescriptors, null.get());
  for (size_t sent = 0; sent <= kMostMounts; sent += kMostDescriptors) {
    ASSERT_TRUE(send_message(stand_in.ours.get(), MessageKind::Mounts, 0, fds));
    turn();
  }
  EXPECT_EQ(answer().kind, MessageKind::Failed);
}

TEST_F(Tenants, ACloseBeforeAnythingWasSaidLeavesNothing) {
  stand_in.ours.reset();
  turn();
  control.ours.reset();
  turn();
  EXPECT_TRUE(tenant->over());
  EXPECT_EQ(tenant->container(), nullptr);
}

TEST_F(Tenants, ARootWithoutTheProgramIsToldAndGivenBack) {
  char folder[] = "/tmp/caisson-tenant-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  Result<Zygote> zygote = make_zygote(false);
  ASSERT_TRUE(zygote);
  v1::Start start;
  start.set_vdso(zygote->vdso);
  start.add_host_mounts()->set_point("/");
  start.mutable_process()->add_arguments("/no/such/program");
  UniqueFd root(open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(send_message(stand_in.ours.get(), MessageKind::Mounts, 0, {root.get()}));
  turn();
  root.reset();
  const Result<UniqueFd> file = make_description("test", start.SerializeAsString());
  const UniqueFd null = null_device();
  ASSERT_TRUE(send_message(stand_in.ours.get(), MessageKind::Container, 0,
                           {file->get(), zygote->socket.get(), zygote->process.get(), null.get(), null.get(), null.get()}));
  turn();
  pollfd told{event.get(), POLLIN, 0};
  ASSERT_EQ(poll(&told, 1, 30'000), 1);
  tenant->settle();
  const Message message = answer();
  EXPECT_EQ(message.kind, MessageKind::Failed);
  EXPECT_EQ(message.number, ENOENT);
  EXPECT_EQ(house->starting, 0u);
  pollfd ended{zygote->process.get(), POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 30'000), 1) << "its zygote ends";
  rmdir(folder);
}

// Kinds, numbers, counts of descriptors and descriptions in any order: each is taken, answered or dropped.
TEST_F(Tenants, TakeAnything) {
  std::mt19937 random(4711);
  const UniqueFd null = null_device();
  for (int round = 0; round < 300; ++round) {
    Ends one, other;
    Tenant any(*house, std::move(one.theirs), std::move(other.theirs));
    for (int i = 0; i < 8; ++i) {
      std::string bytes(random() % 64, '\0');
      for (char& byte : bytes) byte = static_cast<char>(random());
      const Result<UniqueFd> file = make_description("noise", bytes);
      std::vector<int> fds(random() % 9, null.get());
      if (!fds.empty() && random() % 2 == 0) fds[0] = file->get();
      const int to = (random() % 2 == 0 ? one : other).ours.get();
      (void)send_message(to, static_cast<MessageKind>(random() % 20), static_cast<int32_t>(random()), fds);
      std::vector<pollfd> entries;
      any.add_descriptors(entries);
      poll(entries.data(), entries.size(), 0);
      for (const pollfd& entry : entries) {
        pollfd again{entry.fd, POLLIN, 0};
        if (poll(&again, 1, 0) == 1) any.take_from(entry.fd);
      }
      any.settle();
    }
    EXPECT_EQ(any.container(), nullptr);
  }
}

}  // namespace
}  // namespace caisson::kernel
