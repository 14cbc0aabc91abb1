// sandbox_process_main: from the context to the end of the sandbox process.
#include "sandbox/process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "host/files.h"
#include "sandbox/context.h"
#include "sandbox/leftovers.h"

namespace caisson::sandbox {
namespace {

// A listening socket in the folder; by way of the folder's descriptor, since sun_path holds 108 bytes only (unix(7)).
Result<UniqueFd> listen_in(const std::string& dir) {
  UniqueFd folder(open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return errno_error("cannot open {}", dir);
  if (unlinkat(folder.get(), kSocketName, 0) != 0 && errno != ENOENT) return errno_error("cannot remove {}/{}", dir, kSocketName);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno_error("cannot make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder.get(), kSocketName);
  memcpy(address.sun_path, path.data(), path.size());
  const mode_t old = umask(0177);
  const int bound = bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int code = errno;
  umask(old);
  errno = code;
  if (bound != 0) return errno_error("cannot make the socket {}/{}", dir, kSocketName);
  if (listen(socket.get(), 128) != 0) return errno_error("cannot listen on {}/{}", dir, kSocketName);
  return socket;
}

void prepare_process() {
  prctl(PR_SET_NAME, "caisson-sandbox");
  signal(SIGPIPE, SIG_IGN);
  // What ends a session is no reason to leave containers alone: Shutdown or SIGKILL ends a sandbox process. Blocked, not ignored: workers
  // start with nothing blocked, and containers with every signal as it should be.
  sigset_t blocked;
  sigemptyset(&blocked);
  for (int signal : {SIGHUP, SIGINT, SIGTERM, SIGQUIT}) sigaddset(&blocked, signal);
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
}

// One sandbox process: what it serves, and when it ends.
class Host {
 public:
  explicit Host(std::unique_ptr<host::EventLoop> loop) : loop_(std::move(loop)) {}

  // Everything up to where calls can be answered.
  Result<void> set_up(int context_fd, const SandboxFactory& factory) {
    const std::string json = TRY(host::read_descriptor(context_fd));
    context_ = TRY(context_from_json(json));
    const std::string log = context_.log_path.empty() ? context_.dir + "/sandbox.log" : context_.log_path;
    TRY(log::configure(log, context_.log_json ? log::Format::Json : log::Format::Text,
                       context_.debug ? log::Level::Debug : log::Level::Info));
    lock_ = TRY(take_lock(context_.dir));
    listener_ = TRY(listen_in(context_.dir));
    sandbox_ = TRY(factory(*loop_, context_, [this] { end(); }));
    return {};
  }

  int serve(UniqueFd connection) {
    rpc::Server server(*loop_, [this](rpc::Call call) { dispatch(*sandbox_, std::move(call)); });
    auto started = server.add_listener(std::move(listener_));
    if (started) started = server.add_connection(std::move(connection), [this] { creator_left(); });
    if (started) started = loop_->run();
    if (!started) log::error("{}", started.error().message());
    server.close();
    unlink((context_.dir + "/" + kSocketName).c_str());
    return started ? 0 : 1;
  }

  // Nothing can be served: whoever started us is told why, with its first call.
  int refuse(UniqueFd connection, const Error& error) {
    log::error("{}", error.message());
    rpc::Server server(*loop_, [&](rpc::Call call) { call.respond(error); });
    if (server.add_connection(std::move(connection), [this] { loop_->stop(); })) (void)loop_->run();
    return 1;
  }

 private:
  // Not from inside the call that brought it about: its answer is still to be sent.
  void end() {
    loop_->post([this] { loop_->stop(); });
  }

  // The command that started us has gone. If it did not come to create a container, or nothing came of that, nobody knows of us.
  void creator_left() {
    if (context_.keep) return;
    sandbox_->Ping({}, {}, [this](Result<v1::PingResponse> answer) {
      if (answer && answer->container_ids_size() > 0) return;
      log::info("the caller has gone and left no container: the sandbox process ends");
      end();
    });
  }

  std::unique_ptr<host::EventLoop> loop_;
  SandboxContext context_;
  UniqueFd lock_;
  UniqueFd listener_;
  std::unique_ptr<Sandbox> sandbox_;
};

}  // namespace

int sandbox_process_main(int context_fd, int connection_fd, const SandboxFactory& factory) {
  UniqueFd context(context_fd), connection(connection_fd);
  if (fcntl(context_fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(connection_fd, F_SETFD, FD_CLOEXEC) != 0) return 1;
  prepare_process();
  auto loop = host::EventLoop::create();
  if (!loop) return 1;
  Host host(std::move(*loop));
  auto ready = host.set_up(context.get(), factory);
  context.reset();
  if (!ready) return host.refuse(std::move(connection), ready.error());
  return host.serve(std::move(connection));
}

}  // namespace caisson::sandbox
