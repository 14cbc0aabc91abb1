#include "microvm/qemu/qemu.h"

#include <fmt/ranges.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/log.h"
#include "host/files.h"
#include "host/process.h"
#include "microvm/jail/jailed_process.h"
#include "microvm/qemu/command_line.h"
#include "microvm/qemu/qmp.h"
#include "microvm/share.h"
#include "microvm/share_layout.h"
#include "microvm/virtiofsd.h"

namespace caisson::microvm {
namespace {

constexpr size_t kConsoleKept = 16 << 10;
constexpr size_t kConsoleLines = 15;
constexpr const char* kKernelInJail = "/kernel";
constexpr const char* kInitrdInJail = "/initrd";

struct SocketPair {
  UniqueFd ours, theirs;
};
Result<SocketPair> make_socket_pair() {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) return errno_error("cannot make a socket pair");
  return SocketPair{UniqueFd(sockets[0]), UniqueFd(sockets[1])};
}

// Folders with QEMU's firmware and option ROMs, for a QEMU of the system or one with a prefix of its own.
std::vector<std::string> data_folders(const std::string& program) {
  std::vector<std::string> candidates = {"/usr/share/qemu", "/usr/share/seabios", "/usr/share/ipxe", "/usr/lib/ipxe"};
  const size_t bin = program.rfind("/bin/");
  if (bin != std::string::npos && program.substr(0, bin) != "/usr")
    for (const char* folder : {"/share/qemu", "/lib", "/lib64"}) candidates.push_back(program.substr(0, bin) + folder);
  std::vector<std::string> found;
  for (const std::string& folder : candidates)
    if (access(folder.c_str(), X_OK) == 0 && !folder.starts_with("/usr/lib/")) found.push_back(folder);
  return found;
}

Result<dev_t> kvm_number() {
  struct stat info {};
  if (stat("/dev/kvm", &info) != 0) return errno_error("cannot find /dev/kvm");
  return info.st_rdev;
}

class Qemu : public Hypervisor {
 public:
  explicit Qemu(host::EventLoop& loop) : loop_(loop) {}
  ~Qemu() override {
    alive_.reset();
    kill();
  }

  void start(const VmConfig& config, Events events, std::function<Result<void>(const sandbox::Leftovers&)> save) override {
    config_ = config;
    events_ = std::move(events);
    save_ = std::move(save);
    for (uint32_t slot = has_pci(config_) ? config_.hotplug_slots : 0; slot > 0; --slot) free_slots_.push_back(slot);
    auto launched = launch();
    if (launched) return;
    // The caller does not expect an outcome before start() has returned.
    loop_.post([this, weak = std::weak_ptr(alive_), error = std::move(launched).error()]() mutable {
      if (weak.lock()) fail(std::move(error));
    });
  }

  void pause(std::function<void(Result<void>)> done) override { command("stop", std::move(done)); }
  void resume(std::function<void(Result<void>)> done) override { command("cont", std::move(done)); }

  void add_disk(const VmConfig::Disk& disk, std::function<void(Result<uint32_t>)> done) override {
    const uint32_t fdset = next_fdset_++;
    plug({{"add-fd", nlohmann::json{{"fdset-id", fdset}}.dump(), disk.fd}, {"blockdev-add", disk_backend(disk, fdset), -1}},
         {{"driver", "virtio-blk-pci"}, {"drive", disk.serial}, {"serial", disk.serial}}, std::move(done));
  }

  void add_network(const VmConfig::Network& network, std::function<void(Result<uint32_t>)> done) override {
    const std::string name = fmt::format("hotnet{}", next_network_++);
    plug({{"getfd", nlohmann::json{{"fdname", name}}.dump(), network.tap},
          {"netdev_add", nlohmann::json{{"type", "tap"}, {"id", name}, {"fd", name}, {"vhost", false}}.dump(), -1}},
         {{"driver", "virtio-net-pci"}, {"netdev", name}, {"mac", network.mac}, {"romfile", ""}}, std::move(done));
  }

