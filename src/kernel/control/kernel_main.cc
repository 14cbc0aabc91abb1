// kernel_process_main: a container's kernel from its first instruction to its end.
#include "kernel/control/kernel_main.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "kernel.pb.h"
#include "kernel/control/confine.h"
#include "kernel/control/cover.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/host_mounts.h"
#include "kernel/control/messages.h"
#include "kernel/control/observe.h"
#include "kernel/control/start_process.h"
#include "kernel/fs/host/host_fs.h"
#include "kernel/fs/host/identity.h"
#include "kernel/fs/registry.h"
#include "kernel/klog.h"
#include "kernel/limits.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/host_rows.h"
#include "kernel/signal/send.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"
#include "kernel/tty/terminal.h"
namespace caisson::kernel {
namespace {

// Tells the control loop that a process has ended.
class EndWatch : public Waiter {
 public:
  EndWatch(const Kernel::Started& started, int event) : group_(started.group), terminal_(started.terminal), event_(event) {
    group_->exited.add(*this);
  }
  ~EndWatch() override { group_->exited.remove(*this); }
  void notify(Events) override {
    const uint64_t one = 1;
    [[maybe_unused]] ssize_t ignored = write(event_, &one, sizeof one);
  }
  ThreadGroup& group() { return *group_; }
  // Once the process has ended: its output has reached the engine's terminal (or somebody else still holds that open, or reads nothing: two
  // seconds are enough then).
  bool delivered() {
    if (!terminal_ || terminal_->output_over()) return true;
    if (patience_.is_never()) patience_ = Deadline::after(2'000'000'000);
    return patience_.left() == 0;
  }

 private:
  std::shared_ptr<ThreadGroup> group_;
  std::shared_ptr<Terminal> terminal_;
  Deadline patience_;
  int event_;
};

// A channel to a process that stands for an exec.
struct ExecChannel {
  UniqueFd socket;
  int number = 0;                     // the sandbox's name for it
  std::unique_ptr<EndWatch> process;  // null: not described yet
};

void apply_limits(Kernel& kernel, Container& container, const v1::Limits& limits) {
  CgroupLimits to;
  if (limits.has_memory()) to.memory = limits.memory();
  if (limits.has_memory_low()) to.memory_low = limits.memory_low();
  if (limits.has_swap()) to.swap = limits.swap();
  if (limits.has_cpu_quota()) to.cpu_quota = limits.cpu_quota();
  if (limits.has_cpu_period()) to.cpu_period = limits.cpu_period();
  if (limits.has_cpu_weight()) to.cpu_weight = limits.cpu_weight();
  if (limits.has_pids()) to.pids = limits.pids();
  container.set_limits(to);
  std::lock_guard guard(kernel.tasks);
  container.most_tasks = to.pids > 0 ? std::min(Container::kMostTasks, static_cast<size_t>(to.pids)) : Container::kMostTasks;
}

class Server {
 public:
  Server(Kernel& kernel, Container& container, UniqueFd control, UniqueFd signals)
      : kernel_(kernel),
        container_(container),
        control_(std::move(control)),
        signals_(std::move(signals)),
        ended_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  int serve(const Kernel::Started& init) {
    EndWatch watch(init, ended_.get());
    init.go();
    for (;;) {
      std::vector<pollfd> entries = {{signals_.get(), POLLIN, 0}, {ended_.get(), POLLIN, 0}, {control_.get(), POLLIN, 0}};
      for (const auto& [fd, channel] : channels_) entries.push_back({fd, POLLIN, 0});
      if (poll(entries.data(), entries.size(), std::exchange(draining_, false) ? 1 : -1) < 0 && errno != EINTR) return 125;
      if (entries[1].revents != 0) drain();
      if (std::optional<int> status = outcome(watch)) {
        tell_ends();
        return *status;
      }
      tell_ends();
      if (entries[0].revents != 0) pass_signal();
      if (entries[2].revents != 0) take_request();
      for (size_t i = 3; i < entries.size(); ++i)
        if (entries[i].revents != 0) take_from(entries[i].fd);
    }
  }

 private:
  void drain() {
    uint64_t count;
    [[maybe_unused]] ssize_t ignored = read(ended_.get(), &count, sizeof count);
  }

  std::optional<int> outcome(EndWatch& watch) {
    ThreadGroup& group = watch.group();
    {
      std::lock_guard guard(kernel_.tasks);
      if (!group.zombie) return std::nullopt;
    }
    if (!watch.delivered()) {
      draining_ = true;
      return std::nullopt;
    }
    return group.exit.code == CLD_EXITED ? group.exit.status : 128 + group.exit.status;
  }

  void tell_ends() {
    for (auto it = channels_.begin(); it != channels_.end();) {
      const std::optional<int> status = it->second.process ? outcome(*it->second.process) : std::nullopt;
      if (!status) {
        ++it;
        continue;
      }
      (void)send_message(it->first, MessageKind::Ended, *status);
      it = channels_.erase(it);
    }
  }

