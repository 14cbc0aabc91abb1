// exec(): one more process in a container.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "container/console.h"
#include "container/container.h"
#include "container/keyring.h"
#include "container/listener.h"
#include "container/memory_policy.h"
#include "container/note.h"
#include "container/personality.h"
#include "container/process_limits.h"
#include "container/program.h"
#include "host/files.h"
#include "host/namespaces.h"
#include "host/process.h"

namespace caisson::container {
namespace {

// Which of init's namespaces are not the runtime's: CLONE_NEW flags.
Result<int> foreign_namespaces(const Record& record) {
  int flags = 0;
  for (const host::NamespaceType& type : host::namespace_types()) {
    auto own = host::own_namespace(type);
    if (!own) continue;  // this kernel has no such type
    const UniqueFd theirs = TRY(host::open_namespace(type, fmt::format("/proc/{}/ns/{}", record.pid, type.file)));
    if (!TRY(host::same_namespace(own->get(), theirs.get()))) flags |= type.flag;
  }
  return flags;
}

// The folder of ExecOptions::cgroup in each hierarchy; it has to be there, as runc wants it.
Result<host::CgroupPaths> cgroup_of(const Record& record, const std::string& below) {
  host::CgroupPaths paths = record.cgroup;
  if (below.empty()) return paths;
  if (("/" + below + "/").find("/../") != std::string::npos)
    return make_error(EINVAL, "cgroup \"{}\": must be below the container's", below);
  paths.path += "/" + below;
  for (auto& [controller, folder] : paths.folders) {
    folder += "/" + below;
    if (access(folder.c_str(), F_OK) != 0) return errno_error("cgroup \"{}\" of container {}", below, record.id);
  }
  return paths;
}

class Execution {
 public:
  Execution(const Record& record, const oci::Spec& spec, const oci::Process& process, ExecOptions options, Stdio stdio)
      : record_(record), spec_(spec), process_(process), options_(std::move(options)), stdio_(std::move(stdio)) {}

  Result<Executed> run() {
    if (process_.terminal && !stdio_.console_socket)
      return make_error(EINVAL, "process.terminal: is set, but there is no console socket to send the terminal to");
    TRY(look_at_container());
    if (spec_.linux_.seccomp) seccomp_ = TRY(compile_seccomp(*spec_.linux_.seccomp));
    cgroup_ = TRY(cgroup_of(record_, options_.cgroup));
    TRY(spawn());
    auto done = serve();
    if (done) return Executed{.pid = cloned_.pid, .pidfd = std::move(cloned_.pidfd)};
    channel_.reset();
    (void)host::send_signal(cloned_.pidfd.get(), SIGKILL);
    host::wait_for_end(cloned_.pidfd.get(), std::chrono::seconds(5));
    return std::move(done).error();
  }

 private:
  Result<void> look_at_container() {
    auto init = host::open_pidfd(record_.pid, record_.pid_start_time);
    if (!init) return make_error(ESRCH, "container {} is not running", record_.id);
    init_ = std::move(*init);
    if (!options_.ignore_paused && !record_.cgroup.folders.empty()) {
      auto frozen = host::cgroup_is_frozen(record_.cgroup);
      if (frozen && *frozen) return make_error(EBUSY, "container {} is paused", record_.id);
    }
    foreign_ = TRY(foreign_namespaces(record_));
    if ((foreign_ & CLONE_NEWNS) == 0) {
      rootfs_.reset(open(record_.rootfs.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (!rootfs_) return errno_error("cannot open the container's root {}", record_.rootfs);
    }
    return {};
  }

  // A PID namespace is for the children of whoever joins it: this process joins, clones, and goes back.
  Result<void> spawn() {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) return errno_error("cannot make a socket pair");
    channel_.reset(sockets[0]);
    UniqueFd theirs(sockets[1]);
    const host::NamespaceType& pid = *host::find_namespace_type("pid");
    const UniqueFd own = TRY(host::own_namespace(pid));
    const bool joins = (foreign_ & CLONE_NEWPID) != 0;
    if (joins) TRY(host::join_namespace(init_.get(), CLONE_NEWPID, "the container's PID namespace"));
    auto cloned = host::clone_process(CLONE_PARENT);
    if (cloned && cloned->pid == 0) {
      channel_.reset();
      run_child(std::move(theirs));
    }
    if (joins) TRY(host::join_namespace(own.get(), CLONE_NEWPID, "the runtime's own PID namespace again"));
    if (!cloned) return std::move(cloned).error();
    cloned_ = std::move(*cloned);
    return {};
  }

  Result<void> serve() {
    if (process_.exec_cpu_affinity)
      TRY(apply_affinity(cloned_.pid, process_.exec_cpu_affinity->initial, "process.execCPUAffinity.initial"));
    (void)send_note(channel_.get(), NoteKind::Go, cloned_.pid);
    while (true) {
      std::optional<Note> note = TRY(receive_note(channel_.get()));
      if (!note) return outcome();
      switch (note->kind) {
        case NoteKind::Error:
          return Error(note->value, note->text);
        case NoteKind::LimitsWanted:
          TRY(apply_process_limits(cloned_.pid, process_));
          if (process_.exec_cpu_affinity)
            TRY(apply_affinity(cloned_.pid, process_.exec_cpu_affinity->final_, "process.execCPUAffinity.final"));
          TRY(send_note(channel_.get(), NoteKind::Go));
          break;
        case NoteKind::Listener: {
          const UniqueFd listener = TRY(fetch_listener(cloned_.pidfd.get(), note->value));
          TRY(send_seccomp_listener(*spec_.linux_.seccomp, listener.get(), cloned_.pid, spec_, record_.id, record_.bundle));
          break;
        }
        case NoteKind::Ready:
          ready_ = true;
          break;
        default:
          return make_error(EPROTO, "the new process sent an unknown note {}", static_cast<int>(note->kind));
      }
    }
  }

  // The channel has been closed: by execve(2), if the process had come so far.
  Result<void> outcome() {
    if (ready_) return {};
    host::wait_for_end(cloned_.pidfd.get(), std::chrono::seconds(2));
    const std::optional<int> status = host::exit_status(cloned_.pidfd.get());
    return make_error(ECONNRESET, "the new process {} while it was set up", status ? host::describe_exit(*status) : "ended");
  }

  [[noreturn]] void run_child(UniqueFd channel) {
    host::reset_signals();
    prctl(PR_SET_NAME, "caisson:exec", 0, 0, 0);
    // From here on this process can be seen from inside the container.
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) _exit(1);
    auto ended = become_member(channel);
    if (!ended) (void)send_note(channel.get(), NoteKind::Error, ended.error().code(), ended.error().message());
    _exit(1);
  }