  void grow(uint64_t memory_mib, uint32_t vcpus, std::function<void(Result<void>)> done) override {
    std::vector<QmpCommand> commands;
    const uint64_t more = memory_mib > config_.memory_mib ? std::min(memory_mib - config_.memory_mib, growth_mib(config_)) : 0;
    if (more > grown_mib_) {
      const nlohmann::json size{
          {"path", fmt::format("/machine/peripheral/{}", kGrowthDevice)}, {"property", "requested-size"}, {"value", more << 20}};
      commands.push_back({"qom-set", size.dump(), -1});
      grown_mib_ = more;
    }
    for (uint32_t cpu = std::max(vcpus_, config_.vcpus); cpu < std::min(vcpus, most_vcpus(config_)); ++cpu) {
      commands.push_back({"device_add", hotplug_cpu(config_, cpu), -1});
      vcpus_ = cpu + 1;
    }
    if (!qmp_) return done(make_error(ESRCH, "the virtual machine does not run"));
    qmp_->execute_all(std::move(commands), std::move(done));
  }

  void kill() override {
    events_ = {};
    if (deadline_ != 0) loop_.cancel_timer(deadline_);
    deadline_ = 0;
    qmp_.reset();
    qemu_.reset();
    virtiofsd_.reset();
    if (console_) loop_.remove(console_.get());
    console_.reset();
    agent_.reset();
    share_.reset();
  }

  pid_t pid() const override { return qemu_ ? qemu_->pid() : 0; }
  std::vector<pid_t> helper_pids() const override {
    if (virtiofsd_ && virtiofsd_->pid() != 0) return {virtiofsd_->pid()};
    return {};
  }
  std::string console_tail() const override { return last_lines(console_text_, kConsoleLines); }

 private:
  // Prepares by the first commands, and puts the device into a free slot.
  void plug(std::vector<QmpCommand> commands, nlohmann::json device, std::function<void(Result<uint32_t>)> done) {
    if (!qmp_) return done(make_error(ESRCH, "the virtual machine does not run"));
    if (!has_pci(config_))
      return done(
          make_error(ENOTSUP, "machine \"microvm\" with share \"9p\" takes no device while it runs: set microvm.machine to \"q35\""));
    if (free_slots_.empty())
      return done(make_error(
          ENOSPC, "all {} places of the virtual machine for devices that are added while it runs are taken (microvm.hotplug_slots)",
          config_.hotplug_slots));
    const uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    device["bus"] = fmt::format("slot{}", slot);
    device["id"] = fmt::format("hot{}", slot);
    commands.push_back({"device_add", device.dump(), -1});
    qmp_->execute_all(std::move(commands), [this, slot, done = std::move(done)](Result<void> plugged) {
      if (plugged.ok()) return done(slot);
      free_slots_.push_back(slot);
      done(std::move(plugged).error());
    });
  }

  // What is made before the VMM runs, in the order in which it is written down.
  Result<void> launch() {
    program_ = TRY(find_qemu(config_.settings));
    if (config_.share_namespace < 0) share_.emplace(TRY(Share::create()));  // nothing in it: the jail's base
    const int share_namespace = share_ ? share_->namespace_fd() : config_.share_namespace;
    const bool has_share = config_.share_namespace >= 0;
    UniqueFd filesystem;
    if (has_share && config_.share == ShareType::Virtiofs) filesystem = TRY(prepare_files(share_namespace));
    TRY(prepare_qemu(share_namespace, has_share, filesystem.get()));
    TRY(note_processes());
    for (JailedProcess* process : {virtiofsd_.get(), qemu_.get()})
      if (process != nullptr) {
        if (!config_.cgroup.folders.empty()) TRY(host::attach_to_cgroup(config_.cgroup, process->pid()));
        TRY(process->go());
      }
    deadline_ = loop_.add_timer(std::chrono::seconds(config_.settings.boot_timeout_seconds), [this] {
      deadline_ = 0;
      fail(make_error(ETIMEDOUT, "QEMU has not answered on its control connection within {} s", config_.settings.boot_timeout_seconds));
    });
    return {};
  }

  Result<UniqueFd> prepare_files(int share_namespace) {
    const std::string folder = config_.dir + "/vm";
    TRY(host::mkdir_p(folder, 0700));
    auto prepared = TRY(prepare_virtiofsd(
        loop_, config_, share_namespace, folder,
        {.running = {}, .failed = [this](Error error) { fail(std::move(error)); }, .ended = [this](int status) { files_ended(status); }}));
    virtiofsd_ = std::move(prepared.process);
    return std::move(prepared.connection);
  }

