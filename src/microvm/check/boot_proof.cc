#include "microvm/check/boot_proof.h"

#include <stdlib.h>

#include <optional>

#include "base/log.h"
#include "host/files.h"
#include "microvm/guest_link.h"
#include "microvm/share.h"

namespace caisson::microvm {
namespace {

// A folder for the socket of virtiofsd, gone with the proof.
class ScratchFolder {
 public:
  static Result<ScratchFolder> create() {
    char name[] = "/run/caisson-check-XXXXXX";
    char other[] = "/tmp/caisson-check-XXXXXX";
    const char* made = mkdtemp(name);
    if (made == nullptr) made = mkdtemp(other);
    if (made == nullptr) return errno_error("cannot make a folder in /run or /tmp");
    return ScratchFolder(made);
  }
  ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  ~ScratchFolder() {
    if (!path_.empty()) (void)host::remove_tree(path_);
  }
  const std::string& path() const { return path_; }

 private:
  explicit ScratchFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace

Result<BootProof> prove_boot(const sandbox::MicrovmConfig& asked, std::chrono::seconds limit) {
  // What goes wrong in a proof is its result, and nothing for the log.
  const log::Muted muted;
  sandbox::MicrovmConfig settings = asked;
  settings.boot_timeout_seconds = static_cast<uint32_t>(limit.count());
  ScratchFolder folder = TRY(ScratchFolder::create());
  Share share = TRY(Share::create());
  VmConfig config{.id = "check",
                  .dir = folder.path(),
                  .share_namespace = share.namespace_fd(),
                  .memory_mib = std::max<uint64_t>(settings.minimum_memory_mib, 128)};
  TRY(choose_platform(settings, config));

  auto loop = TRY(host::EventLoop::create());
  Result<BootProof> outcome = make_error(ETIMEDOUT, "the guest was not ready within {} s", limit.count());
  const auto begun = std::chrono::steady_clock::now();
  GuestLink link(
      *loop, TRY(make_hypervisor(*loop, settings)), settings,
      {.ready =
           [&](const sandbox::v1::ConfigureResponse& guest) {
             outcome = BootProof{guest.kernel_release(), std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count()};
             loop->stop();
           },
       .dead =
           [&](const Error& error) {
             outcome = error;
             loop->stop();
           }});
  sandbox::v1::ConfigureRequest configure;
  configure.set_hostname("caisson-check");
  configure.set_share_type(config.share == ShareType::Virtiofs ? "virtiofs" : "9p");
  configure.set_share_tag(kShareTag);
  loop->add_timer(limit + std::chrono::seconds(1), [&] { loop->stop(); });
  link.start(config, std::move(configure), [](const sandbox::Leftovers&) -> Result<void> { return {}; });
  TRY(loop->run());
  link.kill();
  return outcome;
}

}  // namespace caisson::microvm
