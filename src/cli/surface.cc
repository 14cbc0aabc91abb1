// surface: what each wall lets through, printed from the rows that the filters are made of.
#include <linux/capability.h>
#include <seccomp.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/command.h"
#include "kernel/platform/filter.h"
#include "kernel/platform/host_rows.h"
#include "microvm/jail/syscalls.h"

namespace caisson::cli {
namespace {

enum class Verdict { Allowed, Refused, Killed };

struct SurfaceRow {
  std::string call, condition, reason;
  Verdict verdict = Verdict::Allowed;
};
struct Surface {
  std::string name;       // of one process, for programs
  std::string title;      // for people
  std::string otherwise;  // what becomes of a call that is not listed
  std::vector<SurfaceRow> rows;
  std::vector<kernel::CapabilityRow> capabilities;
  std::string where;  // they count
};

std::string capability_names(uint64_t set) {
  std::set<std::string> names;
  for (const auto* rows : {&kernel::host_capabilities(), &kernel::broker_capabilities()})
    for (const kernel::CapabilityRow& row : *rows)
      if ((set >> row.number & 1) != 0) names.insert(row.name);
  return fmt::format("{}", fmt::join(names, " or "));
}

std::vector<SurfaceRow> rows_of(const std::vector<kernel::CallRow>& calls) {
  std::vector<SurfaceRow> rows;
  for (const kernel::CallRow& call : calls) {
    SurfaceRow row{call.name, kernel::condition_of(call), call.reason};
    if (call.guest_capabilities != 0)
      row.condition += fmt::format("{}if the guest has {}", row.condition.empty() ? "" : "; ", capability_names(call.guest_capabilities));
    if (call.effect == kernel::CallEffect::Kill) row.verdict = Verdict::Killed;
    if (call.effect == kernel::CallEffect::NotThere || call.effect == kernel::CallEffect::Denied) row.verdict = Verdict::Refused;
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<SurfaceRow> rows_of(const microvm::SyscallTable& table) {
  std::vector<SurfaceRow> rows;
  for (const microvm::SyscallRow& entry : table) {
    const std::unique_ptr<char, void (*)(void*)> name(seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, entry.number), std::free);
    SurfaceRow row{name ? name.get() : std::to_string(entry.number), "", std::string(entry.reason)};
    if (entry.rule == microvm::SyscallRule::ThreadsOnly) row.condition = "CLONE_THREAD";
    if (entry.rule == microvm::SyscallRule::OwnFolderOnly) row.condition = "CLONE_FS alone";
    if (entry.rule == microvm::SyscallRule::Kill) row.verdict = Verdict::Killed;
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<Surface> all_surfaces() {
  return {
      {"appkernel-guest",
       "appkernel: guest code in a stub process, natively",
       "goes to the application kernel",
       rows_of(kernel::native_calls()),
       {},
       ""},
      {"appkernel-blob",
       "appkernel: Caisson's own code in a stub process (a guest can jump into it)",
       "ends the stub",
       rows_of(kernel::blob_calls()),
       {},
       ""},
      {"appkernel-kernel", "appkernel: the kernel process", "fails with EPERM, logged once for each call", rows_of(kernel::host_calls()),
       kernel::host_capabilities(), "in a user namespace of its own where that can be had"},
      {"appkernel-broker", "appkernel: the network broker, which opens raw sockets and binds low ports for the kernel process", "ends it",
       rows_of(kernel::broker_calls()), kernel::broker_capabilities(), "in the user namespace that owns the pod's network"},
      {"appkernel-room", "appkernel: a room, which opens the sockets of a network namespace that a guest has made", "ends it",
       rows_of(kernel::room_calls()), kernel::room_capabilities(), "in a user namespace of the rooms' own"},
      {"appkernel-rooms", "appkernel: the maker of rooms", "ends it", rows_of(kernel::room_maker_calls()),
       kernel::room_maker_capabilities(), "in a user namespace of the rooms' own"},
      {"appkernel-exec", "appkernel: the process that stands for an exec", "fails with EPERM", rows_of(kernel::exec_calls()), {}, ""},
      {"appkernel-answer",
       "appkernel: the worker that reads what a kernel process says of its processes",
       "fails with EPERM",
       rows_of(kernel::answer_calls()),
       {},
       ""},
      {"microvm-qemu",
       "microvm: QEMU, with every duty that it can have",
       "fails with ENOSYS",
       rows_of(microvm::qemu_syscalls({.kvm = true, .files = true, .network = true})),
       {},
       ""},
      {"microvm-virtiofsd", "microvm: virtiofsd", "fails with ENOSYS", rows_of(microvm::virtiofsd_syscalls()), {}, ""},
  };
}

// How many calls, not rows: several rows may be about one call.
size_t count(const Surface& surface, Verdict verdict) {
  std::set<std::string> names;
  for (const SurfaceRow& row : surface.rows)
    if (row.verdict == verdict) names.insert(row.call);
  return names.size();
}

void print_rows(const Surface& surface, Verdict verdict, const char* heading) {
  if (count(surface, verdict) == 0) return;
  std::puts(fmt::format("  {} {}:", count(surface, verdict), heading).c_str());
  for (const SurfaceRow& row : surface.rows) {
    if (row.verdict != verdict) continue;
    const std::string condition = row.condition.empty() ? "" : "[" + row.condition + "] ";
    std::puts(fmt::format("    {:<20} {}{}", row.call, condition, row.reason).c_str());
  }
}

void print(const Surface& surface) {
  std::puts(fmt::format("{} ({})", surface.title, surface.name).c_str());
  print_rows(surface, Verdict::Allowed, "calls of the host are allowed");
  print_rows(surface, Verdict::Refused, "are refused");
  print_rows(surface, Verdict::Killed, "end the process at once");
  if (!surface.capabilities.empty()) {
    std::puts(fmt::format("  {} capabilities, {}:", surface.capabilities.size(), surface.where).c_str());
    for (const kernel::CapabilityRow& row : surface.capabilities)
      std::puts(fmt::format("    {:<20} {}{}", row.name, row.if_guest_has ? "[if the guest has it] " : "", row.reason).c_str());
  }
  std::puts(fmt::format("  Any other call {}.\n", surface.otherwise).c_str());
}

nlohmann::ordered_json to_json(const Surface& surface) {
  constexpr const char* kVerdicts[] = {"allowed", "refused", "killed"};
  nlohmann::ordered_json json{{"name", surface.name}, {"title", surface.title}};
  for (Verdict verdict : {Verdict::Allowed, Verdict::Refused, Verdict::Killed})
    json[kVerdicts[static_cast<int>(verdict)]] = count(surface, verdict);
  json["otherwise"] = surface.otherwise;
  json["calls"] = nlohmann::ordered_json::array();
  for (const SurfaceRow& row : surface.rows)
    json["calls"].push_back(
        {{"call", row.call}, {"verdict", kVerdicts[static_cast<int>(row.verdict)]}, {"condition", row.condition}, {"reason", row.reason}});
  json["capabilities"] = nlohmann::ordered_json::array();
  for (const kernel::CapabilityRow& row : surface.capabilities)
    json["capabilities"].push_back({{"capability", row.name}, {"onlyIfGuestHasIt", row.if_guest_has}, {"reason", row.reason}});
  return json;
}

}  // namespace

Result<int> surface_command(Context& context) {
  bool json = false;
  context.arguments.flag("--json", json, "Print the lists as JSON");
  context.arguments.footer("The filters are made of the same rows. What they are worth is in docs/security.md.");
  TRY(context.parse());
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Surface& surface : all_surfaces()) {
    if (json)
      all.push_back(to_json(surface));
    else
      print(surface);
  }
  if (json) std::puts(all.dump(2).c_str());
  return 0;
}

}  // namespace caisson::cli