  Result<void> prepare_qemu(int share_namespace, bool has_share, int filesystem) {
    SocketPair qmp = TRY(make_socket_pair()), console = TRY(make_socket_pair()), agent = TRY(make_socket_pair());
    const bool jail = config_.settings.jail;
    const bool serves_files = has_share && config_.share == ShareType::NineP;
    const QemuDescriptors fds{qmp.theirs.get(), console.theirs.get(), agent.theirs.get(), filesystem};
    const QemuPaths paths{program_, jail ? kKernelInJail : config_.guest.kernel, jail ? kInitrdInJail : config_.guest.initrd,
                          has_share ? (jail ? kJailShare : kUnconfinedShare) : ""};
    JailSpec spec;
    spec.what = "QEMU";
    spec.arguments = qemu_command_line(config_, paths, fds, config_.accel == Accel::Tcg ? host_tsc_khz() : 0);
    spec.descriptors = {fds.qmp, fds.console, fds.agent};
    if (filesystem >= 0) spec.descriptors.push_back(filesystem);
    for (const VmConfig::Network& network : config_.networks) spec.descriptors.push_back(network.tap);
    for (const VmConfig::Disk& disk : config_.disks) spec.descriptors.push_back(disk.fd);
    spec.files = {{config_.guest.kernel, kKernelInJail}, {config_.guest.initrd, kInitrdInJail}};
    for (const std::string& folder : data_folders(program_)) spec.files.push_back({folder, folder});
    if (config_.accel == Accel::Kvm) spec.devices = {{"/dev/kvm", TRY(kvm_number())}};
    spec.jail_namespace = share_namespace;
    spec.share = spec.proc = serves_files;
    const JailUser user = find_jail_user(config_.settings.user);
    spec.uid = user.uid;
    spec.gid = user.gid;
    // As a file server it creates files with any owner and mode, in the share and nowhere else.
    if (serves_files) spec.capabilities = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP};
    const bool more_to_come = config_.hotplug_slots > 0;
    spec.syscalls = qemu_syscalls({.kvm = config_.accel == Accel::Kvm,
                                   .files = serves_files,
                                   .network = more_to_come || !config_.networks.empty(),
                                   .disks = more_to_come || !config_.disks.empty()});
    spec.confined = jail;
    log::debug("QEMU: {}", fmt::join(spec.arguments, " "));
    qemu_ = TRY(JailedProcess::create(
        loop_, std::move(spec),
        {.running = {}, .failed = [this](Error error) { fail(std::move(error)); }, .ended = [this](int status) { qemu_ended(status); }}));
    agent_ = std::move(agent.ours);
    TRY(watch_console(std::move(console.ours)));
    qmp_ =
        TRY(QmpClient::create(loop_, std::move(qmp.ours),
                              {.ready = [this] { connected(); }, .failed = [](const Error& error) { log::debug("{}", error.message()); }}));
    return {};
  }

  // Before any of them executes anything.
  Result<void> note_processes() {
    for (const JailedProcess* process : {virtiofsd_.get(), qemu_.get()}) {
      if (process == nullptr) continue;
      auto start = host::process_start_time(process->pid());
      if (!start.ok() && start.error().code() == ESRCH) continue;  // its preparation has failed: why is on its way to fail()
      leftovers_.processes.push_back({process->pid(), TRY(std::move(start))});
    }
    return save_(leftovers_);
  }

  Result<void> watch_console(UniqueFd console) {
    console_ = std::move(console);
    return loop_.add(console_.get(), EPOLLIN, [this, weak = std::weak_ptr(alive_)](uint32_t) {
      if (weak.lock()) read_console();
    });
  }

  void read_console() {
    char bytes[4096];
    const ssize_t count = recv(console_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count > 0) return append_bounded(console_text_, {bytes, static_cast<size_t>(count)}, kConsoleKept);
    loop_.remove(console_.get());
    console_.reset();
  }

  void connected() {
    if (deadline_ != 0) loop_.cancel_timer(deadline_);
    deadline_ = 0;
    if (events_.connected) events_.connected(std::move(agent_));
  }

  void command(const std::string& name, std::function<void(Result<void>)> done) {
    if (!qmp_) return done(make_error(ESRCH, "the virtual machine does not run"));
    qmp_->execute(name, std::move(done));
  }

  // One line: what a program prints in several is joined.
  static Error program_ended(const char* what, const JailedProcess& process, int status) {
    std::string output = process.output_tail();
    for (size_t at = 0; (at = output.find('\n', at)) != output.npos;) output.replace(at, 1, "; ");
    return make_error(EIO, "{} ({}) {}{}{}", what, process.program(), host::describe_exit(status), output.empty() ? "" : ": ", output);
  }

