#include "agent/configure.h"

#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/utsname.h>

#include <cstring>
#include <ctime>
#include <vector>

#include "agent/guest_init.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "sandbox/network_message.h"

namespace caisson::agent {
namespace {

Result<void> set_clock(int64_t nanos) {
  timespec now = {.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
  if (clock_settime(CLOCK_REALTIME, &now) != 0) return errno_error("cannot set the guest's clock");
  return {};
}

// The host's randomness counts in full: without it a young guest's getrandom(2) would block, or clones of a template would draw the same
// numbers.
Result<void> add_entropy(const std::string& bytes) {
  std::vector<char> buffer(sizeof(rand_pool_info) + bytes.size() + sizeof(uint32_t));
  auto* pool = reinterpret_cast<rand_pool_info*>(buffer.data());
  pool->entropy_count = static_cast<int>(bytes.size() * 8);
  pool->buf_size = static_cast<int>(bytes.size());
  memcpy(pool->buf, bytes.data(), bytes.size());
  UniqueFd random(open("/dev/random", O_RDWR | O_CLOEXEC));
  if (!random.valid() || ioctl(random.get(), RNDADDENTROPY, pool) != 0) return errno_error("cannot add to the guest's randomness");
  ioctl(random.get(), RNDRESEEDCRNG);  // at once; older kernels have no such call
  return {};
}

// Files are the host's: caches must not outlive what is on the host. virtio-fs: as virtiofsd says (it revalidates). 9p: cache=mmap keeps
// only mapped and open files' pages, writes them back at close, and is the weakest mode in which shared writable mappings work.
Result<void> mount_share(const std::string& type, const std::string& tag) {
  const char* options = nullptr;
  if (type == "9p")
    options = "trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=client";
  else if (type != "virtiofs")
    return make_error(EINVAL, "share_type: must be \"virtiofs\" or \"9p\", is \"{}\"", type);
  if (mount(tag.c_str(), kShareFolder, type.c_str(), 0, options) == 0) return {};
  if (errno == ENODEV) return make_error(ENODEV, "the guest's kernel has no {} file system", type);
  return errno_error("cannot mount the shared tree ({}, tag \"{}\") in the guest", type, tag);
}

}  // namespace

Result<sandbox::v1::ConfigureResponse> configure_guest(const sandbox::v1::ConfigureRequest& request) {
  if (request.log_level() == "debug") (void)log::configure("", log::Format::Text, log::Level::Debug);
  if (request.time_unix_nanos() > 0) TRY(set_clock(request.time_unix_nanos()));
  if (!request.entropy().empty()) TRY(add_entropy(request.entropy()));
  if (!request.hostname().empty() && sethostname(request.hostname().data(), request.hostname().size()) != 0)
    return errno_error("cannot set the guest's host name to \"{}\"", request.hostname());
  if (!request.share_type().empty()) TRY(mount_share(request.share_type(), request.share_tag()));
  if (request.has_network()) TRY(host::apply_network(TRY(sandbox::network_from_message(request.network()))));
  utsname names = {};
  uname(&names);
  sandbox::v1::ConfigureResponse response;
  response.set_kernel_release(names.release);
  response.set_kernel_version(names.version);
  response.set_agent_version(CAISSON_VERSION);
  return response;
}

}  // namespace caisson::agent
