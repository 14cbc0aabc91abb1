#include "appkernel/sandbox.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <map>

#include "appkernel/translate.h"
#include "base/log.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/kernel_main.h"
#include "kernel/control/messages.h"
#include "kernel/task/kernel.h"
#include "sandbox/program.h"

namespace caisson::appkernel {
namespace {

Result<UniqueFd> memory_file(const char* name, const std::string& content) {
  UniqueFd file(memfd_create(name, MFD_CLOEXEC));
  if (!file) return errno_error("cannot make a memory file");
  for (size_t done = 0; done < content.size();) {
    const ssize_t written = write(file.get(), content.data() + done, content.size() - done);
    if (written < 0) return errno_error("cannot fill a memory file");
    done += static_cast<size_t>(written);
  }
  return file;
}

Result<std::pair<UniqueFd, UniqueFd>> make_channel() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return errno_error("cannot make a socket pair for the application kernel");
  return std::pair(UniqueFd(pair[0]), UniqueFd(pair[1]));
}

Result<UniqueFd> log_descriptor() {
  UniqueFd copy(log::descriptor() >= 0 ? fcntl(log::descriptor(), F_DUPFD_CLOEXEC, 3) : open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (!copy) return errno_error("cannot duplicate the log's descriptor");
  return copy;
}

// Puts what a process of ours needs before the descriptors that the user wants to have preserved (kernel/control/descriptors.h).
Result<void> add_own_descriptors(container::Stdio& stdio, UniqueFd channel, UniqueFd description) {
  std::vector<UniqueFd> all;
  all.push_back(std::move(channel));
  all.push_back(std::move(description));
  all.push_back(TRY(sandbox::open_own_program()));
  all.push_back(TRY(log_descriptor()));
  for (UniqueFd& fd : stdio.preserved) all.push_back(std::move(fd));
  stdio.preserved = std::move(all);
  return {};
}

class Keeper : public sandbox::ProcessKeeper {
 public:
  explicit Keeper(bool debug) : debug_(debug) {}

  Result<void> prepare_create(oci::Spec& spec, container::Stdio& stdio, container::CreateOptions& options) override {
    auto stand_in = std::make_shared<container::StandIn>();
    stand_in->program = kernel::kProgramFd - kernel::kChannelFd;
    stand_in->process = spec.process;
    kernel::v1::Start start;
    start.set_container_id(options.id);
    start.set_debug(debug_);
    start.set_strace(std::getenv("CAISSON_STRACE") != nullptr);
    TRY(divide(spec, start));
    start.mutable_process()->set_preserved(static_cast<uint32_t>(stdio.preserved.size()));
    if (start.hostname().empty()) start.set_hostname(own_hostname());
    become_stand_in(spec.process, "caisson-kernel " + options.id, kernel::kKernelCommand);
    auto [ours, theirs] = TRY(make_channel());
    TRY(add_own_descriptors(stdio, std::move(theirs), TRY(memory_file("kernel-start", start.SerializeAsString()))));
    channels_[options.id] = std::move(ours);
    options.stand_in = std::move(stand_in);
    return {};
  }

  Result<void> prepare_exec(const std::string& id, oci::Process& process, container::Stdio& stdio,
                            container::ExecOptions& options) override {
    const auto channel = channels_.find(id);
    if (channel == channels_.end()) return make_error(ESRCH, "container {} has no kernel process", id);
    auto stand_in = std::make_shared<container::StandIn>();
    stand_in->program = kernel::kProgramFd - kernel::kChannelFd;
    stand_in->process = process;
    kernel::v1::Process description = TRY(describe_process(process));
    description.set_preserved(static_cast<uint32_t>(stdio.preserved.size()));
    become_stand_in(process, "caisson-exec " + id, kernel::kExecCommand);
    auto [ours, theirs] = TRY(make_channel());
    TRY(add_own_descriptors(stdio, std::move(theirs), TRY(memory_file("kernel-exec", description.SerializeAsString()))));
    if (auto sent = kernel::send_message(channel->second.get(), kernel::MessageKind::Exec, 0, {ours.get()}); !sent.ok())
      return make_error(sent.error().value, "container {}: its kernel process does not take another process", id);
    options.stand_in = std::move(stand_in);
    return {};
  }

  void forget(const std::string& id) override { channels_.erase(id); }
  std::string kernel_release() const override { return kernel::kKernelRelease; }
  std::string kernel_version() const override { return kernel::kKernelVersion; }

 private:
  static std::string own_hostname() {
    char name[65] = {};
    return gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
  }

  bool debug_;
  std::map<std::string, UniqueFd> channels_;
};

}  // namespace

Result<std::unique_ptr<sandbox::Sandbox>> make_appkernel_sandbox(host::EventLoop& loop, const sandbox::SandboxContext& context,
                                                                 std::function<void()> ended) {
  sandbox::LocalSandboxOptions options;
  options.dir = context.dir;
  options.isolation = context.isolation;
  options.keep = context.keep;
  options.keeper = std::make_shared<Keeper>(context.debug);
  return sandbox::make_local_sandbox(loop, std::move(options), std::move(ended));
}

std::optional<int> run_hidden_command(int argc, char** argv) {
  if (argc != 2) return std::nullopt;
  const std::string_view command = argv[1];
  if (command == kernel::kKernelCommand) return kernel::kernel_process_main();
  if (command == kernel::kExecCommand) return kernel::kernel_exec_main();
  return std::nullopt;
}

}  // namespace caisson::appkernel
