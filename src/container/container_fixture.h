// For this folder's tests: a busybox root file system, and containers made of it the way the sandbox process makes them (worker processes,
// init a child of the test).
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "container/container.h"
#include "host/event_loop.h"
#include "oci/parse.h"

namespace caisson::container::testing {

// A folder below /tmp that goes away with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A pty's master that came over a console socket, or the read ends of pipes.
struct Output {
  UniqueFd out, err, console;
};

class ContainerTest : public ::testing::Test {
 protected:
  // Skips with the reason where containers cannot be made at all.
  void SetUp() override;
  void TearDown() override;

  // `runc spec`'s configuration without a terminal, running a shell command in the busybox root.
  oci::Spec shell_spec(const std::string& command) const;
  static oci::Process shell_process(const oci::Spec& spec, const std::string& command);

  Result<void> create(const oci::Spec& spec, CreateOptions options = {}, std::vector<UniqueFd> preserved = {});
  Result<void> start(const oci::Spec& spec);
  struct Ended {
    int status = 0;  // exit status, or 128 + signal
    std::string out, err;
  };
  // The exec, awaited. A missing pid means that it could not be started.
  Result<Ended> exec(const oci::Spec& spec, const oci::Process& process, ExecOptions options = {});
  // Waits for init, 20 s at most.
  Ended wait();
  Result<void> destroy(const oci::Spec* spec = nullptr);

  // create, start, wait, destroy; what the first of them that fails says.
  Result<Ended> run(const oci::Spec& spec, CreateOptions options = {}, std::vector<UniqueFd> preserved = {});
  // run(), which must end with 0: its output.
  std::string output_of(const oci::Spec& spec);

  const std::string& bundle() const { return folder_.path(); }
  std::string rootfs() const { return folder_.path() + "/rootfs"; }
  const Record& record() const { return record_; }
  // Runs work in a worker process, as the sandbox process does.
  Result<void> in_worker(std::function<Result<void>()> work);

 private:
  Result<std::pair<std::string, std::vector<UniqueFd>>> call(std::function<Result<std::pair<std::string, std::vector<UniqueFd>>>()> work);
  Result<Ended> collect(pid_t pid, Output output);
  struct Streams {
    Stdio stdio;
    Output output;
  };
  Result<Streams> make_streams(bool terminal);
  void take_console(Output& output);

  TemporaryFolder folder_;
  std::unique_ptr<host::EventLoop> loop_;
  std::string id_;
  Record record_;
  std::optional<Created> created_;
  Output output_;
  bool running_ = false;
};

}  // namespace caisson::container::testing
