#include "cli/holder.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "base/unique_fd.h"
#include "cli/async_call.h"
#include "host/event_loop.h"
#include "host/rooted_path.h"
#include "sandbox/client.h"

namespace caisson::cli {
namespace {

constexpr int kSandboxGone = 137;  // as if killed: what an engine expects of a process whose kernel has gone
constexpr const char* kName = "caisson-holder";

char* arguments_start = nullptr;
size_t arguments_size = 0;

void set_title(const HolderRequest& request) {
  prctl(PR_SET_NAME, kName);
  if (arguments_start == nullptr) return;
  std::string title = fmt::format("{} {}{}{}", kName, request.container_id, request.exec_id.empty() ? "" : " ", request.exec_id);
  std::memset(arguments_start, 0, arguments_size);
  std::memcpy(arguments_start, title.data(), std::min(title.size(), arguments_size - 1));
}

// As good as it goes: what the container has made of its folders is its own affair.
void bind_below(int root, const HolderRequest::Bind& bind) {
  Result<host::RootedPath> place = host::open_in_root(root, bind.destination);
  if (!place.ok()) return;
  if (mount(bind.source.c_str(), fmt::format("/proc/self/fd/{}", place->fd.get()).c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0 ||
      !bind.readonly)
    return;
  place = host::open_in_root(root, bind.destination);
  if (place.ok())
    mount(nullptr, fmt::format("/proc/self/fd/{}", place->fd.get()).c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr);
}

// A mount namespace with the container's root file system as its root.
Result<void> enter_rootfs(const std::string& rootfs, const std::vector<HolderRequest::Bind>& binds) {
  if (unshare(CLONE_NEWNS) != 0) return errno_error("cannot make the holder's mount namespace");
  // Slave, not private: what is unmounted on the host does not stay busy here.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return errno_error("cannot make the holder's mounts slaves");
  if (mount(rootfs.c_str(), rootfs.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    return errno_error("cannot bind {} for the holder", rootfs);
  if (chdir(rootfs.c_str()) != 0) return errno_error("{}", rootfs);
  UniqueFd root(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (const HolderRequest::Bind& bind : binds)
    if (root) bind_below(root.get(), bind);
  root.reset();
  if (syscall(SYS_pivot_root, ".", ".") != 0) return errno_error("cannot make {} the holder's root", rootfs);
  if (umount2(".", MNT_DETACH) != 0) return errno_error("cannot leave the host's root");
  if (chdir("/") != 0) return errno_error("/");
  return {};
}

Result<void> enter_namespaces(const HolderRequest& request) {
  static constexpr struct {
    std::string_view type;
    int flag;
  } kTypes[] = {{"network", CLONE_NEWNET}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}};
  int fresh = 0;
  for (const oci::Namespace& wanted : request.namespaces) {
    const auto* known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& row) { return row.type == wanted.type; });
    if (known == std::end(kTypes)) continue;
    if (wanted.path.empty()) {
      fresh |= known->flag;
      continue;
    }
    UniqueFd ns(open(wanted.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!ns) return errno_error("linux.namespaces: {}", wanted.path);
    if (setns(ns.get(), known->flag) != 0) return errno_error("linux.namespaces: cannot join {}", wanted.path);
  }
  if (fresh != 0 && unshare(fresh) != 0) return errno_error("cannot make the holder's namespaces");
  return {};
}

// What is said between a holder and who has forked it: each of the holder's two steps ends with kDone, or with the error's text and the
// holder's end; the second begins with kGo.
constexpr char kDone = '+';
constexpr char kGo = 'g';

// Leaves nothing of the caller's: its session, standard streams, and descriptors but the two given.
Result<void> leave_caller(UniqueFd& socket, UniqueFd& talk) {
  setsid();
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return errno_error("/dev/null");
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null.get(), fd);
  null.reset();
  log::to_descriptor(-1);
  int high = std::max(socket.get(), talk.get()) + 1;
  for (UniqueFd* fd : {&socket, &talk}) {
    int moved = fcntl(fd->get(), F_DUPFD_CLOEXEC, high);
    if (moved < 0) return errno_error("fcntl");
    fd->reset(moved);
  }
  close_range(STDERR_FILENO + 1, static_cast<unsigned>(socket.get()) - 1, 0);
  close_range(static_cast<unsigned>(socket.get()) + 1, static_cast<unsigned>(talk.get()) - 1, 0);
  close_range(static_cast<unsigned>(talk.get()) + 1, ~0U, 0);
  return {};
}

class Holder {
 public:
  Holder(const HolderRequest& request, host::EventLoop& loop, UniqueFd socket)
      : request_(request), loop_(loop), client_(loop, std::move(socket), [this] { loop_.stop(); }) {}

  // Waits for the process. Returns its status.
  int run(UniqueFd talk) {
    Result<UniqueFd> signals = take_signals();
    if (!signals.ok()) return fail(talk, signals.error());
    if (Result<void> added = loop_.add(signals->get(), EPOLLIN_, [this, fd = signals->get()](uint32_t) { pass_on(fd); }); !added.ok())
      return fail(talk, added.error());
    wait();
    say(talk, {&kDone, 1});
    talk.reset();
    if (!loop_.run().ok()) return kSandboxGone;
    return status_;
  }

  static void say(UniqueFd& talk, std::string_view text) {
    (void)TEMP_FAILURE_RETRY(send(talk.get(), text.data(), text.size(), MSG_NOSIGNAL));
  }
  static int fail(UniqueFd& talk, const Error& error) {
    say(talk, error.message());
    return kSandboxGone;
  }

 private:
  static constexpr uint32_t EPOLLIN_ = 1;

  static Result<UniqueFd> take_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGPIPE}) sigaddset(&set, signal);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) sigaddset(&set, signal);
    sigprocmask(SIG_SETMASK, &set, nullptr);
    UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd) return errno_error("signalfd");
    return fd;
  }

  void pass_on(int fd) {
    signalfd_siginfo info{};
    while (read(fd, &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGPIPE) continue;
      sandbox::v1::SignalProcessRequest request;
      request.set_container_id(request_.container_id);
      request.set_exec_id(request_.exec_id);
      request.set_signal(static_cast<int>(info.ssi_signo));
      call_sandbox<sandbox::v1::SignalProcessResponse>(client_, "SignalProcess", request, std::chrono::seconds(30),
                                                       [](Result<sandbox::v1::SignalProcessResponse>) {});
    }
  }

  void wait() {
    sandbox::v1::WaitProcessRequest request;
    request.set_container_id(request_.container_id);
    request.set_exec_id(request_.exec_id);
    request.set_stand_in(true);
    call_sandbox<sandbox::v1::WaitProcessResponse>(client_, "WaitProcess", request, {},
                                                   [this](Result<sandbox::v1::WaitProcessResponse> response) {
                                                     if (response.ok()) status_ = response->exit_status() & 0xff;
                                                     if (!response.ok() || request_.exec_id.empty()) return loop_.stop();
                                                     forget();
                                                   });
  }

  // An ended exec's record is of no more use to anybody.
  void forget() {
    sandbox::v1::DeleteRequest request;
    request.set_container_id(request_.container_id);
    request.set_exec_id(request_.exec_id);
    call_sandbox<sandbox::v1::DeleteResponse>(client_, "Delete", request, std::chrono::seconds(5),
                                              [this](Result<sandbox::v1::DeleteResponse>) { loop_.stop(); });
  }

  const HolderRequest& request_;
  host::EventLoop& loop_;
  rpc::AsyncClient client_;
  int status_ = kSandboxGone;
};

