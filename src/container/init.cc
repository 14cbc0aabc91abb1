#include "container/init.h"

#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "container/console.h"
#include "container/devices.h"
#include "container/hooks.h"
#include "container/keyring.h"
#include "container/memory_policy.h"
#include "container/mounts.h"
#include "container/note.h"
#include "container/personality.h"
#include "container/program.h"
#include "container/rootfs.h"
#include "container/sysctl.h"
#include "host/namespaces.h"
#include "host/process.h"

namespace caisson::container {
namespace {

oci::State state_of(const InitContext& context, const std::string& status) {
  return {.id = context.options.id,
          .status = status,
          .pid = context.outer_pid,
          .bundle = context.options.bundle,
          .annotations = context.spec.annotations};
}

// By now the creator has put this process into its cgroup and written the id maps.
Result<void> set_up_namespaces(InitContext& context) {
  const oci::Spec& spec = context.spec;
  if (context.has_namespace("user")) TRY(become_namespace_root());
  if (setsid() < 0) return errno_error("cannot begin a session");
  if (!context.options.no_new_keyring) TRY(join_session_keyring(context.options.id));
  if (context.has_fresh_namespace("cgroup") && unshare(CLONE_NEWCGROUP) != 0)
    return errno_error("linux.namespaces: cannot make a cgroup namespace");
  if (context.has_fresh_namespace("network")) TRY(host::bring_up_loopback());
  if (!spec.hostname.empty() && sethostname(spec.hostname.data(), spec.hostname.size()) != 0)
    return errno_error("hostname: cannot set \"{}\"", spec.hostname);
  if (!spec.domainname.empty() && setdomainname(spec.domainname.data(), spec.domainname.size()) != 0)
    return errno_error("domainname: cannot set \"{}\"", spec.domainname);
  return {};
}

// Root file system, mounts, devices, terminal; hooks; the new root.
Result<void> set_up_root(InitContext& context) {
  const oci::Spec& spec = context.spec;
  const UniqueFd root = TRY(prepare_root(context));
  TRY(make_mounts(context, root.get()));
  if (makes_devices(spec)) TRY(make_devices(spec, root.get()));
  TRY(make_working_directory(spec, root.get()));
  TRY(send_note(context.channel.get(), NoteKind::MountsDone));
  (void)TRY(expect_note(context.channel.get(), NoteKind::Go));
  if (context.options.run_runtime_hooks) TRY(run_hooks("createContainer", spec.hooks.create_container, state_of(context, "creating")));
  if (spec.process.terminal) {
    Console console = TRY(open_console(spec.process, root.get(), true));
    if (context.has_namespace("mount") && makes_devices(spec)) TRY(mount_console(console, root.get()));
    TRY(use_console(std::move(console), context.stdio.console_socket.get()));
  }
  TRY(apply_sysctls(spec));
  TRY(protect_paths(spec, root.get()));
  return enter_root(context, root.get());
}

// The terminal is given up, so that whoever gets the streams may take it.
void leave_terminal() {
  signal(SIGHUP, SIG_IGN);
  ioctl(0, TIOCNOTTY);
  signal(SIGHUP, SIG_DFL);
}

// In a copy of this process, since hooks may follow that need what the stand-in gives up.
Result<void> run_early(const oci::Process& process, const StandIn& stand_in, size_t preserved) {
  if (process.terminal) leave_terminal();
  const pid_t pid = fork();
  if (pid < 0) return errno_error("cannot fork");
  if (pid == 0) {
    oci::Process early = process;
    early.args = stand_in.early;
    (void)exec_stand_in(early, stand_in, preserved);
    _exit(126);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return errno_error("cannot wait for a process");
  if (status != 0) return make_error(ECHILD, "the container cannot be prepared: {}", host::describe_exit(status));
  return {};
}

// False: deleted before it was started.
Result<bool> wait_for_start(InitContext& context, size_t preserved) {
  const StandIn* stand_in = context.options.stand_in.get();
  std::optional<Note> note = TRY(receive_note(context.channel.get()));
  if (note && note->kind == NoteKind::Prepare && stand_in != nullptr && !stand_in->early.empty()) {
    TRY(run_early(context.spec.process, *stand_in, preserved));
    note = TRY(receive_note(context.channel.get()));
  }
  if (note && note->kind != NoteKind::Start) return make_error(EPROTO, "note {} came in place of Start", static_cast<int>(note->kind));
  return note.has_value();
}

Result<void> run(InitContext& context) {
  const oci::Process& process = context.spec.process;
  TRY(arrange_descriptors(context.stdio, context.channel));
  const size_t preserved = context.stdio.preserved.size();
  if (attaches_itself(context.spec)) TRY(host::attach_to_cgroup(context.cgroup, 0));
  const Note go = TRY(expect_note(context.channel.get(), NoteKind::Go));
  context.outer_pid = go.value;
  TRY(set_up_namespaces(context));
  ExecLabels labels = TRY(ExecLabels::open(process));
  TRY(set_up_root(context));
  TRY(set_personality(context.spec));
  TRY(set_memory_policy(context.spec));
  TRY(send_note(context.channel.get(), NoteKind::LimitsWanted));
  (void)TRY(expect_note(context.channel.get(), NoteKind::Go));
  TRY(confine({.process = process, .seccomp = context.seccomp, .labels = labels, .channel = context.channel.get()}));
  // Looked for now already, so that create fails where start would.
  const StandIn* stand_in = context.options.stand_in.get();
  const std::string program = TRY(find_program(stand_in != nullptr ? stand_in->process : process));
  TRY(send_note(context.channel.get(), NoteKind::Ready));
  if (!TRY(wait_for_start(context, preserved))) _exit(1);
  TRY(run_hooks("startContainer", context.spec.hooks.start_container, state_of(context, "created")));
  if (stand_in != nullptr) return exec_stand_in(process, *stand_in, preserved);
  return exec_program(process, program, context.seccomp, preserved);
}

}  // namespace

bool attaches_itself(const oci::Spec& spec) {
  const oci::Namespace* mount = spec.find_namespace("mount");
  return spec.find_namespace("user") == nullptr && (mount == nullptr || mount->path.empty());
}

void run_init(InitContext& context) {
  host::reset_signals();
  umask(022);  // for the folders and files that are made on the way, whatever the caller's
  prctl(PR_SET_NAME, "caisson:init", 0, 0, 0);
  // Nothing in the container may look into this copy of the runtime.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) _exit(1);
  auto ended = run(context);
  if (!ended) (void)send_note(context.channel.get(), NoteKind::Error, ended.error().code(), ended.error().message());
  _exit(1);
}

}  // namespace caisson::container
