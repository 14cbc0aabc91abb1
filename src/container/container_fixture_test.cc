#include "container/container_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <chrono>

#include "host/files.h"
#include "host/process.h"
#include "host/worker.h"

namespace caisson::container::testing {
namespace {

constexpr const char* kApplets[] = {"sh",     "ash",      "cat",    "ls",   "id",   "mount", "umount", "hostname", "sleep",
                                    "true",   "false",    "echo",   "stat", "ps",   "grep",  "touch",  "mkdir",    "tty",
                                    "stty",   "readlink", "env",    "pwd",  "kill", "head",  "wc",     "ip",       "mknod",
                                    "rm",     "awk",      "cut",    "sort", "ln",   "date",  "dd",     "test",     "chroot",
                                    "printf", "df",       "uptime", "seq",  "sed",  "tr",    "getopt", "ulimit"};

void copy_file(const std::string& from, const std::string& to) {
  auto bytes = host::read_file(from, 64 << 20);
  ASSERT_TRUE(bytes.ok()) << bytes.error().message();
  UniqueFd out(open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755));
  ASSERT_TRUE(out.valid());
  ASSERT_TRUE(host::write_all(out.get(), *bytes).ok());
}

// What the sandbox process has to do too: processes that could not be set up are its children, and as zombies they would keep the
// container's PID namespace alive.
void reap_strangers(pid_t known) {
  auto text = host::read_file(fmt::format("/proc/self/task/{}/children", getpid()), 1 << 16);
  if (!text) return;
  for (const char* at = text->c_str(); *at != '\0';) {
    char* end = nullptr;
    const pid_t pid = static_cast<pid_t>(strtol(at, &end, 10));
    if (end == at) break;
    if (pid != known) waitpid(pid, nullptr, WNOHANG | __WALL);
    at = end;
    while (*at == ' ') ++at;
  }
}

// Reads what is there until end of file; stops when `pid` has ended and nothing more comes.
struct Reader {
  UniqueFd* fd;
  std::string* text;
};

}  // namespace

TemporaryFolder::TemporaryFolder() {
  char name[] = "/tmp/caisson-test-XXXXXX";
  if (mkdtemp(name) != nullptr) path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  if (!path_.empty()) (void)host::remove_tree(path_);
}

void ContainerTest::SetUp() {
  if (geteuid() != 0) GTEST_SKIP() << "containers are made by root only";
  if (access("/usr/bin/busybox", X_OK) != 0) GTEST_SKIP() << "needs /usr/bin/busybox (package busybox-static)";
  auto loop = host::EventLoop::create();
  ASSERT_TRUE(loop.ok());
  loop_ = std::move(*loop);
  static int count = 0;
  id_ = fmt::format("caisson-test-{}-{}", getpid(), ++count);
  for (const char* name : {"", "/bin", "/etc", "/proc", "/sys", "/dev", "/tmp", "/root"}) ASSERT_TRUE(host::mkdir_p(rootfs() + name).ok());
  chmod(bundle().c_str(), 0755);
  copy_file("/usr/bin/busybox", rootfs() + "/bin/busybox");
  for (const char* applet : kApplets) ASSERT_EQ(symlink("busybox", (rootfs() + "/bin/" + applet).c_str()), 0);
  ASSERT_TRUE(
      host::write_file_atomic(rootfs() + "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n", 0644).ok());
}

void ContainerTest::TearDown() {
  if (running_) (void)destroy();
  // Children that nobody waited for: inits of creations that failed.
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

oci::Spec ContainerTest::shell_spec(const std::string& command) const {
  auto spec = oci::parse_spec(oci::default_spec_json(false, 0, 0));
  EXPECT_TRUE(spec.ok()) << spec.error().message();
  spec->root.path = rootfs();
  spec->root.readonly = false;
  spec->linux_.cgroups_path = "/" + id_;
  spec->process.terminal = false;
  spec->process.rlimits.clear();
  spec->process.args = {"/bin/sh", "-c", command};
  return std::move(*spec);
}

oci::Process ContainerTest::shell_process(const oci::Spec& spec, const std::string& command) {
  oci::Process process = spec.process;
  process.args = {"/bin/sh", "-c", command};
  return process;
}

Result<std::pair<std::string, std::vector<UniqueFd>>> ContainerTest::call(
    std::function<Result<std::pair<std::string, std::vector<UniqueFd>>>()> work) {
  Result<std::pair<std::string, std::vector<UniqueFd>>> outcome = make_error(EIO, "the worker gave no result");
  host::run_worker(
      *loop_, {.deadline = std::chrono::seconds(40)},
      [&]() -> Result<host::WorkerOutput> {
        auto done = work();
        if (!done) return std::move(done).error();
        return host::WorkerOutput{.payload = std::move(done->first), .fds = std::move(done->second)};
      },
      [&](Result<host::WorkerOutput> done) {
        if (done)
          outcome = std::make_pair(std::move(done->payload), std::move(done->fds));
        else
          outcome = std::move(done).error();
        loop_->stop();
      });
  TRY(loop_->run());
  return outcome;
}

Result<void> ContainerTest::in_worker(std::function<Result<void>()> work) {
  (void)TRY(call([&]() -> Result<std::pair<std::string, std::vector<UniqueFd>>> {
    TRY(work());
    return std::make_pair(std::string(), std::vector<UniqueFd>());
  }));
  return {};
}

Result<ContainerTest::Streams> ContainerTest::make_streams(bool terminal) {
  Streams streams;
  if (terminal) {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) return errno_error("socketpair");
    streams.output.console.reset(sockets[0]);
    streams.stdio.console_socket.reset(sockets[1]);
    return streams;
  }
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return errno_error("pipe");
  streams.output.out.reset(out[0]);
  streams.output.err.reset(err[0]);
  streams.stdio.out.reset(out[1]);
  streams.stdio.err.reset(err[1]);
  return streams;
}