  Result<void> become_member(UniqueFd& channel) {
    const size_t preserved = stdio_.preserved.size();
    TRY(clear_places(3 + static_cast<int>(preserved)));
    TRY(arrange_descriptors(stdio_, channel));
    (void)TRY(expect_note(channel.get(), NoteKind::Go));
    TRY(join_cgroup());
    ExecLabels labels = TRY(ExecLabels::open(process_));
    TRY(join_namespaces());
    if (setsid() < 0) return errno_error("cannot begin a session");
    if (!record_.no_new_keyring) TRY(join_session_keyring(record_.id));
    if (process_.terminal) TRY(take_terminal());
    TRY(set_personality(spec_));
    TRY(set_memory_policy(spec_));
    TRY(send_note(channel.get(), NoteKind::LimitsWanted));
    (void)TRY(expect_note(channel.get(), NoteKind::Go));
    TRY(confine({.process = process_, .seccomp = seccomp_, .labels = labels, .channel = channel.get()}));
    const StandIn* stand_in = options_.stand_in.get();
    const std::string program = TRY(find_program(stand_in != nullptr ? stand_in->process : process_));
    TRY(send_note(channel.get(), NoteKind::Ready));
    if (stand_in != nullptr) return exec_stand_in(process_, *stand_in, preserved);
    return exec_program(process_, program, seccomp_, preserved);
  }

  // What is needed later must not sit where the preserved descriptors belong.
  Result<void> clear_places(int first_free) {
    for (UniqueFd* fd : {&init_, &rootfs_}) {
      if (!*fd) continue;
      UniqueFd moved(fcntl(fd->get(), F_DUPFD_CLOEXEC, first_free));
      if (!moved) return errno_error("cannot move a descriptor");
      *fd = std::move(moved);
    }
    return {};
  }

  Result<void> join_cgroup() {
    auto joined = host::attach_to_cgroup(cgroup_, 0);
    if (joined || joined.error().code() != EBUSY || !options_.cgroup.empty() || cgroup_.version != host::CgroupVersion::V2) return joined;
    // cgroups(7), "no internal processes": a service manager in the container has made cgroups below; then the place is where it has put
    // itself.
    const std::string text = TRY(host::read_file(fmt::format("/proc/{}/cgroup", record_.pid), 1 << 16));
    const size_t start = text.find("0::");
    if (start == std::string::npos) return joined;
    const std::string path = text.substr(start + 3, text.find('\n', start) - start - 3);
    return host::attach_to_cgroup(TRY(host::cgroup_paths(TRY(host::cgroup_layout()), path)), 0);
  }

  // The user namespace last: the others may need the rights of the one that is left.
  Result<void> join_namespaces() {
    const int others = foreign_ & ~(CLONE_NEWUSER | CLONE_NEWPID);
    if (others != 0) TRY(host::join_namespace(init_.get(), others, fmt::format("the namespaces of container {}", record_.id)));
    // What leads to the host does not stay open.
    auto closed = [this](Result<void> done) {
      init_.reset();
      rootfs_.reset();
      return done;
    };
    if (rootfs_ && (fchdir(rootfs_.get()) != 0 || chroot(".") != 0 || chdir("/") != 0))
      return errno_error("cannot chroot into the container's root");
    if ((foreign_ & CLONE_NEWUSER) == 0) return closed({});
    TRY(host::join_namespace(init_.get(), CLONE_NEWUSER, fmt::format("the user namespace of container {}", record_.id)));
    return closed(become_namespace_root());
  }

  Result<void> take_terminal() {
    const UniqueFd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return errno_error("cannot open the container's root");
    return use_console(TRY(open_console(process_, root.get(), false)), stdio_.console_socket.get());
  }

  const Record& record_;
  const oci::Spec& spec_;
  const oci::Process& process_;
  ExecOptions options_;
  Stdio stdio_;
  std::optional<SeccompFilter> seccomp_;
  host::CgroupPaths cgroup_;
  UniqueFd init_, channel_, rootfs_;
  int foreign_ = 0;
  bool ready_ = false;
  host::Cloned cloned_;
};

}  // namespace

Result<Executed> exec(const Record& record, const oci::Spec& spec, const oci::Process& process, ExecOptions options, Stdio stdio) {
  return Execution(record, spec, process, std::move(options), std::move(stdio)).run();
}

}  // namespace caisson::container
