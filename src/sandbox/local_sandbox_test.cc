// Containers of the namespace sandbox from end to end: a sandbox process, calls over its socket, busybox as the container's program.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <thread>

#include "host/files.h"
#include "host/process.h"
#include "sandbox/leftovers.h"
#include "sandbox/process.h"

namespace caisson::sandbox {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kBusybox = "/bin/busybox";

// A whole config.json; args is a JSON array.
std::string spec_json(const std::string& args, const std::string& extra = "") {
  return R"({"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/","env":["PATH=/bin"],"args":)" + args +
         R"(},"root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],)"
         R"("linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"}])" +
         extra + "}}";
}

class LocalSandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    if (access(kBusybox, X_OK) != 0) GTEST_SKIP() << "needs busybox-static";
    std::string pattern = testing::TempDir() + "caisson-local-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    top_ = pattern;
    dir_ = top_ + "/c1";
    ASSERT_TRUE(host::mkdir_p(dir_, 0700).ok());
    ASSERT_TRUE(host::mkdir_p(top_ + "/bundle/rootfs/bin").ok());
    ASSERT_TRUE(host::mkdir_p(top_ + "/bundle/rootfs/proc").ok());
    ASSERT_TRUE(host::mkdir_p(top_ + "/bundle/rootfs/dev").ok());
    ASSERT_TRUE(host::write_file_atomic(top_ + "/bundle/rootfs/bin/busybox", *host::read_file(kBusybox), 0755).ok());
    for (const char* name : {"sh", "sleep", "true", "false", "cat", "echo", "kill", "stty"})
      ASSERT_EQ(symlink("busybox", (top_ + "/bundle/rootfs/bin/" + name).c_str()), 0);
  }

  void TearDown() override {
    if (top_.empty()) return;
    client_.reset();
    auto freed = free_sandbox_folder(dir_);
    EXPECT_TRUE(freed.ok()) << freed.error().message();
    if (HasFailure()) return;
    EXPECT_TRUE(host::remove_tree(top_).ok());
    while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
  }

  void spawn(bool keep = false) {
    SandboxContext context{
        .dir = dir_, .id = "c1", .isolation = "namespace", .config = {}, .log_path = "", .log_json = false, .debug = true, .keep = keep};
    auto client = spawn_sandbox_process(context, &sandbox_);
    ASSERT_TRUE(client.ok()) << client.error().message();
    client_.emplace(std::move(*client));
  }

  std::string log() {
    auto text = host::read_file(dir_ + "/sandbox.log");
    return text ? *text : "";
  }

  // Creates c1 with its standard output and error in a pipe, whose other end is output_.
  Result<v1::CreateContainerResponse> create(const std::string& spec, bool sibling = false, const std::string& id = "c1") {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return errno_error("pipe");
    output_.reset(fds[0]);
    UniqueFd write_end(fds[1]);
    v1::CreateContainerRequest request;
    request.set_container_id(id);
    request.set_bundle(top_ + "/bundle");
    request.set_spec(spec);
    request.set_sibling(sibling);
    request.mutable_streams()->mutable_stdout()->set_descriptor(0);
    request.mutable_streams()->mutable_stderr()->set_descriptor(0);
    return client_->CreateContainer(request, {write_end.get()});
  }
  Result<v1::StartContainerResponse> start(const std::string& id = "c1") {
    v1::StartContainerRequest request;
    request.set_container_id(id);
    return client_->StartContainer(request);
  }
  Result<v1::WaitProcessResponse> wait(const std::string& exec_id = "", const std::string& id = "c1") {
    v1::WaitProcessRequest request;
    request.set_container_id(id);
    request.set_exec_id(exec_id);
    return client_->WaitProcess(request, {}, seconds(20));
  }
  Result<v1::DeleteResponse> remove(bool force = false, const std::string& id = "c1") {
    v1::DeleteRequest request;
    request.set_container_id(id);
    request.set_force(force);
    return client_->Delete(request);
  }
  Result<v1::ExecProcessResponse> exec(const std::string& exec_id, const std::string& args, UniqueFd* output = nullptr) {
    v1::ExecProcessRequest request;
    request.set_container_id("c1");
    request.set_exec_id(exec_id);
    request.set_process(R"({"user":{"uid":0,"gid":0},"cwd":"/","env":["PATH=/bin"],"args":)" + args + "}");
    UniqueFd write_end;
    std::vector<int> passed;
    if (output != nullptr) {
      int fds[2];
      if (pipe2(fds, O_CLOEXEC) != 0) return errno_error("pipe");
      output->reset(fds[0]);
      write_end.reset(fds[1]);
      request.mutable_streams()->mutable_stdout()->set_descriptor(0);
      passed.push_back(write_end.get());
    }
    return client_->ExecProcess(request, passed);
  }
  Result<v1::SignalProcessResponse> signal(int number, const std::string& exec_id = "", bool all = false) {
    v1::SignalProcessRequest request;
    request.set_container_id("c1");
    request.set_exec_id(exec_id);
    request.set_signal(number);
    request.set_all(all);
    return client_->SignalProcess(request);
  }
  v1::Status status() {
    v1::GetStateRequest request;
    request.set_container_id("c1");
    auto state = client_->GetState(request);
    return state ? state->status() : v1::STATUS_UNKNOWN;
  }
  // Kinds of all events so far, with the exec_id of those that have one.
  std::string events() {
    v1::EventsRequest request;
    auto response = client_->Events(request, {}, seconds(5));
    std::string text;
    if (!response) return response.error().message();
    for (const auto& event : response->events()) {
      if (!text.empty()) text += ' ';
      text += v1::Event::Kind_Name(event.kind());
      if (!event.exec_id().empty()) text += ":" + event.exec_id();
    }
    return text;
  }
  // Waits until the sandbox process, our child, has ended.
  bool sandbox_ended() {
    auto pidfd = host::open_pidfd(sandbox_);
    return !pidfd || host::wait_for_end(pidfd->get(), seconds(10));
  }

  std::string top_, dir_;
  std::optional<SandboxClient> client_;
  pid_t sandbox_ = 0;
  UniqueFd output_;
};

