#include "appkernel/answer.h"

#include <poll.h>
#include <unistd.h>

#include <charconv>
#include <chrono>

#include "appkernel/channels.h"
#include "host/files.h"
#include "kernel/control/confine.h"
#include "kernel/platform/host_rows.h"
#include "sandbox/local/events.h"

namespace caisson::appkernel {
namespace {

namespace v1 = sandbox::v1;

constexpr int kPatience = 8000;  // milliseconds: less than the worker's deadline, so that the error is ours

// The last number of "NSpid:\t4711\t12": its number in the innermost PID namespace. 0: it has none of its own.
pid_t innermost_pid(pid_t pid) {
  auto status = host::read_file(fmt::format("/proc/{}/status", pid), 16384);
  if (!status) return 0;
  const size_t begin = status->find("\nNSpid:");
  if (begin == std::string::npos) return 0;
  const std::string_view line = std::string_view(*status).substr(begin + 7, status->find('\n', begin + 7) - begin - 7);
  const size_t last = line.rfind('\t');
  pid_t number = 0;
  if (last == 0 || last == line.npos) return 0;
  std::from_chars(line.data() + last + 1, line.data() + line.size(), number);
  return number;
}

class Answer : public sandbox::KernelAnswer {
 public:
  Answer(UniqueFd channel, std::map<int, std::string> execs, const kernel::v1::Limits& limits, bool beside)
      : channel_(std::move(channel)), execs_(std::move(execs)), limits_(limits), beside_(beside) {}

  int descriptor() const override { return channel_.get(); }

  Result<v1::DebugResponse> processes(const container::Record& record, const std::map<pid_t, std::string>& names) override {
    const UniqueFd file = TRY(receive());
    std::map<std::string, pid_t> stand_ins;
    for (const auto& [pid, exec_id] : names) stand_ins[exec_id] = pid;
    std::map<pid_t, pid_t> hosts;
    for (pid_t pid : TRY(container::processes(record)))
      if (const pid_t inside = innermost_pid(pid); inside > 0) hosts[inside] = pid;
    const kernel::v1::Processes all = TRY(read(file.get()));
    return translate_processes(all, execs_, stand_ins, hosts, record.pid, sandbox::local::unix_nanos_now());
  }

  Result<void> correct(v1::StatsResponse& stats) override {
    const UniqueFd file = TRY(receive());
    const kernel::v1::Processes all = TRY(read(file.get()));
    stats.set_pids_current(all.tasks());
    if (beside_) {
      stats.set_memory_usage_bytes(stats.memory_usage_bytes() + all.held_bytes());
      stats.set_memory_cache_bytes(stats.memory_cache_bytes() + all.held_bytes());
    }
    stats.set_pids_limit(limits_.has_pids() ? static_cast<uint64_t>(limits_.pids()) : 0);
    return {};
  }

 private:
  Result<UniqueFd> receive() {
    pollfd entry{channel_.get(), POLLIN, 0};
    const int ready = TEMP_FAILURE_RETRY(poll(&entry, 1, kPatience));
    if (ready <= 0) return make_error(ETIMEDOUT, "the application kernel does not answer");
    auto message = kernel::receive_message(channel_.get());
    if (!message) return make_error(ESRCH, "the application kernel has ended");
    if (message->kind != kernel::MessageKind::Answer || message->fds.size() != 1)
      return make_error(EPROTO, "the application kernel's answer is malformed");
    return std::move(message->fds[0]);
  }

  // The last thing that this worker needs rights for has been done: what a kernel process that has been taken makes of the reader is worth
  // nothing then.
  static Result<kernel::v1::Processes> read(int file) {
    if (auto dropped = kernel::drop_everything(kernel::make_answer_filter()); !dropped)
      return make_error(dropped.error().value, "the application kernel's answer cannot be read safely");
    auto text = kernel::read_description(file);
    kernel::v1::Processes all;
    if (!text || !all.ParseFromString(*text)) return make_error(EPROTO, "the application kernel's answer is malformed");
    return all;
  }

  UniqueFd channel_;
  std::map<int, std::string> execs_;
  kernel::v1::Limits limits_;
  bool beside_;
};

}  // namespace

Result<std::unique_ptr<sandbox::KernelAnswer>> ask_kernel(int channel, kernel::Question question, std::map<int, std::string> execs,
                                                          const kernel::v1::Limits& limits, bool beside) {
  auto [ours, theirs] = TRY(channel_pair());
  auto sent = kernel::send_message(channel, kernel::MessageKind::Ask, static_cast<int32_t>(question), {theirs.get()});
  if (!sent.ok()) return make_error(sent.error().value, "the application kernel cannot be asked: {}", strerrordesc_np(sent.error().value));
  return std::unique_ptr<sandbox::KernelAnswer>(std::make_unique<Answer>(std::move(ours), std::move(execs), limits, beside));
}

}  // namespace caisson::appkernel
