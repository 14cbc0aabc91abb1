// create(): the creator's side.
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "container/checks.h"
#include "container/container.h"
#include "container/hooks.h"
#include "container/init.h"
#include "container/listener.h"
#include "container/mounts.h"
#include "container/network_devices.h"
#include "container/note.h"
#include "container/process_limits.h"
#include "container/resources.h"
#include "container/spawn.h"
#include "host/namespaces.h"
#include "host/process.h"

namespace caisson::container {
namespace {

class Creation {
 public:
  Creation(const oci::Spec& spec, CreateOptions options, Stdio stdio)
      : spec_(spec), options_(std::move(options)), stdio_(std::move(stdio)) {}

  Result<Created> run() {
    TRY(check_spec(spec_, options_, stdio_));
    if (spec_.linux_.seccomp) seccomp_ = TRY(compile_seccomp(*spec_.linux_.seccomp));
    rootfs_ = spec_.root.path.starts_with('/') ? spec_.root.path : options_.bundle + "/" + spec_.root.path;
    auto done = make();
    if (done) return finish();
    undo();
    return std::move(done).error();
  }

 private:
  Result<void> make() {
    cgroup_ = TRY(plan_cgroup(spec_, options_.id, options_.systemd_cgroup));
    const host::ScopeHolder holder = TRY(make_cgroup(cgroup_, options_.systemd_cgroup));
    owns_cgroup_ = true;
    TRY(apply_resources(cgroup_, spec_.linux_.resources.value_or(oci::Resources{}), false));
    if (options_.before_spawn) TRY(options_.before_spawn(spec_, cgroup_));
    TRY(spawn());
    if (!attaches_itself(spec_)) TRY(host::attach_to_cgroup(cgroup_, init_.pid));
    TRY(write_id_maps(spec_, init_.pid));
    TRY(move_network_devices(spec_, init_.pid));
    TRY(tell(NoteKind::Go, init_.pid));
    return serve();
  }

  Result<void> spawn() {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) return errno_error("cannot make a socket pair");
    channel_.reset(sockets[0]);
    UniqueFd theirs(sockets[1]);
    const UniqueFd unified = TRY(host::unified_cgroup_fd(cgroup_));
    host::Cloned cloned = TRY(spawn_init(spec_, rootfs_, unified.get()));
    if (cloned.pid == 0) {
      channel_.reset();
      InitContext context{
          .spec = spec_, .options = options_, .stdio = stdio_, .seccomp = seccomp_, .cgroup = cgroup_, .channel = std::move(theirs)};
      run_init(context);
    }
    init_ = std::move(cloned);
    start_time_ = TRY(host::process_start_time(init_.pid));
    return {};
  }

  // What init asks for, until it is ready.
  Result<void> serve() {
    while (true) {
      std::optional<Note> note = TRY(receive_note(channel_.get()));
      if (!note) return silent_end();
      switch (note->kind) {
        case NoteKind::Error:
          return Error(note->value, note->text);
        case NoteKind::Ready:
          return {};
        case NoteKind::SourceWanted:
          TRY(send_source(note->value));
          break;
        case NoteKind::MountsDone:
          TRY(run_creation_hooks());
          TRY(tell(NoteKind::Go));
          break;
        case NoteKind::LimitsWanted:
          TRY(apply_process_limits(init_.pid, spec_.process));
          TRY(tell(NoteKind::Go));
          break;
        case NoteKind::Listener:
          TRY(hand_over_listener(note->value));
          break;
        default:
          return make_error(EPROTO, "init sent an unknown note {}", static_cast<int>(note->kind));
      }
    }
  }

  Result<void> run_creation_hooks() {
    if (!options_.run_runtime_hooks) return {};
    const oci::State state{
        .id = options_.id, .status = "creating", .pid = init_.pid, .bundle = options_.bundle, .annotations = spec_.annotations};
    TRY(run_hooks("prestart", spec_.hooks.prestart, state));
    return run_hooks("createRuntime", spec_.hooks.create_runtime, state);
  }

  Result<void> send_source(int index) {
    auto source = open_source(spec_, options_.bundle, index);
    if (!source) return send_note(channel_.get(), NoteKind::Source, source.error().code(), source.error().message());
    return send_note(channel_.get(), NoteKind::Source, 0, "", {source->get()});
  }

  Result<void> hand_over_listener(int number) {
    const UniqueFd listener = TRY(fetch_listener(init_.pidfd.get(), number));
    return send_seccomp_listener(*spec_.linux_.seccomp, listener.get(), init_.pid, spec_, options_.id, options_.bundle);
  }

  Result<void> tell(NoteKind kind, int value = 0) {
    auto sent = send_note(channel_.get(), kind, value);
    if (sent) return sent;
    // It has ended; perhaps it has said why.
    auto note = receive_note(channel_.get());
    if (note && *note && (*note)->kind == NoteKind::Error) return Error((*note)->value, (*note)->text);
    return silent_end();
  }

  Result<void> silent_end() {
    host::wait_for_end(init_.pidfd.get(), std::chrono::seconds(2));
    const std::optional<int> status = host::exit_status(init_.pidfd.get());
    const std::string how = status ? host::describe_exit(*status) : "ended";
    const char* hint = status && WIFSIGNALED(*status) && WTERMSIG(*status) == SIGKILL ? "; is linux.resources.memory.limit too low?" : "";
    return make_error(ECONNRESET, "the container's first process {} while it was set up{}", how, hint);
  }

  Result<Created> finish() {
    Created created;
    created.record = {.id = options_.id,
                      .bundle = options_.bundle,
                      .pid = init_.pid,
                      .pid_start_time = start_time_,
                      .cgroup = cgroup_,
                      .rootfs = rootfs_,
                      .owns_pid_namespace = has_fresh(spec_, "pid"),
                      .no_new_keyring = options_.no_new_keyring};
    created.pidfd = std::move(init_.pidfd);
    created.start = std::move(channel_);
    return created;
  }

  void undo() {
    channel_.reset();
    if (init_.pidfd) {
      (void)host::send_signal(init_.pidfd.get(), SIGKILL);
      host::wait_for_end(init_.pidfd.get(), std::chrono::seconds(5));
    }
    // One that is in use by others, which is why it failed, is not ours to empty.
    if (!owns_cgroup_) return;
    auto removed = host::remove_cgroup(cgroup_);
    if (!removed) log::warning("a cgroup is left over: {}", removed.error().message());
  }

  oci::Spec spec_;
  CreateOptions options_;
  Stdio stdio_;
  std::string rootfs_;
  std::optional<SeccompFilter> seccomp_;
  host::CgroupPaths cgroup_;
  bool owns_cgroup_ = false;
  UniqueFd channel_;
  host::Cloned init_;
  uint64_t start_time_ = 0;
};

}  // namespace

Result<Created> create(const oci::Spec& spec, CreateOptions options, Stdio stdio) {
  return Creation(spec, std::move(options), std::move(stdio)).run();
}

}  // namespace caisson::container
