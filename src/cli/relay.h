// Relay: bytes between our standard streams and a pty's master, on an event loop. Nothing blocks but a write to an ordinary file.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "cli/terminal.h"
#include "host/event_loop.h"

namespace caisson::cli {

class Relay {
 public:
  static Result<std::unique_ptr<Relay>> create(host::EventLoop& loop, UniqueFd master);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Gives the pty the size of our own terminal; false where we have none.
  bool resize();
  // The process has ended: calls done when all that it wrote has been written to our standard output.
  void finish(std::function<void()> done);

 private:
  Relay(host::EventLoop& loop, UniqueFd master) : loop_(loop), master_(std::move(master)) {}
  Result<void> start();
  void on_master(uint32_t events);
  void read_input();
  void write_input();
  void end_input();
  void pump_output();
  bool read_output();
  bool write_output();
  void watch();
  void watch_master();

  host::EventLoop& loop_;
  UniqueFd master_;
  std::optional<RawMode> raw_;
  std::string to_master_;
  std::string to_output_;
  bool input_open_ = true;
  bool input_watched_ = false;
  bool output_watched_ = false;
  bool master_quiet_ = false;  // nobody has the other side open just now
  bool master_ended_ = false;
  uint32_t master_events_ = 0;  // watched for; 0: not watched
  host::EventLoop::TimerId retry_ = 0;
  std::function<void()> done_;
};

}  // namespace caisson::cli
