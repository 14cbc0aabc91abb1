#include "cli/host_ps.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "base/unique_fd.h"
#include "host/files.h"

namespace caisson::cli {

Result<std::string> filter_ps(const std::string& table, const std::vector<pid_t>& pids) {
  std::istringstream lines(table);
  std::string line;
  std::getline(lines, line);
  std::istringstream headings(line);
  std::string word;
  size_t column = 0, pid_column = std::string::npos;
  for (; headings >> word; ++column)
    if (word == "PID") pid_column = column;
  if (pid_column == std::string::npos) return Error(EINVAL, "ps options: couldn't find PID field in ps output");
  std::string kept = line + "\n";
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    for (size_t i = 0; i <= pid_column; ++i) fields >> word;
    if (std::any_of(pids.begin(), pids.end(), [&](pid_t pid) { return std::to_string(pid) == word; })) kept += line + "\n";
  }
  return kept;
}

Result<std::string> host_ps(const std::vector<std::string>& options, const std::vector<pid_t>& pids) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return errno_error("cannot run ps");
  UniqueFd read_end(pipe_fds[0]), write_end(pipe_fds[1]);
  std::vector<char*> argv = {const_cast<char*>("ps")};
  for (const std::string& option : options) argv.push_back(const_cast<char*>(option.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  pid_t child = 0;
  int failed = posix_spawnp(&child, "ps", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return make_error(failed, "cannot run ps (Debian package procps): {}", strerrordesc_np(failed));
  write_end.reset();
  Result<std::string> table = host::read_descriptor(read_end.get());
  read_end.reset();
  int status = 0;
  TEMP_FAILURE_RETRY(waitpid(child, &status, 0));
  if (!table.ok()) return std::move(table).error();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return make_error(EIO, "ps {} failed", options.front());
  return filter_ps(*table, pids);
}

}  // namespace caisson::cli
