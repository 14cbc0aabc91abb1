// JailedProcess: a jailed program as the event loop sees it, from its start to its end.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "host/event_loop.h"
#include "microvm/jail/jail.h"

namespace caisson::microvm {

class JailedProcess {
 public:
  struct Events {
    std::function<void()> running;               // the program has been executed
    std::function<void(Error)> failed;           // it could not be started
    std::function<void(int wait_status)> ended;  // it has ended, after running; reaped
  };
  // Prepares it; nothing is executed yet. spec.output must be -1: what the program prints is read here, the last of it kept (output_tail).
  // At most one of failed and ended is called, last.
  static Result<std::unique_ptr<JailedProcess>> create(host::EventLoop& loop, JailSpec spec, Events events);
  ~JailedProcess();  // kills

  // Lets it execute the program: when what must be freed after it has been written down.
  Result<void> go();
  // SIGKILL; returns when it has been reaped. No event comes after that.
  void kill();

  pid_t pid() const { return pid_; }  // 0 after its end
  // The last it has printed, made harmless, without a line feed at the end.
  std::string output_tail() const;
  const std::string& program() const { return program_; }  // its path

 private:
  JailedProcess(host::EventLoop& loop, const JailSpec& spec, Events events)
      : loop_(loop), what_(spec.what), program_(spec.arguments.empty() ? "" : spec.arguments[0]), events_(std::move(events)) {}
  Result<void> watch();
  void on_control();
  void on_output();
  void on_end();
  void forget();

  host::EventLoop& loop_;
  std::string what_, program_;
  Events events_;
  pid_t pid_ = 0;
  UniqueFd pidfd_, control_, output_;
  std::string control_text_, output_text_;
  // Handlers hold this weakly: a handler may destroy us.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// Appends to a text of which only the last `limit` bytes are wanted.
void append_bounded(std::string& text, std::string_view more, size_t limit);
// The last lines of a text, printable, without a line feed at the end.
std::string last_lines(std::string_view text, size_t lines);

}  // namespace caisson::microvm