#define ASSERT_OK(expr)                                                        \
  do {                                                                         \
    const auto& outcome_ = (expr);                                             \
    ASSERT_TRUE(outcome_.ok()) << outcome_.error().message() << "\n" << log(); \
  } while (false)

TEST_F(LocalSandboxTest, LifeOfAContainer) {
  spawn();
  auto created = create(spec_json(R"(["echo","hello from inside"])"));
  ASSERT_OK(created);
  EXPECT_GT(created->pid(), 0);
  EXPECT_FALSE(created->reparented());
  EXPECT_EQ(status(), v1::STATUS_CREATED);
  EXPECT_TRUE(host::read_file(dir_ + "/container.json").ok());
  ASSERT_OK(start());
  auto waited = wait();
  ASSERT_OK(waited);
  EXPECT_EQ(waited->exit_status(), 0);
  EXPECT_GT(waited->exited_at_unix_nanos(), 0);
  EXPECT_EQ(*host::read_descriptor(output_.get()), "hello from inside\n");
  EXPECT_EQ(status(), v1::STATUS_STOPPED);
  EXPECT_EQ(events(), "CREATED STARTED EXITED");
  EXPECT_EQ(wait()->exit_status(), 0);  // as often as one asks
  auto deleted = remove();
  ASSERT_OK(deleted);
  EXPECT_EQ(deleted->exit_status(), 0);
  EXPECT_TRUE(sandbox_ended()) << "the sandbox process outlives its last container";
  EXPECT_FALSE(host::read_file(dir_ + "/container.json").ok());
  EXPECT_FALSE(host::read_file(leftovers_file(dir_, "c1")).ok());
}

