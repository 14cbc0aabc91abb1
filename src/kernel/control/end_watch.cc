#include "kernel/control/end_watch.h"

#include <sys/wait.h>
#include <unistd.h>

#include "kernel/tty/terminal.h"

namespace caisson::kernel {

EndWatch::EndWatch(const Kernel::Started& started, int event) : group_(started.group), terminal_(started.terminal), event_(event) {
  group_->exited.add(*this);
}

EndWatch::~EndWatch() { group_->exited.remove(*this); }

void EndWatch::notify(Events) {
  const uint64_t one = 1;
  [[maybe_unused]] ssize_t ignored = write(event_, &one, sizeof one);
}

std::optional<int> EndWatch::outcome(Kernel& kernel) {
  {
    std::lock_guard guard(kernel.tasks);
    if (!group_->zombie) return std::nullopt;
  }
  draining_ = !delivered();
  if (draining_) return std::nullopt;
  return group_->exit.code == CLD_EXITED ? group_->exit.status : 128 + group_->exit.status;
}

// Its output has reached the engine's terminal (or somebody else still holds that open, or reads nothing: two seconds are enough then).
bool EndWatch::delivered() {
  if (!terminal_ || terminal_->output_over()) return true;
  if (patience_.is_never()) patience_ = Deadline::after(2'000'000'000);
  return patience_.left() == 0;
}

}  // namespace caisson::kernel
