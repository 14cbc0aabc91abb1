// What we write: the process for exec, the state document.
#include "oci/document.h"
#include "oci/parse.h"

namespace caisson::oci {
namespace {

using Out = nlohmann::ordered_json;

// Names of files need not be UTF-8; the library throws on such bytes unless told to replace them.
std::string text_of(const Out& json, int indent) { return json.dump(indent, ' ', false, Out::error_handler_t::replace); }

template <typename T>
void put(Out& json, const char* name, const T& value) {
  if (value != T{}) json[name] = value;
}

template <typename T>
void put(Out& json, const char* name, const std::optional<T>& value) {
  if (value) json[name] = *value;
}

Out user_json(const User& user) {
  Out json = {{"uid", user.uid}, {"gid", user.gid}};
  put(json, "umask", user.umask);
  put(json, "additionalGids", user.additional_gids);
  return json;
}

Out capabilities_json(const Capabilities& sets) {
  Out json = Out::object();
  put(json, "bounding", sets.bounding);
  put(json, "effective", sets.effective);
  put(json, "inheritable", sets.inheritable);
  put(json, "permitted", sets.permitted);
  put(json, "ambient", sets.ambient);
  return json;
}

Out scheduler_json(const Scheduler& scheduler) {
  Out json = {{"policy", scheduler.policy}};
  put(json, "nice", scheduler.nice);
  put(json, "priority", scheduler.priority);
  put(json, "flags", scheduler.flags);
  put(json, "runtime", scheduler.runtime);
  put(json, "deadline", scheduler.deadline);
  put(json, "period", scheduler.period);
  return json;
}

Out affinity_json(const ExecCpuAffinity& affinity) {
  Out json = Out::object();
  put(json, "initial", affinity.initial);
  put(json, "final", affinity.final_);
  return json;
}

}  // namespace

std::string process_to_json(const Process& process) {
  Out json = Out::object();
  put(json, "terminal", process.terminal);
  if (process.console_size) json["consoleSize"] = {{"height", process.console_size->height}, {"width", process.console_size->width}};
  json["user"] = user_json(process.user);
  json["args"] = process.args;
  put(json, "commandLine", process.command_line);
  put(json, "env", process.env);
  json["cwd"] = process.cwd;
  if (process.capabilities) json["capabilities"] = capabilities_json(*process.capabilities);
  for (const Rlimit& limit : process.rlimits) json["rlimits"].push_back({{"type", limit.type}, {"hard", limit.hard}, {"soft", limit.soft}});
  put(json, "noNewPrivileges", process.no_new_privileges);
  put(json, "apparmorProfile", process.apparmor_profile);
  put(json, "oomScoreAdj", process.oom_score_adj);
  put(json, "selinuxLabel", process.selinux_label);
  if (process.scheduler) json["scheduler"] = scheduler_json(*process.scheduler);
  if (process.io_priority) json["ioPriority"] = {{"class", process.io_priority->class_name}, {"priority", process.io_priority->priority}};
  if (process.exec_cpu_affinity) json["execCPUAffinity"] = affinity_json(*process.exec_cpu_affinity);
  return text_of(json, -1);
}

std::string state_to_json(const State& state) {
  Out json = {{"ociVersion", kSpecVersion}, {"id", state.id}, {"status", state.status}, {"pid", state.pid}, {"bundle", state.bundle}};
  json["annotations"] = state.annotations;
  return text_of(json, 2);
}

}  // namespace caisson::oci