TEST_F(LocalSandboxTest, ExitStatusAndSignals) {
  spawn();
  ASSERT_OK(create(spec_json(R"(["sh","-c","trap 'exit 7' TERM; echo ready; while :; do sleep 1; done"])")));
  EXPECT_FALSE(wait("absent").ok());
  ASSERT_OK(start());
  EXPECT_EQ(start().error().code(), EINVAL);
  char byte;
  ASSERT_EQ(read(output_.get(), &byte, 1), 1);
  EXPECT_EQ(remove().error().message(), "cannot delete container c1 that is not stopped: running");
  EXPECT_EQ(signal(1000).error().code(), EINVAL);
  ASSERT_OK(signal(SIGTERM));
  EXPECT_EQ(wait()->exit_status(), 7);
  auto dead = signal(SIGTERM);
  EXPECT_EQ(dead.error().code(), ESRCH);
  EXPECT_EQ(dead.error().message(), "container not running");
  ASSERT_OK(remove());
}

TEST_F(LocalSandboxTest, ExecProcesses) {
  spawn();
  ASSERT_OK(create(spec_json(R"(["sleep","1000"])")));
  ASSERT_OK(start());
  UniqueFd output;
  ASSERT_OK(exec("e1", R"(["sh","-c","echo pid $$; exit 3"])", &output));
  EXPECT_EQ(wait("e1")->exit_status(), 3);
  EXPECT_TRUE(host::read_descriptor(output.get())->starts_with("pid "));
  EXPECT_EQ(signal(SIGTERM, "e1").error().message(), "process already finished");
  EXPECT_EQ(exec("e1", R"(["true"])").error().code(), EEXIST);

  auto failed = exec("e2", R"(["/no/such/program"])");
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message().find("/no/such/program"), std::string::npos) << failed.error().message();
  EXPECT_EQ(wait("e2").error().code(), ENOENT);

  ASSERT_OK(exec("e3", R"(["sleep","1000"])"));
  ASSERT_OK(exec("e4", R"(["sleep","1000"])"));
  v1::ListProcessesRequest list;
  list.set_container_id("c1");
  auto processes = client_->ListProcesses(list);
  ASSERT_OK(processes);
  EXPECT_EQ(processes->processes_size(), 3);
  int named = 0;
  for (const auto& process : processes->processes()) {
    EXPECT_EQ(process.command(), "sleep 1000");
    named += process.exec_id() == "e3" || process.exec_id() == "e4";
  }
  EXPECT_EQ(named, 2);

  v1::DeleteRequest delete_exec;
  delete_exec.set_container_id("c1");
  delete_exec.set_exec_id("e3");
  EXPECT_EQ(client_->Delete(delete_exec).error().code(), EBUSY);
  delete_exec.set_force(true);
  EXPECT_EQ(client_->Delete(delete_exec)->exit_status(), 128 + SIGKILL);
  EXPECT_EQ(wait("e3").error().code(), ENOENT);

  // A failed exec leaves no zombie, which would keep the PID namespace from ending; and init's exit comes last.
  ASSERT_OK(signal(SIGKILL));
  EXPECT_EQ(wait()->exit_status(), 128 + SIGKILL);
  EXPECT_EQ(wait("e4")->exit_status(), 128 + SIGKILL);
  EXPECT_EQ(events(),
            "CREATED STARTED EXEC_ADDED:e1 EXEC_STARTED:e1 EXITED:e1 EXEC_ADDED:e2 EXEC_ADDED:e3 EXEC_STARTED:e3 EXEC_ADDED:e4 "
            "EXEC_STARTED:e4 EXITED:e3 EXITED:e4 EXITED");
  EXPECT_EQ(exec("e5", R"(["true"])").error().message(), "cannot exec in a stopped container");
  ASSERT_OK(remove());
}

