#include "agent/reaper.h"

#include <dirent.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "host/files.h"

namespace caisson::agent {
namespace {

// Children of this process that have ended and not been waited for.
std::set<pid_t> ended_children() {
  std::set<pid_t> ended;
  std::unique_ptr<DIR, int (*)(DIR*)> processes(opendir("/proc"), closedir);
  if (!processes) return ended;
  while (const dirent* entry = readdir(processes.get())) {
    pid_t pid = atoi(entry->d_name);
    if (pid <= 0) continue;
    Result<std::string> stat = host::read_file(fmt::format("/proc/{}/stat", pid), 4096);
    if (!stat.ok()) continue;
    size_t name_end = stat->rfind(')');  // the name may hold anything
    char state = 0;
    int parent = 0;
    if (name_end == std::string::npos || sscanf(stat->c_str() + name_end + 1, " %c %d", &state, &parent) != 2) continue;
    if (state == 'Z' && parent == getpid()) ended.insert(pid);
  }
  return ended;
}

}  // namespace

Result<std::unique_ptr<Reaper>> Reaper::create(host::EventLoop& loop, std::chrono::milliseconds patience) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errno_error("cannot block SIGCHLD");
  UniqueFd signals(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals.valid()) return errno_error("cannot make a signal descriptor");
  std::unique_ptr<Reaper> reaper(new Reaper(loop, std::move(signals), patience));
  TRY(loop.add(reaper->signals_.get(), EPOLLIN, [self = reaper.get()](uint32_t) {
    signalfd_siginfo info;
    while (read(self->signals_.get(), &info, sizeof info) > 0) {
    }
    self->arm();
  }));
  return reaper;
}

Reaper::~Reaper() {
  loop_.remove(signals_.get());
  if (timer_ != 0) loop_.cancel_timer(timer_);
}

void Reaper::arm() {
  if (timer_ == 0) timer_ = loop_.add_timer(patience_, [this] { sweep(); });
}

void Reaper::sweep() {
  timer_ = 0;
  std::set<pid_t> unclaimed;
  for (pid_t pid : ended_children()) {
    if (loop_.watches_child(pid)) continue;
    if (suspects_.contains(pid))
      waitpid(pid, nullptr, WNOHANG | __WALL);
    else
      unclaimed.insert(pid);
  }
  suspects_ = std::move(unclaimed);
  if (!suspects_.empty()) arm();
}

}  // namespace caisson::agent
