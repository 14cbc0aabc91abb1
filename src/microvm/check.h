// `caisson check`: can this node run each isolation? Proved by doing it, remembered for `auto`.
#pragma once

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
  std::string auto_isolation;  // what `auto` takes from now on
};

// Boots guests; takes seconds. Saves the report to kCheckCache.
Result<CheckReport> run_check(const sandbox::RuntimeConfig& config, bool progress);
inline constexpr const char* kCheckCache = "/var/lib/caisson/check.json";

// What `auto` means here: the remembered report if it was made by this version on this boot of this kernel, else a KVM boot proof made now
// if /dev/kvm opens (bounded to 10 s) and remembered. "microvm" only where a guest booted under KVM, else "namespace" (until appkernel
// exists) with a warning that this is the node's own kernel.
Result<std::string> resolve_auto(const sandbox::RuntimeConfig& config);
// For `microvm` with accel "auto": makes the proof that choose_platform goes by (remembered_kvm), unless one is remembered; bounded to 10
// s. Before a sandbox is started, since it blocks.
void prove_accel(const sandbox::RuntimeConfig& config);
std::string report_to_json(const CheckReport& report);

}  // namespace caisson::microvm