// Processes that end before anybody asks for them, several callers at once: no end is missed.
TEST_F(LocalSandboxTest, ManyShortProcesses) {
  spawn();
  ASSERT_OK(create(spec_json(R"(["sleep","1000"])")));
  ASSERT_OK(start());
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([this, caller] {
      auto client = SandboxClient::connect(dir_ + "/" + kSocketName);
      ASSERT_TRUE(client.ok());
      for (int i = 0; i < 8; ++i) {
        v1::ExecProcessRequest request;
        request.set_container_id("c1");
        request.set_exec_id(fmt::format("{}-{}", caller, i));
        request.set_process(R"({"user":{"uid":0,"gid":0},"cwd":"/","args":["/bin/sh","-c","exit )" + std::to_string(i) + R"("]})");
        auto executed = client->ExecProcess(request);
        ASSERT_TRUE(executed.ok()) << executed.error().message();
        v1::WaitProcessRequest wait_request;
        wait_request.set_container_id("c1");
        wait_request.set_exec_id(request.exec_id());
        auto waited = client->WaitProcess(wait_request, {}, seconds(20));
        ASSERT_TRUE(waited.ok()) << waited.error().message();
        EXPECT_EQ(waited->exit_status(), i);
      }
    });
  for (std::thread& caller : callers) caller.join();
  ASSERT_OK(remove(true));
}

TEST_F(LocalSandboxTest, ManyShortContainers) {
  spawn(true);
  for (int i = 0; i < 10; ++i) {
    const std::string id = "c" + std::to_string(i);
    ASSERT_OK(create(spec_json(R"(["true"])"), i % 2 == 1, id));
    ASSERT_OK(start(id));
    auto waited = wait("", id);
    ASSERT_OK(waited);
    EXPECT_EQ(waited->exit_status(), 0);
    ASSERT_OK(remove(false, id));
  }
  const std::string all = events();
  std::string expected;
  for (int i = 0; i < 10; ++i) expected += std::string(i > 0 ? " " : "") + "CREATED STARTED EXITED DELETED";
  EXPECT_EQ(all, expected);
}

TEST_F(LocalSandboxTest, CreateFailureLeavesNothing) {
  spawn();
  auto failed = create(spec_json(R"(["true"])", R"(,"sysctl":{"net.no.such":"1"})"));
  ASSERT_FALSE(failed.ok());
  EXPECT_TRUE(sandbox_ended());
  EXPECT_FALSE(host::read_file(leftovers_file(dir_, "c1")).ok());
  EXPECT_FALSE(host::read_file(dir_ + "/container.json").ok());
}

TEST_F(LocalSandboxTest, BrokenSpecIsToldUnchanged) {
  spawn(true);
  auto failed = create("{\"ociVersion\":\"1.0.2\"");
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message().find("config.json"), std::string::npos) << failed.error().message();
  EXPECT_EQ(failed.error().code(), EINVAL);
  v1::PingRequest ping;
  EXPECT_EQ(client_->Ping(ping)->container_ids_size(), 0);
  EXPECT_EQ(create(spec_json(R"(["true"])"), false, "../x").error().code(), EINVAL);
  v1::ShutdownRequest shutdown;
  ASSERT_OK(client_->Shutdown(shutdown));
  EXPECT_TRUE(sandbox_ended());
}

TEST_F(LocalSandboxTest, ProgramThatCannotBeStarted) {
  spawn();
  auto created = create(spec_json(R"(["/absent"])"));
  // Found at create, as runc does, or at start.
  auto failed = created ? start() : Result<v1::StartContainerResponse>(std::move(created).error());
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message().find("/absent"), std::string::npos) << failed.error().message();
  EXPECT_TRUE(!created || wait().ok());
  EXPECT_TRUE(!created || remove().ok());
  EXPECT_TRUE(sandbox_ended());
}

TEST_F(LocalSandboxTest, DeleteOfWhatWasNeverStarted) {
  spawn();
  auto created = create(spec_json(R"(["true"])"));
  ASSERT_OK(created);
  auto deleted = remove();
  ASSERT_OK(deleted);
  EXPECT_NE(kill(created->pid(), 0), 0);
  EXPECT_TRUE(sandbox_ended());
}

