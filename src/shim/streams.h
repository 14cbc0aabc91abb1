// A process's standard streams as containerd names them: nothing (null), a fifo's path, file:///path, binary:///program?key=value.
//
// Without a terminal the process gets the descriptors themselves and the shim only holds the fifos' other ends, so that a client may come
// and go: no byte passes through the shim. With a terminal the shim copies between the pty's master and the fifos.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::shim {

struct StreamNames {
  std::string in, out, err;
  bool terminal = false;
};

// Where a logger (binary://) runs for.
struct LoggerContext {
  std::string container_id;
  std::string namespace_;
};

class Streams {
 public:
  // Opens what the names say. ENOENT, EINVAL name the stream. Does not block: a fifo without a peer is opened all the same.
  static Result<std::unique_ptr<Streams>> open(host::EventLoop& loop, const StreamNames& names, const LoggerContext& context);
  ~Streams();

  // Calls ready once every logger has said that it is (closed its descriptor 5), or failed with ETIMEDOUT after 10 s, or ECHILD when it
  // ended first.
  void when_ready(std::function<void(Result<void>)> ready);

  // Borrowed; -1 is null. Valid until release().
  int in() const { return in_.get(); }
  int out() const { return out_.get(); }
  int err() const { return err_.get(); }
  // With a terminal: one end of a socket pair, for the pty's master to be sent to (the other end is ours). Borrowed.
  int console_socket() const { return console_remote_.get(); }

  // The process has its copies: close ours, so that readers see the end of file when it ends.
  void release();
  // No more standard input: the process reads end of file when the clients' ends are closed too.
  void close_stdin();
  // Terminal: calls drained when everything that the pty held has been copied, 5 s at most after the call. Others: at once.
  void drain(std::function<void()> drained);

 private:
  struct Terminal;
  struct Logger;
  explicit Streams(host::EventLoop& loop);
  Result<UniqueFd> open_input(const std::string& name);
  Result<UniqueFd> open_output(const std::string& name);
  Result<void> open_terminal(const StreamNames& names);

  host::EventLoop& loop_;
  UniqueFd in_, out_, err_;
  UniqueFd stdin_holder_;              // keeps a fifo's write end open while no client does
  std::vector<UniqueFd> out_holders_;  // keep fifos' read ends open: a detached client must not raise SIGPIPE inside
  UniqueFd console_remote_;
  std::unique_ptr<Terminal> terminal_;
  std::unique_ptr<Logger> logger_;
};

// Parts of a stream's URI.
struct StreamUri {
  std::string scheme;  // "fifo" where there is none, "file", "binary"
  std::string path;
  std::vector<std::pair<std::string, std::string>> parameters;
};
Result<StreamUri> parse_stream_uri(const std::string& name);

}  // namespace caisson::shim
