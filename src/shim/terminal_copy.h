// Bytes between a pty's master and the fifos that containerd named.
#pragma once

#include <functional>
#include <string>

#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::shim {

class TerminalCopy {
 public:
  // Owns all three; input or output may be invalid (then output is read and thrown away, so that the process never blocks). ended() runs
  // once, when the pty's last slave has been closed and everything read from it has been written.
  TerminalCopy(host::EventLoop& loop, UniqueFd master, UniqueFd input, UniqueFd output, std::function<void()> ended);
  ~TerminalCopy();

 private:
  // One direction: what has been read and not yet written.
  struct Direction {
    std::string pending;
    bool source_open = true;
  };
  void update();
  void master_ready(uint32_t events);
  void input_ready();
  void output_ready();
  void watch(int fd, uint32_t wanted, uint32_t& current, std::function<void(uint32_t)> handler);

  host::EventLoop& loop_;
  UniqueFd master_, input_, output_;
  std::function<void()> ended_;
  Direction to_master_, to_output_;
  uint32_t master_events_ = 0, input_events_ = 0, output_events_ = 0;
};

}  // namespace caisson::shim
