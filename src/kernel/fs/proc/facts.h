// What proc tells of a process, gathered in one go.
#pragma once

#include <sys/resource.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "kernel/fs/proc/proc.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

struct ProcFacts {
  pid_t pid = 0, tid = 0, parent = 0, pgid = 0, sid = 0;  // in the namespace of that proc
  std::vector<std::array<pid_t, 4>> deeper;               // pid, tid, pgid, sid in it and in each below it
  int terminal = 0;                                       // device number, 0: none
  pid_t foreground = -1;
  std::string name;
  char state = 'R';
  bool in_guest = false, zombie = false, stopped = false, dumpable = true;
  size_t threads = 1;
  abi::SigSet pending = 0, shared_pending = 0, blocked = 0, ignored = 0, caught = 0;
  ThreadGroup::Usage usage, children_usage;
  int64_t start_time = 0;
  Scheduling scheduling;
  uint32_t personality = 0;
  int nice = 0, oom_score_adj = 0, exit_status = 0, exit_signal = 0;
  std::array<rlimit, RLIM_NLIMITS> limits{};
  CredentialsRef creds;
  std::shared_ptr<const SeccompState> seccomp;  // null: none
  // Null where the process is a zombie.
  std::shared_ptr<AddressSpace> memory;
  std::shared_ptr<FdTable> fds;
  std::shared_ptr<FsContext> fs;
  NamespacesRef spaces;
  pid_t host_pid = 0, host_tid = 0;
};

// ESRCH: it has gone.
Result<ProcFacts> gather(Kernel& kernel, const ProcSubject& subject);
// The same, for what only the owner (and CAP_SYS_PTRACE) may see: EACCES.
Result<ProcFacts> gather_private(Task& reader, const ProcSubject& subject);

// Fields of the host's stat of a stub (proc(5)'s numbering from 1; 0 where it has none).
struct HostStat {
  char state = '?';
  std::array<uint64_t, 53> fields{};
};
std::optional<HostStat> read_host_stat(const ProcFacts& facts, bool whole_process);

// The letter of proc(5); host: the stub's stat, if any.
char proc_state(const ProcFacts& facts, const std::optional<HostStat>& host);

// The text of one file of a process's folder, by its name.
using ProcText = Result<std::string> (*)(Task& reader, const ProcSubject& subject);
Result<std::string> proc_stat(Task& reader, const ProcSubject& subject);
Result<std::string> proc_status(Task& reader, const ProcSubject& subject);
Result<std::string> proc_statm(Task& reader, const ProcSubject& subject);
Result<std::string> proc_limits(Task& reader, const ProcSubject& subject);
// Every page of [start, end) of the task's memory is mapped.
Result<bool> is_mapped(const Task& task, uint64_t start, uint64_t end);
Result<std::string> proc_maps(Task& reader, const ProcSubject& subject);
Result<std::string> proc_smaps(Task& reader, const ProcSubject& subject);
Result<std::string> proc_smaps_rollup(Task& reader, const ProcSubject& subject);
Result<std::string> proc_command_line(Task& reader, const ProcSubject& subject);
Result<std::string> proc_environment(Task& reader, const ProcSubject& subject);
Result<std::string> proc_auxiliary_vector(Task& reader, const ProcSubject& subject);
Result<std::string> proc_uid_map(Task& reader, const ProcSubject& subject);
Result<std::string> proc_gid_map(Task& reader, const ProcSubject& subject);
Result<void> proc_set_uid_map(Task& writer, const ProcSubject& subject, std::string_view text);
Result<void> proc_set_gid_map(Task& writer, const ProcSubject& subject, std::string_view text);
Result<std::string> proc_setgroups(Task& reader, const ProcSubject& subject);
Result<void> proc_set_setgroups(Task& writer, const ProcSubject& subject, std::string_view text);
Result<std::string> proc_mounts(Task& reader, const ProcSubject& subject);
Result<std::string> proc_mountinfo(Task& reader, const ProcSubject& subject);
// The two files that tell of changes (poll(2)): `text` is one of the functions before.
InodeRef make_mounts_file(std::shared_ptr<FileSystem> fs, uint64_t number, mode_t mode, const ProcSubject& subject, ProcText text);
Result<std::string> proc_mountstats(Task& reader, const ProcSubject& subject);

// A place as somebody with that root sees it; none: it cannot be reached from there.
std::optional<std::string> place_text(const Path& root, const Path& place);
// Where in its file system a mount begins. says_all: FileSystem::names_say_all.
std::string root_text(const DentryRef& root, bool says_all);

}  // namespace caisson::kernel
