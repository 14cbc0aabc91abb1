// What proc tells of the machine: the host's own numbers where they are true of it (CPUs, memory, time) and the container has no limit,
// nothing of other containers.
#include <inttypes.h>
#include <stdio.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/text.h"
#include "kernel/fs/proc/facts.h"
#include "kernel/fs/registry.h"
#include "kernel/ipc/listing.h"
#include "kernel/limits.h"
#include "kernel/platform/host_proc.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/locks.h"

namespace caisson::kernel {
namespace {

// The host's file, as it is.
TextInode::Read host_file(const char* path) {
  return [path](Task&) -> Result<std::string> { return read_host_proc(path); };
}

// With a limit: what is true of the container.
Result<std::string> read_memory_info(Task& task) {
  const CgroupLimits limits = cgroup_limits();
  return limits_memory(limits) ? Result<std::string>(limited_meminfo(task, limits)) : read_host_proc("meminfo");
}
Result<std::string> read_cpu_info(Task&) { return limited_cpuinfo(TRY(read_host_proc("cpuinfo"))); }

// vmstat(8) looks for these; the node's paging is nobody's business inside.
Result<std::string> read_vm_statistics(Task& task) {
  const CgroupLimits limits = cgroup_limits();
  if (!limits_memory(limits)) return read_host_proc("vmstat");
  std::string text;
  append_format(text, "nr_free_pages %" PRIu64 "\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\noom_kill 0\n",
                memory_left(task, limits.memory) / 4096);
  return text;
}

// Whether a line of /proc/stat is about a CPU that the quota hides.
bool is_hidden_cpu(const std::string& line, const std::vector<int>& visible) {
  int number = 0;
  // "cpu  1234..." is about all of them.
  return line.size() > 3 && line[3] != ' ' && sscanf(line.c_str(), "cpu%d ", &number) == 1 &&
         std::find(visible.begin(), visible.end(), number) == visible.end();
}

// /proc/stat: CPU times are the host's; what counts the node's processes is the container's.
Result<std::string> read_stat(Task& task) {
  const std::string host = TRY(read_host_proc("stat"));
  const std::vector<int> visible = visible_cpus();
  size_t running = 0, total = 0;
  {
    std::lock_guard guard(task.kernel.tasks);
    for (const auto& [tid, each] : task.group->pids->tasks) {
      ++total;
      running += each->in_guest || *each->state.load() == 'R';
    }
  }
  std::string text;
  for (const std::string_view field : split_fields(host, '\n')) {
    const std::string line(field);
    if (line.starts_with("processes "))
      append_format(text, "processes %zu\n", total);
    else if (line.starts_with("procs_running "))
      append_format(text, "procs_running %zu\n", running);
    else if (line.starts_with("procs_blocked "))
      text += "procs_blocked 0\n";
    else if (line.starts_with("intr "))
      text += "intr 0\n";
    else if (!is_hidden_cpu(line, visible))
      text += line + "\n";
  }
  return text;
}

Result<std::string> read_load(Task& task) {
  const std::string host = TRY(read_host_proc("loadavg"));
  double one = 0, five = 0, fifteen = 0;
  sscanf(host.c_str(), "%lf %lf %lf", &one, &five, &fifteen);
  size_t running = 0, total = 0;
  pid_t last = 0;
  {
    std::lock_guard guard(task.kernel.tasks);
    for (const auto& [tid, each] : task.group->pids->tasks) {
      ++total;
      running += each->in_guest || *each->state.load() == 'R';
      last = std::max(last, tid);
    }
  }
  std::string text;
  append_format(text, "%.2f %.2f %.2f %zu/%zu %d\n", one, five, fifteen, running, total, last);
  return text;
}

Result<std::string> read_version(Task&) {
  return std::string("Linux version ") + kKernelRelease + " (caisson@caisson) (application kernel) " + kKernelVersion + "\n";
}

// self and thread-self; ENOENT for who has no number in that proc's namespace.
Result<std::string> own_pid(Task& task, const PidNamespace& pids) {
  const pid_t pid = number_in(task.group->id, pids);
  return pid == 0 ? Result<std::string>(Errno(ENOENT)) : std::to_string(pid);
}
Result<std::string> own_thread(Task& task, const PidNamespace& pids) {
  return TRY(own_pid(task, pids)) + "/task/" + std::to_string(task.id->in(pids));
}

Result<std::string> read_file_systems(Task&) { return file_system_types(); }

Result<std::string> read_swaps(Task&) { return std::string("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"); }

Result<std::string> read_tty_drivers(Task&) {
  return std::string(
      "/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
      "/dev/console         /dev/console    5       1 system:console\n"
      "/dev/ptmx            /dev/ptmx       5       2 system\n"
      "pty_slave            /dev/pts      136 0-1048575 pty:slave\n"
      "pty_master           /dev/ptm      128 0-1048575 pty:master\n");
}

Result<std::string> read_devices(Task&) {
  return std::string("Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n128 ptm\n136 pts\n\nBlock devices:\n");
}

}  // namespace

void add_global_files(TreeBuilder& tree, std::shared_ptr<const PidNamespace> pids) {
  const auto link = [&](const char* name, TextInode::Read target) {
    tree.add(name, std::make_shared<LinkInode>(tree.fs(), tree.number(), target));
  };
  link("self", [pids](Task& task) { return own_pid(task, *pids); });
  link("thread-self", [pids](Task& task) { return own_thread(task, *pids); });
  tree.link("mounts", "self/mounts");
  tree.link("net", "self/net");
  tree.file("cpuinfo", read_cpu_info);
  tree.file("meminfo", read_memory_info);
  tree.file("vmstat", read_vm_statistics);
  tree.file("uptime", host_file("uptime"));
  // The node's own, and no container's business.
  for (const char* name : {"zoneinfo", "buddyinfo", "softirqs", "interrupts"}) tree.text(name, "");
  for (const char* name : {"pressure/cpu", "pressure/io", "pressure/memory"}) tree.file(name, host_file(name));
  tree.file("stat", read_stat);
  tree.file("loadavg", read_load);
  tree.file("version", read_version);
  tree.file("filesystems", read_file_systems);
  tree.file("swaps", read_swaps);
  tree.file("devices", read_devices);
  tree.file("tty/drivers", read_tty_drivers);
  tree.text("cmdline", "BOOT_IMAGE=/caisson console=ttyS0\n");
  // Hierarchy 0: the controllers are version 2's (how JVMs tell).
  tree.text(
      "cgroups",
      "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\ncpu\t0\t1\t1\ncpuacct\t0\t1\t1\nmemory\t0\t1\t1\npids\t0\t1\t1\n");
  tree.text("consoles", "");
  tree.text("crypto", "");
  tree.text("diskstats", "");
  tree.text("execdomains", "0-0\tLinux           \t[kernel]\n");
  tree.text("fb", "");
  tree.text("key-users", "");
  tree.text("keys", "");
  tree.file("sysvipc/msg", list_message_queues);
  tree.file("sysvipc/sem", list_semaphores);
  tree.file("sysvipc/shm", list_shared_memory);
  tree.file("locks", [](Task&) -> Result<std::string> { return lock_table_text(); });
  tree.text("misc", "");
  tree.text("modules", "");
  tree.text("partitions", "major minor  #blocks  name\n\n");
  tree.text("sysvipc/msg",
            "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n");
  tree.text("sysvipc/sem", "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
  tree.text("sysvipc/shm",
            "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime "
            "          "
            "        rss                  swap\n");
  for (const char* name : {"bus", "driver", "fs", "irq"}) (void)tree.folder(name);
}

}  // namespace caisson::kernel