  // virtiofsd ends by itself, with status 0, when QEMU lets go of it: QEMU's end then follows, and says more.
  void files_ended(int status) {
    files_status_ = status;
    const auto patience = status == 0 ? std::chrono::milliseconds(5000) : std::chrono::milliseconds(100);
    loop_.add_timer(patience, [this, weak = std::weak_ptr(alive_), status] {
      if (weak.lock() && virtiofsd_) fail(program_ended("virtiofsd", *virtiofsd_, status));
    });
  }

  // QEMU gives up at once when its file server has failed, which is then the cause, and may be reaped a moment later.
  void qemu_ended(int status) {
    if (status == 0 || !virtiofsd_ || files_status_) return fail(vm_ended(status));
    loop_.add_timer(std::chrono::milliseconds(100), [this, weak = std::weak_ptr(alive_), status] {
      if (weak.lock()) fail(vm_ended(status));
    });
  }

  // With -no-reboot QEMU ends with 0 when the guest resets itself, as its kernel does in a panic.
  Error vm_ended(int status) {
    while (console_ && drain_console()) {
    }
    if (status != 0) {
      if (virtiofsd_ && files_status_.value_or(0) != 0) return program_ended("virtiofsd", *virtiofsd_, *files_status_);
      return program_ended("QEMU", *qemu_, status);
    }
    const std::string output = qemu_->output_tail(), console = console_tail();
    return make_error(EIO, "the virtual machine has ended by itself; {}{}{}",
                      console.empty() ? "its console is empty" : "the last lines of its console:\n", console,
                      output.empty() ? "" : "\nQEMU says: " + output);
  }

  bool drain_console() {
    const size_t before = console_text_.size();
    read_console();
    return console_ && console_text_.size() != before && console_text_.size() < kConsoleKept;
  }

  // Everything is freed before the caller hears of it.
  void fail(Error error) {
    auto failed = std::move(events_.failed);
    // Not from within a handler of what is to be destroyed.
    loop_.post([this, weak = std::weak_ptr(alive_), failed = std::move(failed), error = std::move(error)]() mutable {
      if (!weak.lock()) return;
      kill();
      if (failed) failed(std::move(error));
    });
    events_ = {};
  }

  host::EventLoop& loop_;
  VmConfig config_;
  Events events_;
  std::function<Result<void>(const sandbox::Leftovers&)> save_;
  sandbox::Leftovers leftovers_;
  std::string program_;
  std::optional<Share> share_;
  std::unique_ptr<JailedProcess> virtiofsd_, qemu_;
  std::unique_ptr<QmpClient> qmp_;
  UniqueFd console_, agent_;
  std::string console_text_;
  host::EventLoop::TimerId deadline_ = 0;
  std::vector<uint32_t> free_slots_;
  uint32_t next_fdset_ = kFirstHotFdset, next_network_ = 1;
  uint64_t grown_mib_ = 0;
  uint32_t vcpus_ = 0;               // with those that have been added; 0: none has
  std::optional<int> files_status_;  // of virtiofsd, when it has ended
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

std::unique_ptr<Hypervisor> make_qemu(host::EventLoop& loop) { return std::make_unique<Qemu>(loop); }

Result<std::string> find_qemu(const sandbox::MicrovmConfig& settings) {
  std::string program = settings.hypervisor_path;
  if (!program.empty()) {
    if (access(program.c_str(), X_OK) != 0) return errno_error("cannot find QEMU at {} (microvm.hypervisor_path)", program);
  } else {
    const char* path = getenv("PATH");
    const std::string_view folders = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
    for (size_t at = 0; at <= folders.size() && program.empty();) {
      const size_t end = std::min(folders.find(':', at), folders.size());
      const std::string candidate = std::string(folders.substr(at, end - at)) + "/qemu-system-x86_64";
      if (candidate.front() == '/' && access(candidate.c_str(), X_OK) == 0) program = candidate;
      at = end + 1;
    }
    if (program.empty())
      return make_error(ENOENT,
                        "QEMU (qemu-system-x86_64) is not there: install Debian's package qemu-system-x86, or set microvm.hypervisor_path");
  }
  // The jail has no symbolic links to follow.
  std::unique_ptr<char, void (*)(void*)> real(realpath(program.c_str(), nullptr), free);
  if (!real) return errno_error("cannot find QEMU at {}", program);
  return std::string(real.get());
}

}  // namespace caisson::microvm