  // What engines send to the container's process is meant for the guest's.
  void pass_signal() {
    signalfd_siginfo info;
    if (read(signals_.get(), &info, sizeof info) != sizeof info) return;
    if (info.ssi_signo == SIGCHLD) return;
    deliver(*container_.init, static_cast<int>(info.ssi_signo));
  }

  void deliver(ThreadGroup& group, int signal) {
    std::lock_guard guard(kernel_.tasks);
    send_to_group_locked(group, user_signal(signal, nullptr));
  }

  void take_request() {
    Result<Message> message = receive_message(control_.get());
    if (!message) {
      // The sandbox process has gone; whoever cleans up after it kills us. No more execs.
      control_.reset();
      return;
    }
    if (message->kind == MessageKind::SignalAll) return signal_all(message->number);
    if (message->kind == MessageKind::Strace) return strace_configure(message->number != 0);
    if (message->fds.size() != 1) return;
    UniqueFd fd = std::move(message->fds[0]);
    if (message->kind == MessageKind::Limits) take_limits(fd.get());
    if (message->kind == MessageKind::Ask) answer(fd.get(), static_cast<Question>(message->number));
    if (message->kind != MessageKind::Exec) return;
    ExecChannel& channel = channels_[fd.get()];
    channel.number = message->number;
    channel.socket = std::move(fd);
  }

  void signal_all(int signal) {
    std::lock_guard guard(kernel_.tasks);
    for (const auto& [pid, group] : container_.pids->groups)
      if (group->container == &container_) send_to_group_locked(*group, user_signal(signal, nullptr));
  }

  void take_limits(int fd) {
    v1::Limits limits;
    const Result<std::string> text = read_description(fd);
    if (text && limits.ParseFromString(*text)) apply_limits(kernel_, container_, limits);
  }

  void answer(int socket, Question question) {
    const v1::Processes all = describe_processes(kernel_, container_, question, [&](const ThreadGroup& group) -> std::optional<int> {
      if (container_.init.get() == &group) return 0;
      for (const auto& [fd, channel] : channels_)
        if (channel.process && &channel.process->group() == &group) return channel.number;
      return std::nullopt;
    });
    const Result<UniqueFd> file = make_description("kernel-processes", all.SerializeAsString());
    if (file) (void)send_message(socket, MessageKind::Answer, 0, {file->get()});
  }

  void take_from(int fd) {
    const auto found = channels_.find(fd);
    if (found == channels_.end()) return;
    ExecChannel& channel = found->second;
    Result<Message> message = receive_message(fd);
    if (!message) {
      // Killed, or gone: so goes what it stands for.
      if (channel.process) deliver(channel.process->group(), SIGKILL);
      channels_.erase(found);
      return;
    }
    if (message->kind == MessageKind::Signal && channel.process) deliver(channel.process->group(), message->number);
    if (message->kind == MessageKind::Process && !channel.process) execute(channel, std::move(message->fds));
  }

  void execute(ExecChannel& channel, std::vector<UniqueFd> fds) {
    Result<Kernel::Started> started = start_described(kernel_, container_, std::move(fds));
    if (!started) {
      (void)send_message(channel.socket.get(), MessageKind::Failed, started.error().value);
      return;
    }
    (void)send_message(channel.socket.get(), MessageKind::Started, started->group->pid);
    channel.process = std::make_unique<EndWatch>(*started, ended_.get());
    started->go();
  }

