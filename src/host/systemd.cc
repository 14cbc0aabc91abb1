#include "host/systemd.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "host/cgroup_files.h"

namespace caisson::host {
namespace {

constexpr const char* kSocket = "/run/systemd/private";  // systemd's own: needs no bus daemon
constexpr const char* kDestination = "org.freedesktop.systemd1";
constexpr const char* kPath = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
constexpr auto kStartTime = std::chrono::seconds(30);
constexpr auto kTellTime = std::chrono::seconds(5);
constexpr std::string_view kScope = ".scope";

struct Unit {
  std::string name, slice;
};

// The unit that a cgroup path names, "" for one that is not a scope in a slice.
std::optional<Unit> unit_of(const CgroupPaths& paths) {
  const std::vector<std::string_view> parts = split_fields(paths.path, '/');
  if (parts.empty() || !parts.back().ends_with(kScope) || parts.back().size() == kScope.size()) return std::nullopt;
  if (parts.size() == 1) return Unit{std::string(parts.back()), "-.slice"};
  if (!parts[parts.size() - 2].ends_with(".slice")) return std::nullopt;
  return Unit{std::string(parts.back()), std::string(parts[parts.size() - 2])};
}

Result<DbusConnection> connect_within(std::chrono::milliseconds time) {
  return DbusConnection::connect(kSocket, DbusConnection::Clock::now() + time);
}

Result<DbusMessage> ask(DbusConnection& connection, const char* member, const char* signature, const DbusWriter& body,
                        std::string* error_name = nullptr) {
  return connection.call(kDestination, kPath, kManager, member, signature, body.bytes(), error_name);
}

Result<Cloned> make_placeholder() {
  Cloned placeholder = TRY(clone_process(0));
  if (placeholder.pid != 0) return placeholder;
  // Our sockets must not seem open for its sake, and whatever ends us ends it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "caisson-scope");
  syscall(SYS_close_range, 0U, ~0U, 0U);
  for (;;) pause();
}

DbusProperties properties_of(const Unit& unit, pid_t pid) {
  DbusProperties properties;
  properties.text("Description", "Caisson container " + unit.name.substr(0, unit.name.size() - kScope.size()));
  properties.text("Slice", unit.slice);
  properties.boolean("DefaultDependencies", false);  // does not end before what it may need
  properties.boolean("Delegate", true);              // what is below is ours
  for (const char* name : {"MemoryAccounting", "CPUAccounting", "TasksAccounting", "IOAccounting"}) properties.boolean(name, true);
  properties.u64("TasksMax", UINT64_MAX);                // ours to set, not systemd's default
  properties.text("CollectMode", "inactive-or-failed");  // forgotten when it has ended, however
  properties.u32s("PIDs", {static_cast<uint32_t>(pid)});
  return properties;
}

Result<std::string> request_scope(DbusConnection& connection, const Unit& unit, pid_t pid) {
  DbusWriter body;
  body.text(unit.name);
  body.text("fail");
  properties_of(unit, pid).write(body);
  body.close_array(body.open_array(8));  // no further units
  for (int attempt = 0;; ++attempt) {
    std::string error;
    Result<DbusMessage> answer = ask(connection, "StartTransientUnit", "ssa(sv)a(sa(sv))", body, &error);
    if (answer.ok()) {
      const std::vector<std::string> values = answer->values();
      if (values.empty()) return make_error(EPROTO, "systemd names no job");
      return values.front();
    }
    if (attempt > 0 || !error.ends_with(".UnitExists")) return std::move(answer).error();
    // One that failed, and is still remembered.
    DbusWriter name;
    name.text(unit.name);
    (void)ask(connection, "ResetFailedUnit", "s", name);
  }
}

Result<void> wait_for_job(DbusConnection& connection, const std::string& job) {
  for (;;) {
    const DbusMessage signal = TRY(connection.next_signal());
    if (signal.member != "JobRemoved") continue;
    const std::vector<std::string> values = signal.values();  // number, job, unit, result
    if (values.size() != 4 || values[1] != job) continue;
    if (values[3] == "done") return {};
    return make_error(EIO, "the job ended as \"{}\"", values[3]);
  }
}

// "max" or a number of a file; nothing where it is absent.
void add_number(DbusProperties& properties, const std::string& folder, const char* file, const char* property) {
  if (const std::optional<uint64_t> value = read_cgroup_number(folder, file)) properties.u64(property, *value);
}

// "max 100000" or "50000 100000": microseconds in each period.
void add_quota(DbusProperties& properties, const std::string& folder) {
  Result<std::string> text = read_cgroup_file(folder, "cpu.max");
  if (!text.ok()) return;
  while (!text->empty() && text->back() == '\n') text->pop_back();
  const std::vector<std::string_view> fields = split_fields(*text, ' ');
  if (fields.size() != 2) return;
  const std::optional<uint64_t> quota = parse_cgroup_number(fields[0]), period = parse_cgroup_number(fields[1]);
  if (!quota || !period || *period == 0) return;
  constexpr uint64_t kSecond = 1000000;
  const bool none = *quota == UINT64_MAX || *quota > UINT64_MAX / kSecond;
  properties.u64("CPUQuotaPerSecUSec", none ? UINT64_MAX : *quota * kSecond / *period);
  properties.u64("CPUQuotaPeriodUSec", *period);
}

void add_list(DbusProperties& properties, const std::string& folder, const char* file, const char* property) {
  Result<std::string> text = read_cgroup_file(folder, file);
  if (!text.ok()) return;
  const std::vector<uint8_t> bits = bits_of_list(*text);
  if (!bits.empty()) properties.bytes(property, bits);
}

// "default 100", and lines of devices.
void add_io_weight(DbusProperties& properties, const std::string& folder) {
  const auto table = read_cgroup_table(folder, "io.weight");
  if (auto found = table.find("default"); found != table.end()) properties.u64("IOWeight", found->second);
}

}  // namespace

bool systemd_runs() { return geteuid() == 0 && access("/run/systemd/system", F_OK) == 0 && access(kSocket, F_OK) == 0; }

ScopeHolder& ScopeHolder::operator=(ScopeHolder&& other) {
  std::swap(process_, other.process_);
  return *this;
}

ScopeHolder::~ScopeHolder() {
  if (!process_.pidfd) return;
  (void)send_signal(process_.pidfd.get(), SIGKILL);
  siginfo_t info;
  while (waitid(P_PIDFD, static_cast<id_t>(process_.pidfd.get()), &info, WEXITED) != 0 && errno == EINTR) {
  }
}

Result<ScopeHolder> start_scope(const CgroupPaths& paths) {
  const std::optional<Unit> unit = unit_of(paths);
  if (!unit) return make_error(EINVAL, "{} is not the path of a scope in a slice", paths.path);
  ScopeHolder holder;
  holder.process_ = TRY(make_placeholder());
  auto make = [&]() -> Result<void> {
    DbusConnection connection = TRY(connect_within(kStartTime));
    return wait_for_job(connection, TRY(request_scope(connection, *unit, holder.pid())));
  };
  if (Result<void> made = make(); !made.ok()) return std::move(made).error().within(fmt::format("systemd does not make {}", unit->name));
  return holder;
}

bool is_systemd_scope(const CgroupPaths& paths) { return unit_of(paths) && systemd_runs(); }

void tell_systemd_limits(const CgroupPaths& paths) {
  const std::optional<Unit> unit = unit_of(paths);
  const auto folder = paths.folders.find("");
  if (!unit || paths.version != CgroupVersion::V2 || folder == paths.folders.end() || !systemd_runs()) return;
  const DbusProperties limits = limits_of(folder->second);
  if (limits.empty()) return;
  auto tell = [&]() -> Result<void> {
    DbusConnection connection = TRY(connect_within(kTellTime));
    DbusWriter body;
    body.text(unit->name);
    body.u32(1);  // b: for this run of the machine only
    limits.write(body);
    (void)TRY(ask(connection, "SetUnitProperties", "sba(sv)", body));
    return {};
  };
  if (Result<void> told = tell(); !told.ok())
    log::warning("systemd does not know the limits of {}, and may take them away when it reloads: {}", unit->name, told.error().message());
}

void forget_scope(const CgroupPaths& paths) {
  const std::optional<Unit> unit = unit_of(paths);
  if (!unit || !systemd_runs()) return;
  auto stop = [&]() -> Result<void> {
    DbusConnection connection = TRY(connect_within(kTellTime));
    DbusWriter body;
    body.text(unit->name);
    body.text("replace");
    std::string error;
    Result<DbusMessage> answer = ask(connection, "StopUnit", "ss", body, &error);
    if (error.ends_with(".NoSuchUnit")) return {};  // it has seen by itself that nothing is left
    if (!answer.ok()) return std::move(answer).error();
    return {};
  };
  if (Result<void> stopped = stop(); !stopped.ok()) log::debug("systemd keeps {}: {}", unit->name, stopped.error().message());
}

DbusProperties limits_of(const std::string& folder) {
  DbusProperties properties;
  add_number(properties, folder, "memory.max", "MemoryMax");
  add_number(properties, folder, "memory.high", "MemoryHigh");
  add_number(properties, folder, "memory.low", "MemoryLow");
  add_number(properties, folder, "memory.min", "MemoryMin");
  add_number(properties, folder, "memory.swap.max", "MemorySwapMax");
  add_number(properties, folder, "cpu.weight", "CPUWeight");
  add_quota(properties, folder);
  add_number(properties, folder, "pids.max", "TasksMax");
  add_io_weight(properties, folder);
  add_list(properties, folder, "cpuset.cpus", "AllowedCPUs");
  add_list(properties, folder, "cpuset.mems", "AllowedMemoryNodes");
  return properties;
}

std::vector<uint8_t> bits_of_list(std::string_view list) {
  constexpr uint64_t kMost = 1 << 13;  // NR_CPUS of the largest distribution kernels
  while (!list.empty() && list.back() == '\n') list.remove_suffix(1);
  std::vector<uint8_t> bits;
  for (const std::string_view part : split_fields(list, ',')) {
    const size_t dash = part.find('-');
    const std::optional<uint64_t> first = parse_cgroup_number(part.substr(0, dash));
    const std::optional<uint64_t> last = dash == std::string_view::npos ? first : parse_cgroup_number(part.substr(dash + 1));
    if (!first || !last || *first > *last || *last >= kMost) return {};
    for (uint64_t bit = *first; bit <= *last; ++bit) {
      if (bits.size() <= bit / 8) bits.resize(bit / 8 + 1);
      bits[bit / 8] |= static_cast<uint8_t>(1U << (bit % 8));
    }
  }
  return bits;
}

}  // namespace caisson::host