TEST_F(LocalSandboxTest, PauseAndResume) {
  spawn();
  ASSERT_OK(create(spec_json(R"(["sh","-c","trap 'exit 5' TERM; echo; while :; do sleep 1; done"])")));
  v1::PauseContainerRequest pause;
  pause.set_container_id("c1");
  v1::ResumeContainerRequest resume;
  resume.set_container_id("c1");
  EXPECT_FALSE(client_->PauseContainer(pause).ok());
  ASSERT_OK(start());
  EXPECT_FALSE(client_->ResumeContainer(resume).ok());
  ASSERT_OK(client_->PauseContainer(pause));
  EXPECT_EQ(status(), v1::STATUS_PAUSED);
  EXPECT_FALSE(exec("e1", R"(["true"])").ok());
  ASSERT_OK(client_->ResumeContainer(resume));
  EXPECT_EQ(status(), v1::STATUS_RUNNING);
  ASSERT_OK(client_->PauseContainer(pause));
  // SIGKILL ends a paused container too.
  ASSERT_OK(signal(SIGKILL));
  EXPECT_EQ(wait()->exit_status(), 128 + SIGKILL);
  ASSERT_OK(remove());
}

TEST_F(LocalSandboxTest, PausedContainerIsDeletedByForce) {
  spawn();
  ASSERT_OK(create(spec_json(R"(["sleep","1000"])")));
  ASSERT_OK(start());
  v1::PauseContainerRequest pause;
  pause.set_container_id("c1");
  ASSERT_OK(client_->PauseContainer(pause));
  EXPECT_EQ(remove().error().code(), EBUSY);
  ASSERT_OK(remove(true));
  EXPECT_TRUE(sandbox_ended());
}

TEST_F(LocalSandboxTest, StatisticsAndResources) {
  spawn();
  ASSERT_OK(create(spec_json(R"(["sleep","1000"])", R"(,"resources":{"memory":{"limit":67108864},"pids":{"limit":50}})")));
  ASSERT_OK(start());
  v1::StatsRequest request;
  request.set_container_id("c1");
  auto stats = client_->Stats(request);
  ASSERT_OK(stats);
  EXPECT_GT(stats->memory_usage_bytes(), 0u);
  EXPECT_EQ(stats->memory_limit_bytes(), 67108864u);
  EXPECT_EQ(stats->pids_limit(), 50u);
  EXPECT_EQ(stats->pids_current(), 1u);
  v1::UpdateContainerRequest update;
  update.set_container_id("c1");
  update.set_resources(R"({"memory":{"limit":134217728}})");
  ASSERT_OK(client_->UpdateContainer(update));
  EXPECT_EQ(client_->Stats(request)->memory_limit_bytes(), 134217728u);
  update.set_resources("[]");
  EXPECT_EQ(client_->UpdateContainer(update).error().code(), EINVAL);
  ASSERT_OK(remove(true));
}

TEST_F(LocalSandboxTest, OutOfMemoryIsTold) {
  spawn();
  ASSERT_OK(create(spec_json(R"(["sh","-c","x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"])",
                             R"(,"resources":{"memory":{"limit":16777216,"swap":16777216}})")));
  ASSERT_OK(start());
  auto waited = wait();
  ASSERT_OK(waited);
  EXPECT_EQ(waited->exit_status(), 128 + SIGKILL);
  EXPECT_TRUE(waited->oom_killed());
  EXPECT_EQ(events(), "CREATED STARTED OOM EXITED");
  ASSERT_OK(remove());
}

