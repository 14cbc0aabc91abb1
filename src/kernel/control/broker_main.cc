// kernel_broker_main: a network broker that the sandbox process makes for a kernel process that has begun with less than one of its
// containers may now ask for.
#include <sys/prctl.h>
#include <unistd.h>

#include "kernel.pb.h"
#include "kernel/control/confine.h"
#include "kernel/control/container_setup.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/kernel_main.h"
#include "kernel/klog.h"
#include "kernel/net/broker.h"

namespace caisson::kernel {

void kernel_broker_main() {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const Result<v1::House> house = take_house();
  const Result<void> left = house ? leave_mounts() : house.error();
  if (!left) {
    klog(LogLevel::Error, "a network broker cannot start: %s", strerrordesc_np(left.error().value));
    _exit(1);
  }
  become_network_broker(UniqueFd(kChannelFd), -1, 0, house->bounding());
}

}  // namespace caisson::kernel