  Kernel& kernel_;
  Container& container_;
  UniqueFd control_, signals_, ended_;
  std::map<int, ExecChannel> channels_;
  bool draining_ = false;  // a process has ended, its terminal's output is on its way
};

// Whether the kernel mounts something of its own on that place, or above it.
bool is_ours(const v1::Start& start, std::string_view point) {
  for (const v1::Start::Mount& mount : start.mounts())
    if (point == mount.destination() || (point.starts_with(mount.destination()) && point[mount.destination().size()] == '/')) return true;
  return false;
}

Result<void> cover_paths(Task& setup, const v1::Start& start) {
  for (const std::string& path : start.masked_paths()) TRY(mask_path(setup, path));
  for (const std::string& path : start.readonly_paths()) TRY(make_path_readonly(setup, path));
  return {};
}

Result<void> mount_all(Kernel& kernel, Container& container, const v1::Start& start, std::vector<OpenMount> mounts) {
  const std::unique_ptr<Task> setup = make_setup_task(kernel, container);
  import_host_mounts(*setup, container, std::move(mounts));
  for (const v1::Start::Mount& mount : start.mounts()) {
    Result<MountRef> mounted = mount_in_container(*setup, mount.destination(), mount.type(), mount.source(), mount.options());
    if (mounted) continue;
    klog(LogLevel::Warning, "%s cannot be mounted on %s: %s", mount.type().c_str(), mount.destination().c_str(),
         strerrordesc_np(mounted.error().value));
  }
  return cover_paths(*setup, start);
}

Result<std::unique_ptr<Container>> make_container(const v1::Start& start, std::vector<OpenMount>& mounts) {
  auto container = std::make_unique<Container>();
  container->id = start.container_id();
  container->pids = std::make_shared<PidNamespace>();
  container->mounts = std::make_shared<MountTable>();
  container->uts = std::make_shared<UtsNames>();
  container->seccomp = TRY(configured_seccomp(start));
  if (!start.hostname().empty()) container->uts->set_host(start.hostname());
  if (!start.domainname().empty()) container->uts->set_domain(start.domainname());
  // The last one is what "/" means.
  const auto root = std::find_if(mounts.rbegin(), mounts.rend(), [](const OpenMount& each) { return each.mount.point == "/"; });
  if (root == mounts.rend()) return Errno(ENOENT);
  const auto fs = TRY(HostFileSystem::create(std::move(root->fd)));
  const auto dentry = std::make_shared<Dentry>("", nullptr, TRY(fs->root()));
  // The root's own flags (root.readonly).
  std::string rest;
  const unsigned long flags = split_mount_options(root->mount.options, &rest);
  const MountRef mount = TRY(container->mounts->add(fs, dentry, Path(), flags, "rootfs", ""));
  container->root = {mount, dentry};
  return container;
}

// Of the namespace that a pod's containers share.
std::string own_hostname() {
  char name[65] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

UniqueFd block_signals() {
  sigset_t all;
  sigfillset(&all);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&all, signal);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  return UniqueFd(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
}

int give_up(const char* what, Errno error, int errors) {
  // Whoever started the container sees its standard error.
  dprintf(errors, "caisson: %s: %s\n", what, strerrordesc_np(error.value));
  klog(LogLevel::Error, "%s: %s", what, strerrordesc_np(error.value));
  return error == Errno(ENOENT) ? 127 : 126;
}

// From here on there is no way back to what lies outside the container.
Result<void> confine(const v1::Start& start) {
  const uint64_t guests = start.process().bounding();
  const bool raw_sockets = (guests >> CAP_NET_RAW & 1) != 0;
  bool own = can_have_user_namespace(guests, start.own_network());
  if (own && (guests >> CAP_NET_BIND_SERVICE & 1) != 0) own = open_low_ports().ok();
  Result<void> entered = enter_empty_root(own, raw_sockets);
  if (!entered && own) {
    klog(LogLevel::Info, "no user namespace for the kernel process: %s", strerrordesc_np(entered.error().value));
    entered = enter_empty_root(false, raw_sockets);
  }
  TRY(std::move(entered));
  return drop_privileges(guests);  // before the first thread: capabilities are each thread's own
}

Result<int> run() {
  v1::Start start;
  if (!start.ParseFromString(TRY(read_description(kDescriptionFd)))) return Errno(EPROTO);
  close(kDescriptionFd);
  close(kProgramFd);
  if (start.hostname().empty()) start.set_hostname(own_hostname());
  klog_configure(kLogFd, start.debug() ? LogLevel::Debug : LogLevel::Info);
  strace_configure(start.strace());
  CallSites::allow(start.patch());
  TRY(open_own_proc());
  std::vector<OpenMount> mounts =
      open_host_mounts(TRY(read_host_proc("self/mountinfo")), [&](std::string_view point) { return is_ours(start, point); });
  UniqueFd signals = block_signals();
  leave_terminal(0);
  UniqueFd errors(fcntl(2, F_DUPFD_CLOEXEC, 16));
  UniqueFd control(fcntl(kChannelFd, F_DUPFD_CLOEXEC, 16));
  close(kChannelFd);
  std::vector<UniqueFd> streams = take_streams(start.process().preserved());
  const auto usable = [&]() -> Result<std::unique_ptr<Kernel>> {
    TRY(confine(start));
    std::unique_ptr<Kernel> kernel = TRY(Kernel::create());  // stubs have a filter of their own: the zygote comes before ours
    if (!enter_proc_folder()) return host_errno();
    TRY(load_host_filter(start.process().bounding()));
    return kernel;
  };
  Result<std::unique_ptr<Kernel>> made = usable();
  if (!made) return give_up("the application kernel cannot be confined", made.error(), errors.get());
  const std::unique_ptr<Kernel> kernel = *std::move(made);
  const std::unique_ptr<Container> container = TRY(make_container(start, mounts));
  apply_limits(*kernel, *container, start.limits());
  TRY(mount_all(*kernel, *container, start, std::move(mounts)));
  Result<Kernel::Started> started = start_with(*kernel, *container, start.process(), std::move(streams));
  if (!started)
    return give_up(start.process().arguments_size() > 0 ? start.process().arguments(0).c_str() : "process.args", started.error(),
                   errors.get());
  errors.reset();
  Server server(*kernel, *container, std::move(control), std::move(signals));
  const int status = server.serve(*started);
  *started = {};
  kernel->shutdown();
  return status;
}

}  // namespace

int kernel_process_main() {
  prctl(PR_SET_NAME, "caisson-kernel");
  umask(0);
  const Result<int> status = run();
  // Nothing is to be tidied up: the PID namespace ends with us.
  _exit(status ? *status : give_up("the application kernel cannot start", status.error(), 2));
}

}  // namespace caisson::kernel
