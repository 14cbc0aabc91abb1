// update.
#include <unistd.h>

#include "cli/command.h"
#include "cli/lifecycle.h"
#include "cli/update_flags.h"
#include "host/files.h"
#include "oci/parse.h"

namespace caisson::cli {
namespace {

namespace v1 = sandbox::v1;

struct Ignored {
  std::string kernel_memory, kernel_memory_tcp, l3_cache_schema, mem_bw_schema;
};

void declare(Arguments& arguments, UpdateFlags& flags, Ignored& ignored) {
  arguments.option("--blkio-weight", flags.blkio_weight, "N", "Block I/O weight, 10 to 1000");
  arguments.option("--cpu-period", flags.cpu_period, "US", "CFS period in microseconds");
  arguments.option("--cpu-quota", flags.cpu_quota, "US", "CPU time in each period, in microseconds; -1: no limit");
  arguments.option("--cpu-burst", flags.cpu_burst, "US", "CPU time that may be saved up, in microseconds");
  arguments.option("--cpu-share", flags.cpu_share, "N", "CPU shares (relative weight)");
  arguments.option("--cpu-rt-period", flags.cpu_rt_period, "US", "Real-time period in microseconds");
  arguments.option("--cpu-rt-runtime", flags.cpu_rt_runtime, "US", "Real-time CPU time in each period, in microseconds");
  arguments.option("--cpu-idle", flags.cpu_idle, "N", "1: only what CPU time others leave");
  arguments.option("--cpuset-cpus", flags.cpuset_cpus, "LIST", "CPUs to use, 0-1,3");
  arguments.option("--cpuset-mems", flags.cpuset_mems, "LIST", "Memory nodes to use");
  arguments.option("--memory", flags.memory, "BYTES", "Memory limit (64m, 1g...); -1: none");
  arguments.option("--memory-reservation", flags.memory_reservation, "BYTES", "Memory to keep when the node runs short");
  arguments.option("--memory-swap", flags.memory_swap, "BYTES", "Limit of memory and swap together; -1: none");
  arguments.option("--pids-limit", flags.pids_limit, "N", "Number of processes; -1: no limit");
  arguments.option("--kernel-memory", ignored.kernel_memory, "BYTES", "Refused: kernels since 5.16 have no such limit");
  arguments.option("--kernel-memory-tcp", ignored.kernel_memory_tcp, "BYTES", "Refused, likewise");
  arguments.option("--l3-cache-schema", ignored.l3_cache_schema, "TEXT", "Refused: resctrl is not supported");
  arguments.option("--mem-bw-schema", ignored.mem_bw_schema, "TEXT", "Refused: resctrl is not supported");
}

Result<void> refuse(const Ignored& ignored) {
  if (!ignored.kernel_memory.empty() || !ignored.kernel_memory_tcp.empty())
    return Error(ENOTSUP, "--kernel-memory: Linux has no such limit any more");
  if (!ignored.l3_cache_schema.empty() || !ignored.mem_bw_schema.empty())
    return Error(ENOTSUP, "--l3-cache-schema and --mem-bw-schema: resctrl is not supported");
  return {};
}

Result<std::string> read_resources(const std::string& path) {
  std::string text = path == "-" ? TRY(host::read_descriptor(STDIN_FILENO)) : TRY(host::read_file(path));
  // What is wrong with it is said here, with the file's name, before the sandbox is asked.
  Result<oci::Resources> parsed = oci::parse_resources(text);
  if (!parsed.ok()) return std::move(parsed).error().within("--resources " + path);
  return text;
}

}  // namespace

Result<int> update_command(Context& context) {
  std::string id, file;
  UpdateFlags flags;
  Ignored ignored;
  context.arguments.option("--resources,-r", file, "FILE",
                           "JSON file with linux.resources, - for standard input; the other options do not count then");
  declare(context.arguments, flags, ignored);
  context.arguments.positional("container-id", id, "The container");
  TRY(context.parse());
  Store store = open_store(context.globals);
  ContainerState state = TRY(store.load(id));
  if (file.empty()) TRY(refuse(ignored));
  std::string resources = file.empty() ? TRY(resources_from_flags(flags)) : TRY(read_resources(file));
  ContainerStatus status = TRY(container_status(store, state));
  if (status.status == "stopped") return Error(ESRCH, "container not running");
  sandbox::SandboxClient client = TRY(connect_sandbox(store, id));
  v1::UpdateContainerRequest request;
  request.set_container_id(id);
  request.set_resources(resources);
  TRY(client.UpdateContainer(request));
  return 0;
}

}  // namespace caisson::cli
