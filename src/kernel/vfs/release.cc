#include "kernel/vfs/release.h"

#include <utility>
#include <vector>

namespace caisson::kernel {
namespace {
thread_local std::vector<std::shared_ptr<const void>>* t_pending = nullptr;
}

void release_flat(std::shared_ptr<const void> object) {
  if (!object) return;
  if (t_pending != nullptr) {
    t_pending->push_back(std::move(object));
    return;
  }
  std::vector<std::shared_ptr<const void>> pending;
  t_pending = &pending;
  object.reset();
  while (!pending.empty()) {
    object = std::move(pending.back());
    pending.pop_back();
    object.reset();
  }
  t_pending = nullptr;
}

}  // namespace caisson::kernel
