#include "kernel/control/observe.h"

#include <inttypes.h>
#include <stdio.h>

#include "kernel.pb.h"
#include "kernel/fs/common/text.h"
#include "kernel/fs/proc/facts.h"
#include "kernel/fs/registry.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/syscalls/table.h"

namespace caisson::kernel {
namespace {

constexpr int64_t kTick = 10'000'000;  // nanoseconds of USER_HZ 100
constexpr size_t kMostFrames = 32;
constexpr uint64_t kMostFrame = 1 << 20;

struct Mapping {
  uint64_t start = 0, end = 0, offset = 0;
  bool executable = false;
  std::string name;
};

std::vector<Mapping> parse_maps(const std::string& text) {
  std::vector<Mapping> mappings;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    Mapping mapping;
    char rights[8] = {};
    int name = 0;
    if (sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %n", &mapping.start, &mapping.end, rights, &mapping.offset,
               &name) < 4)
      continue;
    mapping.executable = rights[2] == 'x';
    if (name > 0 && static_cast<size_t>(name) < line.size()) mapping.name = line.substr(static_cast<size_t>(name));
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

const Mapping* mapping_of(const std::vector<Mapping>& mappings, uint64_t address) {
  for (const Mapping& mapping : mappings)
    if (address >= mapping.start && address < mapping.end) return &mapping;
  return nullptr;
}

// "/bin/sh+0x1234": where addr2line(1) finds it.
std::string place_of(const std::vector<Mapping>& mappings, uint64_t address) {
  const Mapping* mapping = mapping_of(mappings, address);
  std::string text;
  if (mapping == nullptr || mapping->name.empty()) return text;
  append_format(text, "%s+%#" PRIx64, mapping->name.c_str(), address - mapping->start + mapping->offset);
  return text;
}

// A thread, as it was at one moment.
struct Seen {
  pid_t tid = 0, host_tid = 0;
  std::string name;
  char state = '?';
  bool in_guest = false;
  int call = -1;
  int64_t asleep = 0;
  uint64_t ip = 0, bp = 0;
  std::array<uint64_t, 6> arguments{};
};

Seen look_locked(const Task& task) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  Seen seen{.tid = task.tid, .host_tid = task.host_tid(), .name = task.name, .state = *task.state.load(), .in_guest = task.in_guest};
  seen.call = task.doing.call.load(kRelaxed);
  seen.asleep = task.doing.asleep.load(std::memory_order_acquire);
  seen.ip = task.doing.ip.load(kRelaxed);
  seen.bp = task.doing.bp.load(kRelaxed);
  for (size_t i = 0; i < seen.arguments.size(); ++i) seen.arguments[i] = task.doing.arguments[i].load(kRelaxed);
  return seen;
}

// As many of the arguments as the call has.
template <typename Arguments>
void add_call(int number, const Arguments& arguments, bool with_arguments, v1::TaskState& state) {
  const SyscallRow* row = find_syscall(static_cast<uint64_t>(number));
  state.set_call(row != nullptr ? row->name : "syscall_" + std::to_string(number));
  for (int i = 0; with_arguments && i < (row != nullptr ? row->arity : 6); ++i) state.add_arguments(arguments[static_cast<size_t>(i)]);
}

// A thread that runs its own code, as the host knows it: asleep in one of the few calls that go there, or running.
void add_native(const ProcFacts& facts, Seen& seen, v1::TaskState& state) {
  const std::string folder = std::to_string(facts.host_pid) + "/task/" + std::to_string(seen.host_tid) + "/";
  const Result<std::string> text = read_host_proc((folder + "syscall").c_str());
  int number = -1;
  uint64_t a[6] = {}, sp = 0, ip = 0;
  if (text &&
      sscanf(text->c_str(), "%d %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, &number,
             &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &sp, &ip) == 9 &&
      number >= 0) {
    add_call(number, a, true, state);
    seen.ip = ip;
    seen.bp = 0;
  }
}

// Return addresses by frame pointers, where the program keeps any: a chain that rises, of places where code is.
void add_stack(const Seen& seen, const std::vector<Mapping>& mappings, v1::TaskState& state) {
  const auto add = [&](uint64_t address) {
    state.add_stack(address);
    state.add_places(place_of(mappings, address));
  };
  if (seen.ip == 0) return;
  add(seen.ip);
  uint64_t frame[2] = {seen.bp, 0};
  for (size_t i = 0; i < kMostFrames; ++i) {
    const uint64_t at = frame[0];
    if (at == 0 || !read_guest(seen.host_tid, at, frame, sizeof frame)) return;
    const Mapping* code = mapping_of(mappings, frame[1]);
    if (code == nullptr || !code->executable) return;
    add(frame[1]);
    if (frame[0] <= at || frame[0] - at > kMostFrame) return;
  }
}

void add_task(const ProcFacts& facts, Seen seen, const std::vector<Mapping>& mappings, int64_t now, v1::TaskState& state) {
  state.set_tid(seen.tid);
  state.set_name(seen.name);
  state.set_host_tid(seen.host_tid);
  state.set_state(std::string(1, facts.stopped ? 'T' : seen.state));
  state.set_in_kernel(!seen.in_guest);
  if (seen.in_guest) {
    add_native(facts, seen, state);
    if (state.call().empty()) seen.ip = 0;
    if (!facts.stopped) state.set_state(state.call().empty() ? "R" : "S");
  } else {
    if (seen.call >= 0) add_call(seen.call, seen.arguments, seen.asleep != 0, state);
    if (seen.asleep != 0) {
      state.set_asleep_nanos(std::max<int64_t>(0, now - seen.asleep));
    } else {
      seen.ip = 0;
    }
  }
  add_stack(seen, mappings, state);
}

// Arguments, which are the guest's words, with spaces between them.
std::string command_of(Task& setup, const ProcSubject& subject, const std::string& name) {
  constexpr size_t kMost = 4096;
  Result<std::string> text = proc_command_line(setup, subject);
  if (!text || text->empty()) return "[" + name + "]";
  text->resize(std::min(text->size(), kMost));
  while (!text->empty() && text->back() == '\0') text->pop_back();
  for (char& byte : *text)
    if (byte == '\0') byte = ' ';
  return *std::move(text);
}

void add_process(Task& setup, const std::shared_ptr<ThreadGroup>& group, Question question, const std::optional<int>& exec,
                 v1::Processes& all) {
  const ProcSubject subject{group, group->pid, 0, group->pids};
  const Result<ProcFacts> facts = gather(setup.kernel, subject);
  if (!facts) return;
  const std::optional<HostStat> host = read_host_stat(*facts, true);
  v1::ProcessState& process = *all.add_processes();
  process.set_pid(facts->pid);
  process.set_ppid(facts->parent);
  process.set_pgid(facts->pgid);
  process.set_sid(facts->sid);
  process.set_uid(facts->creds->uid);
  process.set_command(command_of(setup, subject, facts->name));
  process.set_state(std::string(1, proc_state(*facts, host)));
  process.set_age_nanos(std::max<int64_t>(0, monotonic_now() - facts->start_time));
  const int64_t ticks = host ? static_cast<int64_t>(host->fields[14] + host->fields[15]) : 0;
  process.set_cpu_nanos(static_cast<uint64_t>(ticks * kTick + facts->usage.user_ns + facts->usage.system_ns));
  process.set_terminal(facts->terminal);
  process.set_host_pid(facts->host_pid);
  if (exec) process.set_exec(*exec);
  process.set_descriptors(facts->fds ? static_cast<uint32_t>(facts->fds->list().size()) : 0);
  if (question != Question::Tasks) return;
  std::vector<Seen> threads;
  {
    std::lock_guard guard(setup.kernel.tasks);
    for (const Task* task : group->tasks) threads.push_back(look_locked(*task));
  }
  const Result<std::string> maps = proc_maps(setup, subject);
  const std::vector<Mapping> mappings = maps ? parse_maps(*maps) : std::vector<Mapping>();
  const int64_t now = monotonic_now();
  for (Seen& seen : threads) add_task(*facts, std::move(seen), mappings, now, *process.add_tasks());
}

}  // namespace

v1::Processes describe_processes(Kernel& kernel, Container& container, Question question,
                                 const std::function<std::optional<int>(const ThreadGroup&)>& exec_of) {
  v1::Processes all;
  std::vector<std::shared_ptr<ThreadGroup>> groups;
  {
    std::lock_guard guard(kernel.tasks);
    all.set_tasks(static_cast<uint32_t>(container.groups->tasks));
    all.set_held_bytes(container.held->used());
    if (question == Question::Count) return all;
    // A process that nobody has waited for is none any more; who debugs wants to know of it.
    for (const auto& [pid, group] : container.pids->groups)
      if (group->container == &container && (!group->zombie || question == Question::Tasks)) groups.push_back(group);
  }
  const std::unique_ptr<Task> setup = make_setup_task(kernel, container);
  for (const auto& group : groups) add_process(*setup, group, question, exec_of(*group), all);
  return all;
}

}  // namespace caisson::kernel
