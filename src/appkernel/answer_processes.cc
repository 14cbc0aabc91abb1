// What an answer says, in the node's numbers. Nothing of the host is asked here: tests/fuzz builds this file alone.
#include <algorithm>

#include "appkernel/answer.h"
#include "base/utf8.h"
#include "sandbox/local/terminal_name.h"

namespace caisson::appkernel {
namespace {

namespace v1 = sandbox::v1;

void translate_task(const kernel::v1::TaskState& from, const std::map<pid_t, pid_t>& hosts, v1::DebugResponse::Thread& to) {
  to.set_tid(from.tid());
  to.set_name(printable(from.name()));
  to.set_state(printable(from.state()));
  to.set_in_kernel(from.in_kernel());
  to.set_call(printable(from.call()));
  *to.mutable_arguments() = from.arguments();
  if (from.has_asleep_nanos()) to.set_asleep_nanos(from.asleep_nanos());
  *to.mutable_stack() = from.stack();
  for (const std::string& place : from.places()) to.add_places(printable(place));
  if (const auto host = hosts.find(from.host_tid()); host != hosts.end()) to.set_host_tid(host->second);
}

}  // namespace

v1::DebugResponse translate_processes(const kernel::v1::Processes& answer, const std::map<int, std::string>& execs,
                                      const std::map<std::string, pid_t>& stand_ins, const std::map<pid_t, pid_t>& hosts, pid_t init,
                                      int64_t now_unix_nanos) {
  const auto exec_id_of = [&](const kernel::v1::ProcessState& process) {
    const auto row = process.has_exec() ? execs.find(process.exec()) : execs.end();
    return row != execs.end() ? row->second : std::string();
  };
  const auto host_of = [&](const kernel::v1::ProcessState& process) -> pid_t {
    if (process.has_exec() && process.exec() == 0) return init;
    if (const auto row = stand_ins.find(exec_id_of(process)); row != stand_ins.end()) return row->second;
    const auto row = hosts.find(process.host_pid());
    return row != hosts.end() ? row->second : 0;
  };
  std::map<int32_t, pid_t> by_guest_pid;
  for (const auto& process : answer.processes()) by_guest_pid[process.pid()] = host_of(process);
  v1::DebugResponse response;
  for (const auto& from : answer.processes()) {
    auto& to = *response.add_processes();
    auto& process = *to.mutable_process();
    process.set_pid(by_guest_pid[from.pid()]);
    process.set_guest_pid(from.pid());
    process.set_exec_id(exec_id_of(from));
    if (const auto parent = by_guest_pid.find(from.ppid()); parent != by_guest_pid.end()) process.set_ppid(parent->second);
    process.set_uid(from.uid());
    process.set_command(printable(from.command()));
    process.set_state(printable(from.state()));
    process.set_started_at_unix_nanos(now_unix_nanos - std::clamp<int64_t>(from.age_nanos(), 0, now_unix_nanos));
    process.set_cpu_nanos(from.cpu_nanos());
    process.set_tty(sandbox::local::terminal_name(from.terminal()));
    to.set_guest_ppid(from.ppid());
    to.set_guest_pgid(from.pgid());
    to.set_guest_sid(from.sid());
    to.set_descriptors(from.descriptors());
    for (const auto& task : from.tasks()) translate_task(task, hosts, *to.add_threads());
  }
  return response;
}

}  // namespace caisson::appkernel
