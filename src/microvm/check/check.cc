#include "microvm/check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "microvm/check/appkernel_needs.h"
#include "microvm/check/boot_proof.h"
#include "microvm/check/memory.h"
#include "microvm/check/namespace_proof.h"
#include "microvm/guest/progress.h"
#include "microvm/guest/store.h"
#include "microvm/jail/jail.h"
#include "microvm/qemu/qemu.h"
#include "microvm/virtiofsd.h"

namespace caisson::microvm {
namespace {

constexpr const char* kKvmRow = "microvm (qemu, kvm)";
constexpr const char* kAppkernelRow = "appkernel";
constexpr std::chrono::seconds kKvmLimit{30};  // a guest on a node that is itself a virtual machine takes ten at times
constexpr std::chrono::seconds kTcgLimit{60};

CheckRow good(std::string what, std::string detail) {
  return {.what = std::move(what), .ok = true, .required = false, .detail = std::move(detail), .remedy = {}};
}
CheckRow bad(std::string what, const Error& error, std::string remedy) {
  return {.what = std::move(what), .ok = false, .required = false, .detail = error.message(), .remedy = std::move(remedy)};
}

CheckRow check_namespaces() {
  auto proved = prove_namespaces();
  CheckRow row =
      proved ? good("namespace", "made a process with namespaces and a root file system of its own")
             : bad("namespace", proved.error(), "run caisson as root, with CAP_SYS_ADMIN; inside a container that one must be privileged");
  row.required = true;
  return row;
}

CheckRow check_cgroups() {
  auto proved = prove_cgroups();
  return proved ? good("cgroups", *proved)
                : bad("cgroups", proved.error(), "without cgroups limits are not enforced on the node: mount them at /sys/fs/cgroup");
}

CheckRow check_image(const sandbox::MicrovmConfig& settings, const std::string& name) {
  sandbox::MicrovmConfig only = settings;
  only.kernel.clear();
  only.guest = name;
  const std::string what = "guest image " + name;
  auto image = find_guest_image(only);
  if (!image)
    return bad(what, image.error(), name == "tuned" ? "caisson guest build --tuned (optional: boots faster)" : "caisson guest build");
  auto manifest = read_manifest(image_folder(settings.guest_cache, name));
  return good(what, manifest ? fmt::format("{} from {}", manifest->kernel_release, manifest->source) : image->kernel);
}

CheckRow check_qemu(const sandbox::MicrovmConfig& settings) {
  auto program = find_qemu(settings);
  return program ? good("qemu", *program) : bad("qemu", program.error(), "apt-get install --no-install-recommends qemu-system-x86");
}

CheckRow check_user(const sandbox::MicrovmConfig& settings) {
  const JailUser user = find_jail_user(settings.user);
  if (user.exists) return good("jail user", fmt::format("{} ({})", settings.user, user.uid));
  return bad("jail user", make_error(ENOENT, "there is no user {}: virtual machines run as uid {} without a name", settings.user, user.uid),
             fmt::format("useradd --system --no-create-home --shell /usr/sbin/nologin {}", settings.user));
}

// One boot with everything as configured but for what is to be proved.
CheckRow check_boot(const sandbox::MicrovmConfig& settings, const std::string& what, const std::string& remedy,
                    std::chrono::seconds limit) {
  auto proof = prove_boot(settings, limit);
  if (!proof) return bad(what, proof.error(), remedy);
  return good(what, fmt::format("guest {} ready in {:.2f} s", proof->kernel_release, proof->seconds));
}

CheckRow check_kvm(const sandbox::MicrovmConfig& settings) {
  const std::string what = kKvmRow;
  const std::string remedy =
      "use a machine with virtualisation (or nested virtualisation) switched on, and load kvm_intel or kvm_amd; without KVM microvm runs "
      "by emulation, many times slower";
  if (access("/dev/kvm", R_OK | W_OK) != 0) return bad(what, errno_error("cannot open /dev/kvm"), remedy);
  sandbox::MicrovmConfig with_kvm = settings;
  with_kvm.accel = "kvm";
  return check_boot(with_kvm, what, remedy, kKvmLimit);
}

CheckRow check_share(const sandbox::MicrovmConfig& settings, const std::string& type, bool kvm) {
  sandbox::MicrovmConfig with_share = settings;
  with_share.share = type;
  with_share.accel = kvm ? "kvm" : "tcg";
  return check_boot(
      with_share, "share " + type,
      type == "9p" ? "optional: needs the tuned guest (caisson guest build --tuned)" : "apt-get install qemu-system-common (virtiofsd)",
      kTcgLimit);
}

CheckRow check_appkernel(const ProveAppkernel& prove, std::optional<bool>& ok) {
  const std::string remedy =
      "it needs root, Linux 5.12 or later on x86-64, and seccomp; caisson --isolation appkernel do -- true says more";
  if (!prove) return bad(kAppkernelRow, make_error(ENOTSUP, "not tried: a build with sanitizers cannot"), "");
  const Result<std::string> proved = prove();
  ok = proved.ok();
  return proved ? good(kAppkernelRow, *proved) : bad(kAppkernelRow, proved.error(), remedy);
}

std::string detail_of(const CheckReport& report, const char* what) {
  const auto row = std::find_if(report.rows.begin(), report.rows.end(), [&](const CheckRow& each) { return each.what == what; });
  return row == report.rows.end() ? "not tried" : row->detail;
}

void choose_isolation(CheckReport& report) {
  const Result<std::string> chosen = choose_auto(report);
  report.auto_isolation = chosen ? *chosen : "";
}

void remember(const CheckReport& report) {
  auto saved = remember_report(report);
  if (!saved) log::debug("cannot remember the check: {}", saved.error().message());
}

}  // namespace

Result<CheckReport> run_check(const sandbox::RuntimeConfig& config, bool progress, const ProveAppkernel& prove_appkernel) {
  const sandbox::MicrovmConfig& settings = config.microvm;
  Progress display(!progress);
  CheckReport report;
  auto add = [&](CheckRow row) {
    report.rows.push_back(std::move(row));
    return report.rows.back().ok;
  };
  display.step("making namespaces and cgroups");
  report.namespace_ok = add(check_namespaces());
  display.step("running a program under the application kernel");
  add(check_appkernel(prove_appkernel, report.appkernel_ok));
  add(check_cgroups());
  add(check_qemu(settings));
  add(check_user(settings));
  for (const char* name : {"stock", "tuned"}) add(check_image(settings, name));
  display.step("booting a guest with KVM");
  report.kvm_ok = add(check_kvm(settings));
  display.step("booting a guest by emulation");
  sandbox::MicrovmConfig emulated = settings;
  emulated.accel = "tcg";
  report.tcg_ok = add(check_boot(emulated, "microvm (qemu, tcg)", "see the rows above", kTcgLimit));
  for (const char* type : {"virtiofs", "9p"}) {
    display.step(fmt::format("booting a guest with files by {}", type));
    add(check_share(settings, type, report.kvm_ok));
  }
  choose_isolation(report);
  remember(report);
  return report;
}

namespace {

// What is remembered, or else the KVM proof, made now and remembered.
CheckReport kvm_report(const sandbox::RuntimeConfig& config, bool& made_now) {
  made_now = false;
  // Only what has looked at KVM counts.
  if (auto report = remembered_report(); report && (report->kvm_ok || detail_of(*report, kKvmRow) != "not tried")) return *report;
  made_now = true;
  CheckReport report;
  report.rows.push_back(check_kvm(config.microvm));
  report.kvm_ok = report.rows.back().ok;
  choose_isolation(report);
  // That something is not installed yet says nothing of KVM.
  if (report.kvm_ok || (find_qemu(config.microvm) && find_guest_image(config.microvm))) remember(report);
  return report;
}

}  // namespace

Result<std::string> resolve_auto(const sandbox::RuntimeConfig& config) {
  bool made_now = false;
  return choose_auto(kvm_report(config, made_now));
}

Result<std::string> choose_auto(const CheckReport& report) {
  if (report.kvm_ok) return std::string("microvm");
  Result<void> usable;
  if (report.appkernel_ok) {
    if (!*report.appkernel_ok) usable = make_error(ENOTSUP, "{}", detail_of(report, kAppkernelRow));
  } else {
    usable = check_appkernel_needs();
  }
  if (usable.ok()) return std::string("appkernel");
  // Not namespace: whoever asks for a sandbox must not get this node's kernel in silence.
  return make_error(ENOTSUP,
                    "isolation \"auto\" finds nothing that works on this node: no guest boots under KVM ({}), and the application kernel "
                    "does not run ({}); put one of them right ('caisson check' says what they need, and is to be run again then), or ask "
                    "for --isolation namespace, which shares this node's kernel",
                    detail_of(report, kKvmRow), usable.error().message());
}

void prove_accel(const sandbox::RuntimeConfig& config) {
  bool made_now = false;
  if (config.microvm.accel != "auto") return;
  const CheckReport report = kvm_report(config, made_now);
  if (made_now && !report.kvm_ok) log::info("guests run by emulation: {}", report.rows.back().detail);
}

}  // namespace caisson::microvm