void ContainerTest::take_console(Output& output) {
  if (!output.console) return;
  char name[256];
  std::vector<UniqueFd> fds;
  auto size = host::recv_with_fds(output.console.get(), name, sizeof name, fds);
  EXPECT_TRUE(size.ok() && *size > 0 && fds.size() == 1) << "no terminal came over the console socket";
  if (fds.size() != 1) return;
  EXPECT_TRUE(std::string_view(name, *size).starts_with("/dev/pts/")) << std::string(name, *size);
  output.out = std::move(fds[0]);
  output.console.reset();
}

Result<void> ContainerTest::create(const oci::Spec& spec, CreateOptions options, std::vector<UniqueFd> preserved) {
  options.id = id_;
  options.bundle = bundle();
  Streams streams = TRY(make_streams(spec.process.terminal));
  streams.stdio.preserved = std::move(preserved);
  auto made = call([&]() -> Result<std::pair<std::string, std::vector<UniqueFd>>> {
    Created created = TRY(container::create(spec, options, std::move(streams.stdio)));
    std::vector<UniqueFd> fds;
    fds.push_back(std::move(created.pidfd));
    fds.push_back(std::move(created.start));
    return std::make_pair(record_to_json(created.record), std::move(fds));
  });
  streams.stdio = Stdio{};
  if (!made) reap_strangers(running_ ? record_.pid : 0);
  if (!made) return std::move(made).error();
  record_ = TRY(record_from_json(made->first));
  created_ =
      Created{.record = record_, .pidfd = std::move(made->second[0]), .start = std::move(made->second[1]), .seccomp_listener = UniqueFd()};
  running_ = true;
  output_ = std::move(streams.output);
  take_console(output_);
  return {};
}

Result<void> ContainerTest::start(const oci::Spec& spec) {
  auto done = in_worker([&] { return container::start(record_, spec, std::move(created_->start)); });
  created_->start.reset();
  return done;
}

Result<ContainerTest::Ended> ContainerTest::collect(pid_t pid, Output output) {
  Ended ended;
  std::vector<Reader> readers;
  if (output.out) readers.push_back({&output.out, &ended.out});
  if (output.err) readers.push_back({&output.err, &ended.err});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!readers.empty()) {
    std::vector<pollfd> entries;
    for (const Reader& reader : readers) entries.push_back({.fd = reader.fd->get(), .events = POLLIN});
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0 || poll(entries.data(), entries.size(), static_cast<int>(left)) == 0) {
      ::kill(pid, SIGKILL);
      waitpid(pid, nullptr, __WALL);
      return make_error(ETIMEDOUT, "the process did not end; so far it wrote \"{}\" and \"{}\"", ended.out, ended.err);
    }
    for (size_t index = readers.size(); index-- > 0;) {
      if (entries[index].revents == 0) continue;
      char buffer[4096];
      const ssize_t count = read(readers[index].fd->get(), buffer, sizeof buffer);
      if (count > 0)
        readers[index].text->append(buffer, static_cast<size_t>(count));
      else
        readers.erase(readers.begin() + static_cast<ssize_t>(index));  // a pty's master gives EIO at the end
    }
  }
  int status = 0;
  if (waitpid(pid, &status, __WALL) != pid) return errno_error("process {} is not a child", pid);
  ended.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return ended;
}

Result<ContainerTest::Ended> ContainerTest::exec(const oci::Spec& spec, const oci::Process& process, ExecOptions options) {
  Streams streams = TRY(make_streams(process.terminal));
  auto made = call([&]() -> Result<std::pair<std::string, std::vector<UniqueFd>>> {
    Executed executed = TRY(container::exec(record_, spec, process, options, std::move(streams.stdio)));
    return std::make_pair(std::to_string(executed.pid), std::vector<UniqueFd>());
  });
  streams.stdio = Stdio{};
  if (!made) reap_strangers(running_ ? record_.pid : 0);
  if (!made) return std::move(made).error();
  take_console(streams.output);
  return collect(std::stoi(made->first), std::move(streams.output));
}

ContainerTest::Ended ContainerTest::wait() {
  auto ended = collect(record_.pid, std::move(output_));
  EXPECT_TRUE(ended.ok()) << ended.error().message();
  return ended ? std::move(*ended) : Ended{.status = -1};
}

Result<void> ContainerTest::destroy(const oci::Spec* spec) {
  running_ = false;
  if (created_) created_->start.reset();
  auto done = in_worker([&] { return container::destroy(record_, spec); });
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  return done;
}

Result<ContainerTest::Ended> ContainerTest::run(const oci::Spec& spec, CreateOptions options, std::vector<UniqueFd> preserved) {
  TRY(create(spec, std::move(options), std::move(preserved)));
  auto started = start(spec);
  if (!started) {
    (void)destroy(&spec);
    return std::move(started).error();
  }
  Ended ended = wait();
  TRY(destroy(&spec));
  return ended;
}

std::string ContainerTest::output_of(const oci::Spec& spec) {
  auto ended = run(spec);
  EXPECT_TRUE(ended.ok()) << ended.error().message();
  if (!ended) return "";
  EXPECT_EQ(ended->status, 0) << ended->out << ended->err;
  return ended->out;
}

}  // namespace caisson::container::testing
