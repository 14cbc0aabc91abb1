// TestVm, and tests of a whole VM: they boot a guest under emulation where an image is built.
#include "microvm/test_vm.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <optional>

#include "host/files.h"
#include "microvm/guest/initrd.h"
#include "microvm/qemu/qemu.h"
#include "microvm/share.h"
#include "microvm/virtiofsd.h"

namespace caisson::microvm {
namespace {

constexpr std::string_view kHello("\x08\0\0\0\0\0\0\0\0\0\0\0CAISSON1", 20);
constexpr auto kBootLimit = std::chrono::seconds(60);

}  // namespace

TestVm::TestVm() : loop(std::move(host::EventLoop::create()).value()) {
  char name[] = "/tmp/caisson-vm-XXXXXX";
  folder = mkdtemp(name);
}

TestVm::~TestVm() {
  vm.reset();
  (void)host::remove_tree(folder);
}

Result<VmConfig> TestVm::config(const std::string& guest, const std::string& machine, const std::string& share, int share_namespace) {
  if (geteuid() != 0) return make_error(EPERM, "needs root");
  VmConfig config{.id = "test", .dir = folder, .share_namespace = share_namespace};
  config.settings.guest = guest;
  config.settings.share = share;
  const std::string image = image_folder(config.settings.guest_cache, guest);
  ImageManifest manifest = TRY(read_manifest(image));
  config.guest = {
      .name = guest, .kernel = image + "/vmlinux", .initrd = folder + "/initrd", .has_9p = manifest.has_9p, .has_mmio = manifest.has_mmio};
  TRY(host::write_file_atomic(config.guest.initrd, TRY(assemble_initrd(image, manifest, CAISSON_TEST_INIT)), 0644));
  config.machine = machine;
  config.share = share == "virtiofs" ? ShareType::Virtiofs : ShareType::NineP;
  TRY(find_qemu(config.settings));
  if (share == "virtiofs") TRY(find_virtiofsd(config.settings));
  return config;
}

Result<double> TestVm::boot(const VmConfig& config) {
  vm = TRY(make_hypervisor(*loop, config.settings));
  const auto begun = std::chrono::steady_clock::now();
  vm->start(config,
            {.connected =
                 [this](UniqueFd fd) {
                   agent_ = std::move(fd);
                   (void)loop->add(agent_.get(), EPOLLIN, [this](uint32_t) {
                     char bytes[4096];
                     const ssize_t count = recv(agent_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
                     if (count > 0) received_.append(bytes, static_cast<size_t>(count));
                     if (count == 0) loop->remove(agent_.get());
                   });
                 },
             .failed = [this](const Error& error) { failure = error.message(); }},
            [this](const sandbox::Leftovers& leftovers) -> Result<void> {
              saved = leftovers;
              ++saves;
              return {};
            });
  const bool done = run_until([&] { return received_.size() >= kHello.size() || !failure.empty(); }, kBootLimit);
  if (!failure.empty()) return make_error(EIO, "{}", failure);
  if (!done) return make_error(ETIMEDOUT, "no Hello; console:\n{}", vm->console_tail());
  if (received_ != kHello) return make_error(EPROTO, "not a Hello");
  received_.clear();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

Result<std::string> TestVm::ask(const std::string& question) {
  received_.clear();
  TRY(host::send_with_fds(agent_.get(), question + "\n", {}));
  if (!run_until([&] { return received_.ends_with('\n') || !failure.empty(); }, std::chrono::seconds(30)))
    return make_error(ETIMEDOUT, "no answer to {}", question);
  if (!failure.empty()) return make_error(EIO, "{}", failure);
  received_.pop_back();
  return received_;
}

bool TestVm::run_until(const std::function<bool()>& done, std::chrono::milliseconds limit) {
  const auto deadline = host::EventLoop::Clock::now() + limit;
  std::function<void()> look = [&] {
    if (done() || host::EventLoop::Clock::now() >= deadline) return loop->stop();
    loop->add_timer(std::chrono::milliseconds(1), look);
  };
  loop->add_timer(std::chrono::milliseconds(0), look);
  (void)loop->run();
  return done();
}

namespace {

struct Platform {
  const char* guest;
  const char* machine;
  const char* share;
};

class VmTest : public testing::TestWithParam<Platform> {
 protected:
  // Boots with a share of a fresh folder "data"; skips where that cannot be.
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    share.emplace(std::move(Share::create()).value());
    data = machine.folder + "/data";
    ASSERT_EQ(mkdir(data.c_str(), 0755), 0);
    auto config = machine.config(GetParam().guest, GetParam().machine, GetParam().share, share->namespace_fd());
    if (!config) GTEST_SKIP() << config.error().message();
    ASSERT_TRUE(share->expose(data, "data", {}).ok());
    auto seconds = machine.boot(*config);
    ASSERT_TRUE(seconds.ok()) << seconds.error().message();
    RecordProperty("seconds_to_hello", std::to_string(*seconds));
    printf("%s, %s, %s: %.3f s to the guest's hello\n", GetParam().guest, GetParam().machine, GetParam().share, *seconds);
  }
  std::string ask(const std::string& question) {
    auto answer = machine.ask(question);
    return answer ? *answer : "FAILED: " + answer.error().message();
  }
  void timers_work();
  void files_are_the_hosts();
  void what_is_exposed_later_arrives();
  void pauses_and_ends();
  bool is_9p() const { return std::string_view(GetParam().share) == "9p"; }
  void expect_special_files() {
    const std::string made = ask("mknod /share/data/null");
    // Debian's QEMU 7.2, since its correction of CVE-2023-2861, cannot set the mode of a special file and fails to make it
    // (docs/guest-images.md).
    if (is_9p() && made == "ENXIO") return;
    EXPECT_EQ(made, "ok");
    EXPECT_TRUE(S_ISCHR(on_host("null").st_mode));
    EXPECT_EQ(on_host("null").st_rdev, makedev(1, 3));
    EXPECT_EQ(ask("mkfifo /share/data/fifo"), "ok");
    EXPECT_TRUE(S_ISFIFO(on_host("fifo").st_mode));
  }
  struct stat on_host(const std::string& name) {
    struct stat info {};
    EXPECT_EQ(lstat((data + "/" + name).c_str(), &info), 0) << name;
    return info;
  }

  TestVm machine;
  std::optional<Share> share;
  std::string data;
};

void VmTest::files_are_the_hosts() {
  ASSERT_EQ(ask(fmt::format("mount {} {}", GetParam().share, kShareTag)), "ok");
  ASSERT_TRUE(host::write_file_atomic(data + "/from-host", "hello", 0640).ok());
  ASSERT_EQ(chown((data + "/from-host").c_str(), 1234, 4321), 0);
  EXPECT_EQ(ask("read /share/data/from-host"), "hello");
  EXPECT_EQ(ask("stat /share/data/from-host"), "mode=100640 uid=1234 gid=4321 nlink=1 size=5 rdev=0:0");

  EXPECT_EQ(ask("write /share/data/f text"), "ok");
  EXPECT_EQ(*host::read_file(data + "/f"), "text");
  ASSERT_EQ(on_host("f").st_uid, 0u);
  EXPECT_EQ(ask("chown /share/data/f 4242"), "ok");
  EXPECT_EQ(on_host("f").st_uid, 4242u);
  EXPECT_EQ(ask("chmod /share/data/f 4711"), "ok");
  EXPECT_EQ(on_host("f").st_mode, static_cast<mode_t>(S_IFREG | 04711));
  EXPECT_EQ(ask("link /share/data/f /share/data/hard"), "ok");
  EXPECT_EQ(on_host("f").st_nlink, 2u);
  EXPECT_EQ(on_host("f").st_ino, on_host("hard").st_ino);
  EXPECT_EQ(ask("symlink /absolute/target /share/data/soft"), "ok");
  EXPECT_TRUE(S_ISLNK(on_host("soft").st_mode));
  EXPECT_EQ(ask("rename /share/data/f /share/data/renamed"), "ok");
  EXPECT_EQ(*host::read_file(data + "/renamed"), "text");
  EXPECT_EQ(ask("unlink /share/data/hard"), "ok");
  EXPECT_EQ(on_host("renamed").st_nlink, 1u);
  expect_special_files();
  EXPECT_EQ(ask("setxattr /share/data/renamed value"), "ok");
  EXPECT_EQ(ask("getxattr /share/data/renamed"), "value");
  EXPECT_EQ(ask("lock /share/data/locked"), "seen=1");
  EXPECT_EQ(ask("lock /share/data/flocked flock"), "seen=1");
  EXPECT_EQ(ask("mmap /share/data/mapped through-a-mapping"), "ok");
  EXPECT_EQ(std::string(host::read_file(data + "/mapped")->c_str()), "through-a-mapping");
  if (!is_9p()) printf("  %s MiB/s\n", ask("throughput /share/data/big").c_str());
}

void VmTest::what_is_exposed_later_arrives() {
  const std::string late = machine.folder + "/late";
  ASSERT_EQ(mkdir(late.c_str(), 0755), 0);
  ASSERT_TRUE(host::write_file_atomic(late + "/file", "late", 0644).ok());
  ASSERT_TRUE(share->expose(late, "more/late", {.readonly = true}).ok());
  EXPECT_EQ(ask("read /share/more/late/file"), "late");
  EXPECT_EQ(ask("write /share/more/late/new x"), "EROFS");
  ASSERT_TRUE(share->remove("more/late").ok());
  EXPECT_TRUE(share->expose(data, "more/again", {}).ok());
  EXPECT_EQ(ask("write /share/more/again/x y"), "ok");
}

void VmTest::timers_work() {
  for (int round = 0; round < 3; ++round) {
    const std::string answer = ask("sleep 50");
    const int slept = atoi(answer.c_str());
    EXPECT_GE(slept, 50) << answer;
    EXPECT_LT(slept, 5000) << answer;
  }
}

void VmTest::pauses_and_ends() {
  EXPECT_GE(machine.saves, 1);
  EXPECT_EQ(machine.saved.processes.size(), is_9p() ? 1u : 2u);
  bool paused = false, resumed = false;
  machine.vm->pause([&](Result<void> outcome) { paused = outcome.ok(); });
  ASSERT_TRUE(machine.run_until([&] { return paused; }, std::chrono::seconds(5)));
  machine.vm->resume([&](Result<void> outcome) { resumed = outcome.ok(); });
  ASSERT_TRUE(machine.run_until([&] { return resumed; }, std::chrono::seconds(5)));
  EXPECT_EQ(ask("cpus"), "1");
  const pid_t pid = machine.vm->pid();
  ASSERT_GT(pid, 0);
  auto answer = machine.ask("oops");
  EXPECT_FALSE(answer.ok());
  EXPECT_NE(machine.failure.find("test-init: about to end, \\x1b[31mcolours"), std::string::npos) << machine.failure;
  EXPECT_EQ(::kill(pid, 0), -1) << "reaped before the failure is told";
  EXPECT_EQ(machine.vm->pid(), 0);
}

// One boot for all of it: boots are what takes time.
TEST_P(VmTest, WorksFromItsStartToItsEnd) {
  timers_work();
  files_are_the_hosts();
  what_is_exposed_later_arrives();
  pauses_and_ends();
}

INSTANTIATE_TEST_SUITE_P(Emulated, VmTest,
                         testing::Values(Platform{"stock", "q35", "virtiofs"}, Platform{"stock", "microvm", "virtiofs"},
                                         Platform{"tuned", "microvm", "virtiofs"}, Platform{"tuned", "q35", "virtiofs"},
                                         Platform{"tuned", "microvm", "9p"}),
                         [](const auto& info) {
                           return fmt::format("{}_{}_{}", info.param.guest, info.param.machine,
                                              std::string_view(info.param.share) == "9p" ? "ninep" : "virtiofs");
                         });

}  // namespace
}  // namespace caisson::microvm
