// Mirror: volumes that are kept in the guest's memory.
#include <sys/mount.h>

#include "agent/agent_sandbox.h"
#include "agent/guest_init.h"
#include "agent/mirror.h"
#include "host/files.h"
#include "host/worker.h"

namespace caisson::agent {
namespace {

constexpr std::chrono::seconds kPatience{20};
// Of all mirrors of the guest; a configMap or secret has 1 MiB at most.
constexpr const char* kMirrorLimits = "mode=0755,size=32m,nr_inodes=16k";

// "c1" or "c1/m2".
bool is_below(const std::string& name) {
  return !name.empty() && name.front() != '/' && name.find("..") == std::string::npos && name.find('\0') == std::string::npos;
}

Result<void> mount_mirrors() {
  TRY(host::mkdir_p(kMirrorFolder));
  if (mount("caisson-mirror", kMirrorFolder, "tmpfs", MS_NOSUID | MS_NODEV, kMirrorLimits) != 0)
    return errno_error("mount the mirrors' memory");
  return {};
}

}  // namespace

void AgentSandbox::Mirror(v1::MirrorRequest request, rpc::Descriptors, Reply<v1::MirrorResponse> reply) {
  if (!is_below(request.name())) return reply(make_error(EINVAL, "name: must be a relative path"));
  if (!std::exchange(has_mirrors_, true)) {
    if (auto mounted = mount_mirrors(); !mounted.ok()) return reply(std::move(mounted).error());
  }
  host::run_worker(
      loop_, {.deadline = kPatience, .keep_fds = std::vector<int>{}},
      [request]() -> Result<host::WorkerOutput> {
        const std::string target = fmt::format("{}/{}", kMirrorFolder, request.name());
        if (request.remove())
          TRY(host::remove_tree(target));
        else
          TRY(mirror_volume(fmt::format("{}/{}", kShareFolder, request.name()), target));
        return host::WorkerOutput{};
      },
      [reply](Result<host::WorkerOutput> output) {
        if (!output.ok()) return reply(std::move(output).error());
        reply(v1::MirrorResponse());
      });
}

}  // namespace caisson::agent
