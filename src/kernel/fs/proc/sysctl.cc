// /proc/sys: what programs ask for, one row each. Values that cannot be changed here are read-only; net is the host's own of the pod's
// network namespace.
#include <stdio.h>
#include <sys/random.h>

#include <charconv>

#include "kernel/event/watches.h"
#include "kernel/fs/proc/proc.h"
#include "kernel/ipc/limits.h"
#include "kernel/platform/host_proc.h"
#include "kernel/task/exec.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

struct FixedRow {
  const char *name, *text;
};

// The defaults of Linux 6.1.
constexpr FixedRow kFixed[] = {
    {"sys/debug/exception-trace", "0"},
    {"sys/fs/aio-max-nr", "65536"},
    {"sys/fs/aio-nr", "0"},
    {"sys/fs/epoll/max_user_watches", "1048576"},
    {"sys/fs/file-max", "9223372036854775807"},
    {"sys/fs/lease-break-time", "45"},
    {"sys/fs/leases-enable", "0"},
    {"sys/fs/mount-max", "100000"},
    {"sys/fs/nr_open", "1048576"},
    {"sys/fs/overflowgid", "65534"},
    {"sys/fs/overflowuid", "65534"},
    {"sys/fs/pipe-max-size", "1048576"},
    {"sys/fs/pipe-user-pages-hard", "0"},
    {"sys/fs/pipe-user-pages-soft", "16384"},
    {"sys/fs/protected_fifos", "0"},
    {"sys/fs/protected_hardlinks", "1"},
    {"sys/fs/protected_regular", "0"},
    {"sys/fs/protected_symlinks", "1"},
    {"sys/fs/suid_dumpable", "0"},
    {"sys/kernel/auto_msgmni", "0"},
    {"sys/kernel/cap_last_cap", "40"},
    {"sys/kernel/core_pattern", "core"},
    {"sys/kernel/core_pipe_limit", "0"},
    {"sys/kernel/core_uses_pid", "0"},
    {"sys/kernel/ctrl-alt-del", "0"},
    {"sys/kernel/dmesg_restrict", "1"},
    {"sys/kernel/hung_task_timeout_secs", "0"},
    {"sys/kernel/kptr_restrict", "1"},
    {"sys/kernel/ngroups_max", "65536"},
    {"sys/kernel/numa_balancing", "0"},
    {"sys/kernel/osrelease", kKernelRelease},
    {"sys/kernel/ostype", "Linux"},
    {"sys/kernel/overflowgid", "65534"},
    {"sys/kernel/overflowuid", "65534"},
    {"sys/kernel/panic", "0"},
    {"sys/kernel/panic_on_oops", "0"},
    {"sys/kernel/perf_event_paranoid", "3"},
    {"sys/kernel/pid_max", "4194304"},
    {"sys/kernel/printk", "4\t4\t1\t7"},
    {"sys/kernel/random/entropy_avail", "256"},
    {"sys/kernel/random/poolsize", "256"},
    {"sys/kernel/random/urandom_min_reseed_secs", "60"},
    {"sys/kernel/random/write_wakeup_threshold", "256"},
    {"sys/kernel/sched_autogroup_enabled", "0"},
    {"sys/kernel/sched_child_runs_first", "0"},
    {"sys/kernel/sched_rr_timeslice_ms", "100"},
    {"sys/kernel/sched_rt_period_us", "1000000"},
    {"sys/kernel/sched_rt_runtime_us", "950000"},
    {"sys/kernel/seccomp/actions_avail", "kill_process kill_thread trap errno user_notif trace log allow"},
    {"sys/kernel/shm_next_id", "-1"},
    {"sys/kernel/sysrq", "0"},
    {"sys/kernel/tainted", "0"},
    {"sys/kernel/threads-max", "32768"},
    {"sys/kernel/version", kKernelVersion},
    {"sys/kernel/watchdog", "0"},
    {"sys/vm/dirty_background_ratio", "10"},
    {"sys/vm/dirty_ratio", "20"},
    {"sys/vm/drop_caches", "0"},
    {"sys/vm/legacy_va_layout", "0"},
    {"sys/vm/min_free_kbytes", "45056"},
    {"sys/vm/mmap_min_addr", "65536"},
    {"sys/vm/nr_hugepages", "0"},
    {"sys/vm/nr_overcommit_hugepages", "0"},
    {"sys/vm/oom_dump_tasks", "1"},
    {"sys/vm/oom_kill_allocating_task", "0"},
    {"sys/vm/overcommit_kbytes", "0"},
    {"sys/vm/page-cluster", "3"},
    {"sys/vm/panic_on_oom", "0"},
    {"sys/vm/swappiness", "60"},
    {"sys/vm/vfs_cache_pressure", "100"},
    {"sys/vm/zone_reclaim_mode", "0"},
};

