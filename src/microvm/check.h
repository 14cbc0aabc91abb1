// `caisson check`: can this node run each isolation? Proved by doing it, remembered for `auto`.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sandbox/config.h"

namespace caisson::microvm {

struct CheckRow {
  std::string what;  // "namespace", "microvm (qemu, kvm)", "microvm (qemu, tcg)", "guest image stock", "share virtiofs", ...
  bool ok = false;
  bool required = false;  // false: informative
  std::string detail;     // what was proved, with figures ("guest 6.1.0-53-cloud-amd64 ready in 2.1 s")
  std::string remedy;     // what to do where it is not ok
};
struct CheckReport {
  std::vector<CheckRow> rows;
  bool namespace_ok = false;
  bool kvm_ok = false;  // a guest booted under KVM
  bool tcg_ok = false;
  std::optional<bool> appkernel_ok;  // a program ran under the application kernel; nothing: not tried
  std::string auto_isolation;        // what `auto` takes from now on; empty: nothing works
};

// Runs a program under the application kernel: what it found, for people. Empty: this build of Caisson cannot (sanitizers).
using ProveAppkernel = std::function<Result<std::string>()>;

// Boots guests; takes seconds. Saves the report to kCheckCache.
Result<CheckReport> run_check(const sandbox::RuntimeConfig& config, bool progress, const ProveAppkernel& prove_appkernel);
inline constexpr const char* kCheckCache = "/var/lib/caisson/check.json";

// What `auto` means here: "microvm" where a guest has booted under KVM, else "appkernel", never the node's own kernel. By the remembered
// report if it was made by this version on this boot of this kernel; else by a KVM boot proof made now, if /dev/kvm opens (bounded to 30 s,
// remembered), and by what the application kernel needs. ENOTSUP: neither works; why, and what to do.
Result<std::string> resolve_auto(const sandbox::RuntimeConfig& config);
// For `microvm` with accel "auto": makes the proof that choose_platform goes by (remembered_kvm), unless one is remembered; bounded to 30
// s. Before a sandbox is started, since it blocks.
void prove_accel(const sandbox::RuntimeConfig& config);
// The same of a report; its own auto_isolation, which another build may have written, does not count.
Result<std::string> choose_auto(const CheckReport& report);
std::string report_to_json(const CheckReport& report);

}  // namespace caisson::microvm
