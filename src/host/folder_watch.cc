#include "host/folder_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <vector>

#include "host/files.h"
#include "host/mount.h"

namespace caisson::host {
namespace {

// Queued ones (real-time) say which folder; SIGIO comes in their place when the queue is full (fcntl(2), F_SETSIG).
int told_by() { return SIGRTMIN + 5; }

constexpr int kChanges = DN_CREATE | DN_DELETE | DN_RENAME;

}  // namespace

struct FolderWatch::State {
  explicit State(EventLoop& event_loop) : loop(event_loop) {}
  EventLoop& loop;
  UniqueFd signals;
  struct Watched {
    UniqueFd folder;
    std::function<void()> changed;
  };
  std::map<int, Watched> watches;  // by the folder's descriptor

  void read_signals() {
    signalfd_siginfo info{};
    while (read(signals.get(), &info, sizeof info) == sizeof info) {
      if (static_cast<int>(info.ssi_signo) == SIGIO) {
        std::vector<int> all;
        for (const auto& [number, watched] : watches) all.push_back(number);
        for (int number : all) tell(number);
      } else {
        tell(info.ssi_fd);
      }
    }
  }
  void tell(int number) {
    auto found = watches.find(number);
    if (found == watches.end()) return;
    const auto changed = found->second.changed;
    changed();
  }
};

FolderWatch::FolderWatch(std::unique_ptr<State> state) : state_(std::move(state)) {}

FolderWatch::~FolderWatch() { state_->loop.remove(state_->signals.get()); }

bool FolderWatch::is_available() {
  auto enabled = read_file("/proc/sys/fs/dir-notify-enable", 16);
  return enabled.ok() && enabled->starts_with('1');
}

Result<std::unique_ptr<FolderWatch>> FolderWatch::create(EventLoop& loop) {
  auto state = std::make_unique<State>(loop);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  sigaddset(&set, told_by());
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errno_error("block the signals of changed folders");
  state->signals.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!state->signals) return errno_error("make a descriptor for the signals of changed folders");
  TRY(loop.add(state->signals.get(), EPOLLIN, [state = state.get()](uint32_t) { state->read_signals(); }));
  return std::unique_ptr<FolderWatch>(new FolderWatch(std::move(state)));
}

Result<int> FolderWatch::add(const std::string& folder, std::function<void()> changed) {
  UniqueFd copy = TRY(clone_mount(AT_FDCWD, folder, false));
  UniqueFd opened(openat(copy.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened) return errno_error("watch {}", folder);
  const int number = opened.get();
  if (fcntl(number, F_SETSIG, told_by()) != 0 || fcntl(number, F_NOTIFY, kChanges | DN_MULTISHOT) != 0)
    return errno_error("watch {}", folder);
  state_->watches[number] = {std::move(opened), std::move(changed)};
  return number;
}

void FolderWatch::remove(int watch) { state_->watches.erase(watch); }

}  // namespace caisson::host