// What the host does with the memory of stubs is what counts. Its defaults where it cannot be asked.
constexpr FixedRow kOfTheHost[] = {
    {"sys/vm/max_map_count", "65530\n"}, {"sys/vm/overcommit_memory", "0\n"}, {"sys/vm/overcommit_ratio", "50\n"}};

TextInode::Read host_setting(const FixedRow& row) {
  return [&row](Task&) -> Result<std::string> {
    Result<std::string> text = read_host_proc(row.name);
    return text ? *std::move(text) : row.text;
  };
}

// 0, 1 or 2, for programs that begin from now on; who administers the sandbox decides.
Result<void> set_randomisation(Task& task, std::string_view text) {
  int value = -1;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || value < 0 || value > 2) return Errno(EINVAL);
  if (!task.creds->has(kCapSysAdmin)) return Errno(EPERM);
  address_randomisation() = value;
  return {};
}

std::string random_uuid() {
  unsigned char bytes[16] = {};
  [[maybe_unused]] const ssize_t ignored = getrandom(bytes, sizeof bytes, 0);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;  // version 4, RFC 4122
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  std::string text;
  for (size_t i = 0; i < sizeof bytes; ++i)
    append_format(text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", static_cast<unsigned>(bytes[i]));
  return text + "\n";
}

Result<void> set_host_name(Task& task, std::string_view text) {
  if (!task.creds->has_in(*task.spaces->uts->owner, kCapSysAdmin)) return Errno(EPERM);
  const std::string name(text.substr(0, text.find('\n')));
  if (name.size() > 64) return Errno(EINVAL);
  task.spaces->uts->set_host(name);
  return {};
}

Result<void> set_domain_name(Task& task, std::string_view text) {
  if (!task.creds->has_in(*task.spaces->uts->owner, kCapSysAdmin)) return Errno(EPERM);
  const std::string name(text.substr(0, text.find('\n')));
  if (name.size() > 64) return Errno(EINVAL);
  task.spaces->uts->set_domain(name);
  return {};
}

// Those of the reader's IPC namespace. To be set by the root user of its user namespace, whatever its capabilities are, as under Linux.
void add_ipc_files(TreeBuilder& tree) {
  for (const IpcSetting& row : ipc_settings())
    tree.file(
        std::string("sys/") + row.path, [&row](Task& task) -> Result<std::string> { return ipc_setting_text(*task.spaces->ipc, row); },
        0644,
        [&row](Task& task, std::string_view text) -> Result<void> {
          IpcNamespace& space = *task.spaces->ipc;
          if (task.creds->euid != space.owner->to_kernel(UserNamespace::Ids::Users, 0)) return Errno(EPERM);
          return set_ipc_setting(space, row, text);
        });
}

}  // namespace

void add_sysctl_files(TreeBuilder& tree) {
  for (const FixedRow& row : kFixed) tree.text(row.name, std::string(row.text) + "\n");
  add_ipc_files(tree);
  tree.file(
      "sys/kernel/hostname", [](Task& task) -> Result<std::string> { return task.spaces->uts->host() + "\n"; }, 0644, set_host_name);
  tree.file(
      "sys/kernel/domainname", [](Task& task) -> Result<std::string> { return task.spaces->uts->domain() + "\n"; }, 0644, set_domain_name);
  tree.file(
      "sys/kernel/randomize_va_space", [](Task&) -> Result<std::string> { return std::to_string(address_randomisation()) + "\n"; }, 0644,
      set_randomisation);
  for (const FixedRow& row : kOfTheHost) tree.file(row.name, host_setting(row));
  tree.file("sys/kernel/random/uuid", [](Task&) -> Result<std::string> { return random_uuid(); });
  // One for the life of the sandbox: it is what has been "booted".
  static const std::string boot_id = random_uuid();
  tree.text("sys/kernel/random/boot_id", boot_id);
  tree.text("sys/fs/inotify/max_queued_events", std::to_string(kMostQueuedEvents) + "\n");
  tree.text("sys/fs/inotify/max_user_instances", std::to_string(kMostUserInstances) + "\n");
  tree.text("sys/fs/inotify/max_user_watches", std::to_string(kMostUserWatches) + "\n");
  tree.text("sys/fs/file-nr", "1024\t0\t9223372036854775807\n");
  (void)tree.folder("sys/fs/binfmt_misc");
  (void)tree.folder("sys/user");
  tree.add("sys/net", make_network_settings(tree.fs(), tree.number()));
}

}  // namespace caisson::kernel
