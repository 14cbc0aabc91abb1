#include "kernel/fs/proc/facts.h"

#include <stdlib.h>
#include <sys/sysmacros.h>

#include "kernel/fs/host/identity.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/stub/layout.h"
#include "kernel/task/kernel.h"
#include "kernel/tty/terminal.h"

namespace caisson::kernel {
namespace {

void gather_group_locked(const ThreadGroup& group, const PidNamespace& pids, ProcFacts& facts) {
  facts.pid = group.id->in(pids);
  const auto parent = group.parent.lock();
  facts.parent = parent ? number_in(parent->id, pids) : 0;
  facts.pgid = number_in(group.pgid, pids);
  facts.sid = number_in(group.sid, pids);
  if (group.terminal) {
    facts.terminal = static_cast<int>(makedev(136, static_cast<unsigned>(group.terminal->index)));
    facts.foreground = number_in(group.terminal->foreground_locked(), pids);
  }
  facts.zombie = group.zombie;
  facts.stopped = group.stopped;
  facts.dumpable = group.dumpable;
  facts.threads = group.tasks.size();
  facts.shared_pending = group.pending.set();
  facts.usage = group.usage;
  facts.children_usage = group.children_usage;
  facts.start_time = group.start_time;
  facts.nice = group.nice;
  facts.oom_score_adj = group.oom_score_adj;
  facts.exit_signal = group.exit_signal;
  facts.exit_status = group.zombie ? group.exit.encoded() : 0;
  for (int signal = 1; signal <= abi::kSignals; ++signal) {
    const uint64_t handler = group.handlers->get(signal).handler;
    if (handler == 1) facts.ignored |= abi::sig_bit(signal);
    if (handler > 1) facts.caught |= abi::sig_bit(signal);
  }
}

// NSpid and its like: the numbers in the namespace of that proc and in those below it that the process has.
void gather_deeper_locked(const ThreadGroup& group, const PidNamespace& pids, const TaskId& task, ProcFacts& facts) {
  for (const PidNamespace* at = group.pids.get(); at != nullptr; at = at->parent.get()) {
    facts.deeper.insert(facts.deeper.begin(), {group.id->in(*at), task.in(*at), number_in(group.pgid, *at), number_in(group.sid, *at)});
    if (at == &pids) break;
  }
}

void gather_task_locked(const Task& task, ProcFacts& facts) {
  facts.name = task.name;
  facts.scheduling = task.scheduling;
  facts.personality = task.personality;
  facts.in_guest = task.in_guest;
  facts.state = *task.state.load();
  facts.pending = task.pending.set();
  facts.blocked = task.blocked;
  facts.creds = task.creds;
  facts.seccomp = task.seccomp.get();
  facts.memory = task.memory;
  facts.fds = task.fds;
  facts.fs = task.fs;
  facts.spaces = task.spaces;
  if (!task.stub) return;
  facts.host_pid = task.stub->process()->pid();
  facts.host_tid = task.stub->host_tid();
}

}  // namespace

Result<ProcFacts> gather(Kernel& kernel, const ProcSubject& subject) {
  ProcFacts facts;
  const std::shared_ptr<ThreadGroup> group = subject.group.lock();
  if (!group) return Errno(ESRCH);
  {
    std::lock_guard guard(kernel.tasks);
    const PidNamespace& pids = *subject.pids;
    const pid_t pid = group->id->in(pids);
    const auto listed = pids.groups.find(pid);
    if (listed == pids.groups.end() || listed->second != group) return Errno(ESRCH);
    const Task* task = group->leader;
    if (subject.tid != 0) {
      const auto found = pids.tasks.find(subject.tid);
      if (found == pids.tasks.end() || found->second->group != group) {
        if (!group->zombie || subject.tid != pid) return Errno(ESRCH);
        task = nullptr;
      } else {
        task = found->second;
      }
    } else if (task == nullptr && !group->tasks.empty()) {
      task = group->tasks.front();
    }
    gather_group_locked(*group, pids, facts);
    facts.tid = subject.tid != 0 ? subject.tid : pid;
    gather_deeper_locked(*group, pids, task != nullptr ? *task->id : *group->id, facts);
    if (task != nullptr) gather_task_locked(*task, facts);
    if (!facts.creds) {
      auto creds = std::make_shared<Credentials>();
      creds->uid = creds->euid = creds->suid = creds->fsuid = group->last_uid;
      facts.creds = creds;
      facts.name = "(gone)";
    }
  }
  facts.limits = [&] {
    std::lock_guard guard(group->limits_lock);
    return group->limits;
  }();
  if (facts.zombie)
    facts.state = 'Z';
  else if (facts.stopped)
    facts.state = 'T';
  return facts;
}

Result<ProcFacts> gather_private(Task& reader, const ProcSubject& subject) {
  ProcFacts facts = TRY(gather(reader.kernel, subject));
  // Who may know it is found out here; the host, which knows of no guest's users, is then asked in the kernel's own name.
  act_as_kernel();
  if (reader.group == subject.group.lock()) return facts;
  const Credentials &ours = *reader.creds, &theirs = *facts.creds;
  if (ours.has_in(*theirs.user, kCapSysPtrace)) return facts;
  const bool same = ours.fsuid == theirs.euid && ours.fsuid == theirs.suid && ours.fsuid == theirs.uid && ours.fsgid == theirs.egid &&
                    ours.fsgid == theirs.sgid && ours.fsgid == theirs.gid;
  if (!same || !facts.dumpable) return Errno(EACCES);
  return facts;
}

std::optional<HostStat> read_host_stat(const ProcFacts& facts, bool whole_process) {
  if (facts.host_pid == 0) return std::nullopt;
  const std::string pid = std::to_string(facts.host_pid);
  const std::string path = whole_process ? pid + "/stat" : pid + "/task/" + std::to_string(facts.host_tid) + "/stat";
  const Result<std::string> text = read_host_proc(path.c_str());
  if (!text) return std::nullopt;
  const size_t close = text->rfind(')');
  if (close == text->npos || close + 2 >= text->size()) return std::nullopt;
  HostStat stat;
  stat.state = (*text)[close + 2];
  const char* at = text->c_str() + close + 3;
  for (size_t field = 4; field < stat.fields.size(); ++field) {
    char* end = nullptr;
    stat.fields[field] = strtoull(at, &end, 10);
    if (end == at) break;
    at = end;
  }
  return stat;
}

std::optional<std::string> place_text(const Path& root, const Path& place) {
  std::string text;
  Path at = place;
  while (!(at == root)) {
    if (!at || !at.mount || text.size() > 65536) return std::nullopt;
    if (at.dentry == at.mount->root) {
      const Path point = at.mount->point();
      if (!point) return std::nullopt;
      at = point;
      continue;
    }
    text = "/" + at.dentry->name() + text;
    at.dentry = at.dentry->parent();
  }
  return text.empty() ? "/" : text;
}

}  // namespace caisson::kernel