TEST_F(LocalSandboxTest, TerminalGoesToTheConsoleSocketAndIsResized) {
  spawn();
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd ours(pair[0]), theirs(pair[1]);
  v1::CreateContainerRequest request;
  request.set_container_id("c1");
  request.set_bundle(top_ + "/bundle");
  std::string spec = spec_json(R"(["sh","-c","read line; stty size"])");
  spec.replace(spec.find("\"cwd\""), 0, "\"terminal\":true,");
  const std::string devpts =
      R"({"destination":"/dev","type":"tmpfs","source":"tmpfs"},{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["newinstance","ptmxmode=0666","mode=0620"]},)";
  spec.replace(spec.find("\"mounts\":[") + 10, 0, devpts);
  request.set_spec(spec);
  request.mutable_streams()->mutable_terminal()->set_descriptor(0);
  ASSERT_OK(client_->CreateContainer(request, {theirs.get()}));
  theirs.reset();
  char name[256];
  std::vector<UniqueFd> fds;
  auto count = host::recv_with_fds(ours.get(), name, sizeof name, fds);
  ASSERT_OK(count);
  ASSERT_EQ(fds.size(), 1u);
  ASSERT_OK(start());
  v1::ResizePtyRequest resize;
  resize.set_container_id("c1");
  resize.set_rows(33);
  resize.set_columns(111);
  ASSERT_OK(client_->ResizePty(resize));
  ASSERT_OK(host::write_all(fds[0].get(), "\n"));
  EXPECT_EQ(wait()->exit_status(), 0);
  std::string text;
  char buffer[256];
  for (ssize_t length; (length = read(fds[0].get(), buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(length));
  EXPECT_NE(text.find("33 111"), std::string::npos) << text;
  EXPECT_EQ(client_->ResizePty(resize).error().code(), ESRCH);
  ASSERT_OK(remove());
}

// Init as a child of this process, which reaps it: its status is known all the same.
TEST_F(LocalSandboxTest, SiblingInitIsOurs) {
  spawn();
  auto created = create(spec_json(R"(["sh","-c","exit 9"])"), true);
  ASSERT_OK(created);
  if (!created->reparented()) GTEST_SKIP() << "needs Linux 6.15";
  std::optional<Result<v1::WaitProcessResponse>> early;
  // Somebody waits from the beginning.
  auto other = SandboxClient::connect(dir_ + "/" + kSocketName);
  ASSERT_OK(other);
  std::thread waiter([&] {
    v1::WaitProcessRequest request;
    request.set_container_id("c1");
    early.emplace(other->WaitProcess(request, {}, seconds(20)));
  });
  ASSERT_OK(start());
  // Not reaped yet: a zombie's status is told too.
  EXPECT_EQ(wait()->exit_status(), 9);
  int wait_status = 0;
  EXPECT_EQ(waitpid(created->pid(), &wait_status, __WALL), created->pid());
  EXPECT_EQ(WEXITSTATUS(wait_status), 9);
  waiter.join();
  EXPECT_EQ((*early)->exit_status(), 9);
  ASSERT_OK(remove());
}

TEST_F(LocalSandboxTest, SandboxProcessIsKilledAndItsFolderFreed) {
  spawn();
  auto created = create(spec_json(R"(["sleep","1000"])"));
  ASSERT_OK(created);
  ASSERT_OK(start());
  auto init = host::open_pidfd(created->pid());
  ASSERT_OK(init);
  EXPECT_EQ(*lock_holder(dir_), sandbox_);
  auto leftovers = load_leftovers(leftovers_file(dir_, "c1"));
  ASSERT_OK(leftovers);
  ASSERT_EQ(leftovers->cgroups.size(), 1u);
  ASSERT_EQ(kill(sandbox_, SIGKILL), 0);
  ASSERT_TRUE(sandbox_ended());
  ASSERT_FALSE(host::wait_for_end(init->get(), milliseconds(0)));
  ASSERT_OK(free_sandbox_folder(dir_));
  EXPECT_TRUE(host::wait_for_end(init->get(), seconds(5)));
  EXPECT_NE(access(dir_.c_str(), F_OK), 0);
  for (const auto& [controller, folder] : leftovers->cgroups[0].folders) EXPECT_NE(access(folder.c_str(), F_OK), 0) << folder;
  ASSERT_OK(free_sandbox_folder(dir_));
}

TEST_F(LocalSandboxTest, LivingSandboxFolderIsFreed) {
  spawn();
  auto created = create(spec_json(R"(["sleep","1000"])"));
  ASSERT_OK(created);
  ASSERT_OK(start());
  ASSERT_OK(free_sandbox_folder(dir_));
  EXPECT_NE(access(dir_.c_str(), F_OK), 0);
  EXPECT_TRUE(sandbox_ended());
}

TEST_F(LocalSandboxTest, CallerThatLeavesAtOnce) {
  spawn();
  client_.reset();
  EXPECT_TRUE(sandbox_ended());
}

TEST_F(LocalSandboxTest, SecondSandboxOfOneFolderIsRefused) {
  spawn(true);
  v1::PingRequest ping;
  ASSERT_OK(client_->Ping(ping));
  auto first = std::move(client_);
  const pid_t first_pid = sandbox_;
  spawn(true);
  auto refused = client_->Ping(ping);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find("another sandbox process"), std::string::npos) << refused.error().message();
  EXPECT_EQ(*lock_holder(dir_), first_pid);
  EXPECT_TRUE(first->Ping(ping).ok());
}

TEST_F(LocalSandboxTest, ForceDeleteStopsAHookThatHangs) {
  spawn(true);
  std::string spec = spec_json(R"(["true"])");
  const std::string pid_file = top_ + "/hook.pid";
  spec.insert(spec.size() - 1,
              R"(,"hooks":{"createRuntime":[{"path":"/bin/sh","args":["sh","-c","echo $$ >)" + pid_file + R"(; exec sleep 1000"]}]})");
  EXPECT_EQ(status(), v1::STATUS_UNKNOWN);  // it listens from now on
  std::thread creator([&] {
    auto client = SandboxClient::connect(dir_ + "/" + kSocketName);
    ASSERT_TRUE(client.ok());
    v1::CreateContainerRequest request;
    request.set_container_id("c1");
    request.set_bundle(top_ + "/bundle");
    request.set_spec(spec);
    auto created = client->CreateContainer(request, {}, seconds(20));
    ASSERT_FALSE(created.ok());
    EXPECT_EQ(created.error().code(), ECANCELED) << created.error().message();
  });
  pid_t hook = 0;
  for (int i = 0; i < 1000 && hook == 0; ++i) {
    auto text = host::read_file(pid_file);
    if (text && text->ends_with("\n")) hook = std::stoi(*text);
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_EQ(status(), v1::STATUS_CREATING);
  auto removed = remove(true);
  creator.join();
  ASSERT_OK(removed);
  auto pidfd = host::open_pidfd(hook);
  EXPECT_TRUE(!pidfd || host::wait_for_end(pidfd->get(), seconds(5))) << "the hook is still there";
  v1::PingRequest ping;
  EXPECT_EQ(client_->Ping(ping)->container_ids_size(), 0);
}

TEST_F(LocalSandboxTest, ShutdownFreesAll) {
  spawn(true);
  ASSERT_OK(create(spec_json(R"(["sleep","1000"])", R"(,"cgroupsPath":"/caisson-test-one")")));
  ASSERT_OK(start());
  ASSERT_OK(create(spec_json(R"(["sleep","1000"])", R"(,"cgroupsPath":"/caisson-test-two")"), false, "c2"));
  EXPECT_EQ(create(spec_json(R"(["true"])"), false, "c2").error().code(), EEXIST);
  v1::ShutdownRequest shutdown;
  EXPECT_EQ(client_->Shutdown(shutdown).error().code(), EBUSY);
  shutdown.set_force(true);
  ASSERT_OK(client_->Shutdown(shutdown));
  EXPECT_TRUE(sandbox_ended());
}

// The cgroup of one container is not emptied for the sake of another that wanted it too.
TEST_F(LocalSandboxTest, CgroupInUseIsLeftAlone) {
  spawn(true);
  auto created = create(spec_json(R"(["sleep","1000"])", R"(,"cgroupsPath":"/caisson-test-shared")"));
  ASSERT_OK(created);
  ASSERT_OK(start());
  auto second = create(spec_json(R"(["sleep","1000"])", R"(,"cgroupsPath":"/caisson-test-shared")"), false, "c2");
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), EBUSY) << second.error().message();
  EXPECT_EQ(kill(created->pid(), 0), 0);
  ASSERT_OK(remove(true));
}

}  // namespace
}  // namespace caisson::sandbox