[[noreturn]] void holder_main(const HolderRequest& request, UniqueFd socket, UniqueFd talk) {
  set_title(request);
  Result<void> ready = leave_caller(socket, talk);
  if (ready.ok()) ready = enter_namespaces(request);
  if (!ready.ok()) _exit(Holder::fail(talk, ready.error()));
  Holder::say(talk, {&kDone, 1});
  char go = 0;
  if (TEMP_FAILURE_RETRY(read(talk.get(), &go, 1)) != 1 || go != kGo) _exit(kSandboxGone);  // there will be no process
  if (!request.rootfs.empty()) ready = enter_rootfs(request.rootfs, request.binds);
  if (!ready.ok()) _exit(Holder::fail(talk, ready.error()));
  Result<std::unique_ptr<host::EventLoop>> loop = host::EventLoop::create();
  if (!loop.ok()) _exit(Holder::fail(talk, loop.error()));
  Holder holder(request, **loop, std::move(socket));
  _exit(holder.run(std::move(talk)));
}

}  // namespace

void remember_arguments(int argc, char** argv) {
  if (argc < 1) return;
  arguments_start = argv[0];
  arguments_size = static_cast<size_t>(argv[argc - 1] + std::strlen(argv[argc - 1]) + 1 - argv[0]);
}

Result<HolderProcess> HolderProcess::start(const HolderRequest& request) {
  // Connected before the fork: the sandbox cannot end unnoticed between our return and the holder's first call.
  sandbox::SandboxClient client = TRY(sandbox::SandboxClient::connect(request.socket));
  UniqueFd socket(fcntl(client.fd(), F_DUPFD_CLOEXEC, 3));
  if (!socket) return errno_error("cannot make a holder");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return errno_error("cannot make a holder");
  UniqueFd ours(ends[0]), theirs(ends[1]);
  pid_t pid = fork();
  if (pid < 0) return errno_error("cannot fork a holder");
  if (pid == 0) {
    ours.reset();
    holder_main(request, std::move(socket), std::move(theirs));
  }
  theirs.reset();
  HolderProcess holder(pid, std::move(ours));
  TRY(holder.answer());
  return holder;
}

HolderProcess::~HolderProcess() {
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  TEMP_FAILURE_RETRY(waitpid(pid_, nullptr, 0));
}

Result<void> HolderProcess::answer() {
  char text[1024];
  ssize_t length = TEMP_FAILURE_RETRY(read(talk_.get(), text, sizeof text));
  if (length == 1 && text[0] == kDone) return {};
  if (length <= 0) return make_error(EIO, "cannot make a holder: it has ended");
  return make_error(EIO, "cannot make a holder: {}", std::string_view(text, static_cast<size_t>(length)));
}

Result<pid_t> HolderProcess::wait_for_process() {
  if (TEMP_FAILURE_RETRY(send(talk_.get(), &kGo, 1, MSG_NOSIGNAL)) != 1) return errno_error("cannot make a holder: it has ended");
  TRY(answer());
  return std::exchange(pid_, 0);
}

Result<pid_t> start_holder(const HolderRequest& request) {
  HolderProcess holder = TRY(HolderProcess::start(request));
  return holder.wait_for_process();
}

}  // namespace caisson::cli
