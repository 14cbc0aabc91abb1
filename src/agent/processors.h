// Processors that the host has added to the running machine.
#pragma once

#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::agent {

// Switches on every processor that is off, in sysfs's folder of them; what fails is a line in the log. How many have been switched on.
int switch_on_processors(const std::string& folder = "/sys/devices/system/cpu");

// Switches processors on as they come, for as long as it lives: a kernel waits for somebody to do it (elsewhere udev).
class ProcessorWatch {
 public:
  static Result<std::unique_ptr<ProcessorWatch>> create(host::EventLoop& loop);
  ~ProcessorWatch();

 private:
  ProcessorWatch(host::EventLoop& loop, UniqueFd events) : loop_(loop), events_(std::move(events)) {}
  void look();

  host::EventLoop& loop_;
  UniqueFd events_;
};

}  // namespace caisson::agent
