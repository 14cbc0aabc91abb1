#include "microvm/guest/program.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "base/utf8.h"
#include "host/process.h"

namespace caisson::microvm {
namespace {

constexpr int kTickMilliseconds = 200;

// Child: never returns. Says by a code on the pipe why the program could not be executed.
[[noreturn]] void execute(const Program& program, int in, int out, int err, int report) {
  host::reset_signals();
  int code = 0;
  if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) code = errno;
  if (code == 0 && !program.folder.empty() && chdir(program.folder.c_str()) != 0) code = errno;
  if (program.nice != 0) setpriority(PRIO_PROCESS, 0, program.nice);
  for (const auto& [name, value] : program.environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& argument : program.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  if (code == 0) {
    execvp(arguments[0], arguments.data());
    code = errno;
  }
  (void)!write(report, &code, sizeof code);
  _exit(127);
}

Result<UniqueFd> open_or_null(const std::string& path, int flags) {
  UniqueFd fd(open(path.empty() ? "/dev/null" : path.c_str(), flags | O_CLOEXEC, 0644));
  if (!fd) return errno_error("cannot open {}", path);
  return fd;
}

Result<void> wait_for(const Program& program, const host::Cloned& child) {
  int status = 0;
  for (;;) {
    pollfd ended{child.pidfd.get(), POLLIN, 0};
    const int ready = poll(&ended, 1, program.tick ? kTickMilliseconds : -1);
    if (ready == 0 && program.tick) program.tick();
    if (ready <= 0) continue;
    if (waitpid(child.pid, &status, 0) == child.pid) break;
    if (errno != EINTR) return errno_error("cannot wait for {}", program.arguments[0]);
  }
  if (status == 0) return {};
  std::string tail = program.log.empty() ? "" : end_of_file(program.log, 12);
  return make_error(EIO, "{} {}{}{}", program.arguments[0], host::describe_exit(status), tail.empty() ? "" : ":\n", tail);
}

}  // namespace

Result<void> run_program(const Program& program) {
  UniqueFd in = TRY(open_or_null(program.input, O_RDONLY));
  UniqueFd log = TRY(open_or_null(program.log, O_WRONLY | O_CREAT | O_APPEND));
  UniqueFd out = program.output.empty() ? UniqueFd(dup(log.get())) : TRY(open_or_null(program.output, O_WRONLY | O_CREAT | O_TRUNC));
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return errno_error("cannot make a pipe");
  UniqueFd reader(report[0]), writer(report[1]);
  host::Cloned child = TRY(host::clone_process(0));
  if (child.pid == 0) execute(program, in.get(), out.get(), log.get(), writer.get());
  writer.reset();
  int code = 0;
  if (read(reader.get(), &code, sizeof code) == static_cast<ssize_t>(sizeof code)) {
    waitpid(child.pid, nullptr, 0);
    if (code == ENOENT && !program.package.empty())
      return make_error(ENOENT, "the program {} is not there: install Debian's package {}", program.arguments[0], program.package);
    return make_error(code, "cannot run {}: {}", program.arguments[0], strerror(code));
  }
  return wait_for(program, child);
}

std::string end_of_file(const std::string& path, size_t lines) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd || fstat(fd.get(), &info) != 0) return "";
  char buffer[4096];
  const off_t from = std::max<off_t>(0, info.st_size - static_cast<off_t>(sizeof buffer));
  const ssize_t count = pread(fd.get(), buffer, sizeof buffer, from);
  if (count <= 0) return "";
  std::string_view text(buffer, static_cast<size_t>(count));
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  size_t at = text.size();
  for (size_t line = 0; line < lines && at != std::string_view::npos && at > 0; ++line) at = text.rfind('\n', at - 1);
  if (at != std::string_view::npos && at < text.size() && text[at] == '\n') text.remove_prefix(at + 1);
  return printable(text);
}

}  // namespace caisson::microvm
