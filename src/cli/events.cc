// events.
#include <fcntl.h>

#include <cstdio>

#include "cli/async_call.h"
#include "cli/command.h"
#include "cli/lifecycle.h"
#include "cli/stats.h"
#include "host/event_loop.h"

namespace caisson::cli {
namespace {

namespace v1 = sandbox::v1;

// Prints statistics at an interval, and every out-of-memory event, until the container has ended.
class Stream {
 public:
  Stream(host::EventLoop& loop, UniqueFd socket, std::string id, std::chrono::milliseconds interval)
      : loop_(loop), client_(loop, std::move(socket), [this] { loop_.stop(); }), id_(std::move(id)), interval_(interval) {}

  Result<int> run() {
    sample();
    listen();
    TRY(loop_.run());
    if (failure_) return std::move(*failure_);
    return 0;
  }

 private:
  void print(const std::string& line) {
    std::puts(line.c_str());
    // The reader has gone: nothing left to do.
    if (std::fflush(stdout) != 0) loop_.stop();
  }

  void sample() {
    v1::StatsRequest request;
    request.set_container_id(id_);
    call_sandbox<v1::StatsResponse>(client_, "Stats", request, std::chrono::seconds(30), [this](Result<v1::StatsResponse> stats) {
      if (stats.ok()) print(stats_event(id_, *stats));
      loop_.add_timer(interval_, [this] { sample(); });
    });
  }

  void listen() {
    v1::EventsRequest request;
    request.set_after_sequence(sequence_);
    call_sandbox<v1::EventsResponse>(client_, "Events", request, {}, [this](Result<v1::EventsResponse> response) {
      if (!response.ok()) {
        if (response.error().code() != ECONNRESET) failure_ = response.error();
        return loop_.stop();
      }
      // The first answer is history: what had happened before we came.
      bool news = sequence_ != 0;
      for (const v1::Event& event : response->events()) take(event, news);
      listen();
    });
  }

  void take(const v1::Event& event, bool news) {
    sequence_ = std::max(sequence_, event.sequence());
    if (event.container_id() != id_) return;
    if (news && event.kind() == v1::Event::OOM) print(oom_event(id_));
    if (event.kind() == v1::Event::DELETED || (event.kind() == v1::Event::EXITED && event.exec_id().empty())) loop_.stop();
  }

  host::EventLoop& loop_;
  rpc::AsyncClient client_;
  std::string id_;
  std::chrono::milliseconds interval_;
  uint64_t sequence_ = 0;
  std::optional<Error> failure_;
};

}  // namespace

Result<int> events_command(Context& context) {
  std::string id, interval = "5s";
  bool stats_only = false;
  context.arguments.flag("--stats", stats_only, "Print the statistics once and exit");
  context.arguments.option("--interval", interval, "DURATION", "Time between statistics (default 5s)");
  context.arguments.positional("container-id", id, "The container");
  TRY(context.parse());
  Result<std::chrono::milliseconds> every = parse_duration(interval);
  if (!every.ok()) return std::move(every).error().within("--interval");
  Store store = open_store(context.globals);
  ContainerStatus status = TRY(container_status(store, TRY(store.load(id))));
  if (status.status == "stopped") return make_error(ESRCH, "container with id {} is not running", id);
  sandbox::SandboxClient client = TRY(connect_sandbox(store, id));
  if (stats_only) {
    v1::StatsRequest request;
    request.set_container_id(id);
    v1::StatsResponse stats = TRY(client.Stats(request, {}, std::chrono::seconds(30)));
    std::puts(stats_event(id, stats).c_str());
    return 0;
  }
  UniqueFd socket(fcntl(client.fd(), F_DUPFD_CLOEXEC, 3));
  if (!socket) return errno_error("cannot duplicate a descriptor");
  std::unique_ptr<host::EventLoop> loop = TRY(host::EventLoop::create());
  return Stream(*loop, std::move(socket), id, *every).run();
}

}  // namespace caisson::cli
