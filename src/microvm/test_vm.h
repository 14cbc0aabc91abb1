// For tests: a VM whose guest runs test_init.c, and questions to it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "host/event_loop.h"
#include "microvm/hypervisor.h"

namespace caisson::microvm {

class TestVm {
 public:
  TestVm();
  ~TestVm();

  // Configuration for an image of the cache with test_init as its agent; the reason where that cannot be had.
  Result<VmConfig> config(const std::string& guest, const std::string& machine, const std::string& share, int share_namespace);
  // Starts and waits for the guest's Hello; the seconds that took.
  Result<double> boot(const VmConfig& config);
  // One line there, one line back.
  Result<std::string> ask(const std::string& question);
  // Runs the loop until done() or the time is over.
  bool run_until(const std::function<bool()>& done, std::chrono::milliseconds limit);

  std::unique_ptr<host::EventLoop> loop;
  std::unique_ptr<Hypervisor> vm;
  std::string folder;  // of its own, removed at the end
  sandbox::Leftovers saved;
  int saves = 0;
  std::string failure;  // what Hypervisor::Events::failed said

 private:
  UniqueFd agent_;
  std::string received_;
};

}  // namespace caisson::microvm
