// A container: an OCI spec becomes a confined process. Straight-line, blocking calls over plain data; the caller runs them in a worker
// process (host/worker.h) and keeps the records. Used by `namespace` isolation on the node and by the agent inside a micro-VM.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/cgroup.h"
#include "host/systemd.h"
#include "oci/spec.h"

namespace caisson::container {

// The process's standard streams. An invalid descriptor is /dev/null. With spec.process.terminal only console_socket counts: a connected
// AF_UNIX socket that gets the pty's master (SCM_RIGHTS, the message's bytes are the pty's name).
struct Stdio {
  UniqueFd in, out, err;
  UniqueFd console_socket;
  std::vector<UniqueFd> preserved;  // become 3, 4, ...
};

// What later calls need to find the container again. Serializable (record_to_json, record_from_json): survives a crash of any process of
// ours.
struct Record {
  std::string id;
  std::string bundle;
  pid_t pid = 0;                // init, in the caller's PID namespace
  uint64_t pid_start_time = 0;  // field 22 of /proc/pid/stat: tells a reused pid
  host::CgroupPaths cgroup;     // empty where there is none
  std::string rootfs;           // absolute
  bool owns_pid_namespace = true;
  bool no_new_keyring = false;
};
std::string record_to_json(const Record& record);
Result<Record> record_from_json(std::string_view json);

// A program of ours that runs in the container in the place of the user's (an application kernel, which runs the user's itself):
// spec.process is then about ours, its args are its arguments.
struct StandIn {
  size_t program = 0;    // which of Stdio::preserved is the program's file
  oci::Process process;  // what the user asked for; its program is looked for here too, so that a missing one is this call's error
  std::vector<std::string> early;  // arguments of the program for prepare(), which a copy of init executes; empty: there is no such thing
};

struct CreateOptions {
  std::string id;
  std::string bundle;
  bool no_pivot = false;
  bool no_new_keyring = false;
  bool systemd_cgroup = false;
  // Which hooks this side runs. In a guest the host runs the runtime's hooks itself.
  bool run_runtime_hooks = true;
  bool in_guest = false;  // the network namespace that we are in is the sandbox's own, not a node's
  std::shared_ptr<const StandIn> stand_in;
  // Called in create() once the container's cgroup is made and before its first process is: may change the copy of the specification that
  // is used from there on. Empty: nothing is.
  std::function<Result<void>(oci::Spec& spec, const host::CgroupPaths& cgroup)> before_spawn;
  std::vector<int> kept_fds;  // that it needs, borrowed
  // Warnings by name about what cannot be honoured here go through log::warning.
};

// A created container: init has set everything up and waits for start on `start`. Closing it unstarted ends init.
struct Created {
  Record record;
  UniqueFd pidfd;
  UniqueFd start;  // this side of the socket pair that init waits on
  UniqueFd seccomp_listener;
};

// Plans the cgroup folders that create() will make, without making them: so that they can be written down before they exist.
Result<host::CgroupPaths> plan_cgroup(const oci::Spec& spec, const std::string& id, bool systemd_cgroup);
// Makes what was planned: as a scope by systemd, where that is asked for and systemd runs. The holder is to be kept until a process is in
// it.
Result<host::ScopeHolder> make_cgroup(host::CgroupPaths& paths, bool systemd_cgroup);

// Creates the container: cgroup, namespaces, mounts, hooks prestart, createRuntime and createContainer, up to the point where only start is
// missing. init is made with CLONE_PARENT: a child of the calling process's parent. On failure everything made so far is undone.
Result<Created> create(const oci::Spec& spec, CreateOptions options, Stdio stdio);

// Lets init run: startContainer hooks, then exec of the user's program. Returns when exec has succeeded, or with init's error
// (the process has ended then). Runs poststart hooks; their failure is an error (runtime-spec 1.3).
Result<void> start(const Record& record, const oci::Spec& spec, UniqueFd start_socket, bool run_runtime_hooks = true);

// Has a copy of a created container's init run the stand-in's `early`, and init go on waiting once that has ended with 0; otherwise init
// ends. start_socket is borrowed. Returns at once. Once for a container.
Result<void> prepare(const Record& record, int start_socket);

struct Executed {
  pid_t pid = 0;
  UniqueFd pidfd;
};
struct ExecOptions {
  std::string cgroup;  // folder below the container's, "" for its own
  bool ignore_paused = false;
  std::shared_ptr<const StandIn> stand_in;
};
// Runs one more process in a container; made with CLONE_PARENT. Returns after its exec has succeeded.
Result<Executed> exec(const Record& record, const oci::Spec& spec, const oci::Process& process, ExecOptions options, Stdio stdio);

// Signals init, or with all every process of the container (by cgroup, or by PID namespace). ESRCH when it has ended.
Result<void> kill(const Record& record, int signal, bool all);

// Kills what is left, removes the cgroup, runs poststop hooks (failures are warnings). Idempotent; never waits longer than 10 s.
Result<void> destroy(const Record& record, const oci::Spec* spec, bool run_runtime_hooks = true);

Result<void> pause(const Record& record);
Result<void> resume(const Record& record);
Result<void> update(const Record& record, const oci::Resources& resources);
Result<std::vector<pid_t>> processes(const Record& record);

}  // namespace caisson::container
