// QEMU's command line, its control protocol with a hostile peer, and failures to start.
#include "microvm/qemu/qemu.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "host/files.h"
#include "microvm/qemu/command_line.h"
#include "microvm/qemu/qmp.h"
#include "microvm/test_vm.h"

namespace caisson::microvm {
namespace {

std::string joined(const VmConfig& config) {
  std::string text;
  for (const std::string& word : qemu_command_line(config, {"/usr/bin/qemu", "/kernel", "/initrd", "/share"}, {10, 11, 12, 13}, 2000000))
    text += word + " ";
  return text;
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(CommandLine, MachineWithPciAndVirtiofs) {
  VmConfig config{.id = "pod", .machine = "microvm", .share = ShareType::Virtiofs, .share_namespace = 5, .memory_mib = 300};
  const std::string line = joined(config);
  EXPECT_TRUE(has(line, "pcie=on")) << line;
  EXPECT_TRUE(has(line, "vhost-user-fs-pci,chardev=share,tag=caisson"));
  EXPECT_TRUE(has(line, "memory-backend-memfd,id=memory,size=300M,share=on"));
  EXPECT_TRUE(has(line, "-nodefaults -no-user-config"));
  EXPECT_TRUE(has(line, "-sandbox on,"));
  EXPECT_TRUE(has(line, "socket,id=share,fd=13"));
  EXPECT_FALSE(has(line, "-fsdev"));
}

TEST(CommandLine, MachineWithoutPciAnd9p) {
  VmConfig config{.id = "pod", .machine = "microvm", .share = ShareType::NineP, .share_namespace = 5};
  const std::string line = joined(config);
  EXPECT_TRUE(has(line, "pcie=off"));
  EXPECT_TRUE(has(line, "virtio-9p-device,fsdev=share,mount_tag=caisson"));
  EXPECT_TRUE(has(line, "local,id=share,path=/share,security_model=passthrough"));
  EXPECT_TRUE(has(line, "memory-backend-ram"));
  EXPECT_FALSE(has(line, "-pci"));
}

TEST(CommandLine, DisksAndPlacesForMore) {
  VmConfig config{.id = "pod", .machine = "microvm", .share = ShareType::Virtiofs, .share_namespace = 5};
  config.disks = {{21, "caisson1", true}};
  config.hotplug_slots = 2;
  std::string line = joined(config);
  EXPECT_TRUE(has(line, "-add-fd fd=21,set=1")) << line;
  EXPECT_TRUE(has(line, R"("filename":"/dev/fdset/1")"));
  EXPECT_TRUE(has(line, R"("read-only":true)"));
  EXPECT_TRUE(has(line, "virtio-blk-pci,drive=caisson1,serial=caisson1"));
  EXPECT_TRUE(has(line, "pcie-root-port,id=slot2"));
  EXPECT_TRUE(has(line, "pcie_ports=native"));
  config.share = ShareType::NineP;
  line = joined(config);
  EXPECT_TRUE(has(line, "virtio-blk-device,drive=caisson1")) << line;
  EXPECT_FALSE(has(line, "pcie-root-port")) << "it has no PCI bus";
}

TEST(CommandLine, OnlyQ35Grows) {
  VmConfig config{.id = "pod", .machine = "q35", .share = ShareType::Virtiofs, .share_namespace = 5, .vcpus = 1, .memory_mib = 256};
  EXPECT_FALSE(has(joined(config), "maxmem"));
  config.max_memory_mib = 1200;
  const std::string line = joined(config);
  EXPECT_TRUE(has(line, "-m 256M,maxmem=1152M")) << line;
  EXPECT_TRUE(has(line, "virtio-mem-pci,id=growth"));
  EXPECT_TRUE(has(line, "memhp_default_state=online"));
  EXPECT_TRUE(has(line, "-smp 1 "));
  config.max_vcpus = 4;
  config.guest.name = "tuned";
  EXPECT_TRUE(has(joined(config), "-smp 1 ")) << "its kernel does not count them under emulation";
  config.guest.name = "stock";
  EXPECT_TRUE(has(joined(config), "-smp 1,maxcpus=4,sockets=4,cores=1,threads=1"));
  EXPECT_TRUE(has(joined(config), "-accel tcg,tb-size=64,thread=single"));
  EXPECT_EQ(hotplug_cpu(config, 2), R"({"core-id":0,"driver":"qemu64-x86_64-cpu","id":"cpu2","socket-id":2,"thread-id":0})");
  config.machine = "microvm";
  EXPECT_FALSE(has(joined(config), "maxmem"));
  EXPECT_TRUE(has(joined(config), "-smp 1 "));
}

TEST(CommandLine, KvmAndTcgDiffer) {
  VmConfig config{.id = "pod", .accel = Accel::Kvm, .machine = "q35", .kernel_parameters = "debug extra=1"};
  EXPECT_TRUE(has(joined(config), "-accel kvm -cpu host"));
  EXPECT_FALSE(has(guest_command_line(config, 2000000), "tsc_early_khz"));
  EXPECT_TRUE(guest_command_line(config, 0).ends_with("debug extra=1"));
  config.accel = Accel::Tcg;
  EXPECT_TRUE(has(joined(config), "-cpu qemu64"));
  EXPECT_TRUE(has(guest_command_line(config, 2000000), "tsc_early_khz=2000000"));
  EXPECT_FALSE(has(guest_command_line(config, 2000000), "nolapic_timer")) << "timers of machine microvm do not fire then";
  config.settings.jail = false;
  EXPECT_FALSE(has(joined(config), "-sandbox"));
}

TEST(CommandLine, TscFrequencyIsSteady) {
  const double first = static_cast<double>(host_tsc_khz());
  usleep(20000);
  const double second = static_cast<double>(host_tsc_khz());
  EXPECT_NEAR(first / second, 1.0, 0.01);
}

// A QMP client and its peer's end of the socket.
struct QmpPair {
  std::unique_ptr<host::EventLoop> loop = std::move(host::EventLoop::create()).value();
  UniqueFd peer;
  std::unique_ptr<QmpClient> client;
  bool ready = false;
  std::optional<Error> failed;

  QmpPair() {
    int sockets[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    peer.reset(sockets[0]);
    client = std::move(QmpClient::create(*loop, UniqueFd(sockets[1]),
                                         {.ready = [this] { ready = true; }, .failed = [this](Error error) { failed = std::move(error); }}))
                 .value();
  }
  void say(std::string_view text) { EXPECT_TRUE(host::write_all(peer.get(), text).ok()); }
  void turn() {
    loop->add_timer(std::chrono::milliseconds(20), [this] { loop->stop(); });
    EXPECT_TRUE(loop->run().ok());
  }
};

TEST(Qmp, GreetsAndExecutes) {
  QmpPair qmp;
  bool too_early = false;
  qmp.client->execute("stop", [&](Result<void> outcome) { too_early = !outcome.ok(); });
  EXPECT_TRUE(too_early);
  qmp.say("{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
  qmp.turn();
  qmp.say("{\"return\": {}, \"id\": 1}\r\n{\"event\": \"RESUME\", \"timestamp\": {}}\r\n");
  qmp.turn();
  EXPECT_TRUE(qmp.ready);
  std::optional<Result<void>> stopped, refused;
  qmp.client->execute("stop", [&](Result<void> outcome) { stopped = std::move(outcome); });
  qmp.client->execute("cont", [&](Result<void> outcome) { refused = std::move(outcome); });
  qmp.say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no \\u001b way\"}, \"id\": 3}\n{\"return\": {}, \"id\": 2}\n");
  qmp.turn();
  ASSERT_TRUE(stopped && refused);
  EXPECT_TRUE(stopped->ok());
  EXPECT_NE(refused->error().message().find("no \\x1b way"), std::string::npos) << refused->error().message();
}

TEST(Qmp, ABrokenConnectionFailsWhatIsUnderWay) {
  QmpPair qmp;
  qmp.say("{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n");
  qmp.turn();
  qmp.say("{\"return\": {}, \"id\": 1}\n");
  qmp.turn();
  int failures = 0;
  qmp.client->execute("stop", [&](Result<void> outcome) { failures += !outcome.ok(); });
  qmp.peer.reset();
  qmp.turn();
  EXPECT_EQ(failures, 1);
  EXPECT_TRUE(qmp.failed.has_value());
  qmp.client->execute("cont", [&](Result<void> outcome) { failures += !outcome.ok(); });
  EXPECT_EQ(failures, 2);
}

// Whose commands are all failing at that moment: nobody else is told, and nothing is used that has gone with it.
TEST(Qmp, AHandlerMayDestroyTheClientWhileItFails) {
  for (const bool deaf : {false, true}) {
    QmpPair qmp;
    qmp.say("{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n");
    qmp.turn();
    qmp.turn();
    ASSERT_TRUE(qmp.ready);
    int told = 0;
    const auto destroy = [&](Result<void> outcome) {
      EXPECT_FALSE(outcome.ok());
      ++told;
      qmp.client.reset();
    };
    if (deaf) {
      // QEMU reads nothing: a command fails before it has been sent.
      for (int sent = 0; qmp.client && sent < 100'000; ++sent) qmp.client->execute("query-status", destroy);
    } else {
      for (int i = 0; i < 3; ++i) qmp.client->execute("stop", destroy);
      qmp.peer.reset();
      qmp.turn();
    }
    EXPECT_FALSE(qmp.client);
    EXPECT_EQ(told, 1);
    EXPECT_FALSE(qmp.failed.has_value());
  }
}

TEST(Qmp, RubbishEndsItAndNothingElse) {
  for (const std::string& text :
       {std::string("not json\n"), std::string("[]\n"), std::string("{\"QMP\"\n"), std::string("\0\xff\n", 3), std::string(2 << 20, 'x')}) {
    QmpPair qmp;
    (void)send(qmp.peer.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    for (int turn = 0; turn < 100 && !qmp.failed; ++turn) {
      qmp.turn();
      if (text.size() > 4096) (void)send(qmp.peer.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    EXPECT_TRUE(qmp.failed.has_value()) << text.substr(0, 20);
  }
  for (const char* text : {"{\"return\": 1, \"id\": \"x\"}\n", "{\"return\": {}, \"id\": 99}\n", "{\"error\": 5, \"id\": -1}\n",
                           "{\"event\": 7}\n", "{}\n", "{\"QMP\": 1}\n{\"error\": [], \"id\": 1}\n"}) {
    QmpPair qmp;
    qmp.say(text);
    qmp.turn();
    EXPECT_FALSE(qmp.ready) << text;
  }
}

class StartTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    config = VmConfig{.id = "test", .dir = machine.folder, .machine = "microvm", .share = ShareType::NineP};
    config.guest = {.name = "test", .kernel = machine.folder + "/kernel", .initrd = machine.folder + "/initrd"};
    ASSERT_TRUE(host::write_file_atomic(config.guest.kernel, "no kernel").ok());
    ASSERT_TRUE(host::write_file_atomic(config.guest.initrd, "").ok());
  }
  std::string failure() {
    auto booted = machine.boot(config);
    return booted ? "it has started" : booted.error().message();
  }
  TestVm machine;
  VmConfig config;
};

TEST_F(StartTest, MissingQemu) {
  config.settings.hypervisor_path = "/nowhere/qemu";
  EXPECT_EQ(failure(), "cannot find QEMU at /nowhere/qemu (microvm.hypervisor_path): No such file or directory");
}

TEST_F(StartTest, QemusOwnWordsAreTold) {
  if (!find_qemu({})) GTEST_SKIP() << "QEMU is not installed";
  const std::string text = failure();
  EXPECT_TRUE(has(text, "QEMU (") && has(text, ") exited with status 1")) << text;
  EXPECT_TRUE(has(text, "kernel")) << text;
}

TEST_F(StartTest, AVmmThatIsSilentIsGivenUp) {
  // A program that runs and says nothing on its control connection.
  config.settings.hypervisor_path = "/usr/bin/sleep";
  config.settings.boot_timeout_seconds = 1;
  const std::string text = failure();
  EXPECT_TRUE(has(text, "QEMU (/usr/bin/sleep) exited") || has(text, "not answered")) << text;
  EXPECT_EQ(machine.vm->pid(), 0);
}

TEST_F(StartTest, MissingKernelOrInitrd) {
  if (!find_qemu({})) GTEST_SKIP() << "QEMU is not installed";
  config.guest.initrd = machine.folder + "/none";
  EXPECT_TRUE(has(failure(), "cannot find " + machine.folder + "/none"));
}

TEST_F(StartTest, ACgroupThatCannotBeEnteredIsAnError) {
  if (!find_qemu({})) GTEST_SKIP() << "QEMU is not installed";
  config.cgroup.path = "/caisson-vm-test";
  config.cgroup.folders = {{"memory", machine.folder + "/no-such-cgroup"}};
  EXPECT_TRUE(has(failure(), "no-such-cgroup"));
}

}  // namespace
}  // namespace caisson::microvm
