// FolderWatch: learns that something is made, renamed or removed in a folder, on the event loop.
//
// By dnotify (fcntl(2), F_NOTIFY), not by inotify: a node has 128 inotify instances for all of root's programs
// (fs.inotify.max_user_instances), and a hundred sandboxes must not use them up; dnotify has no such limit, and costs nothing while nothing
// happens.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "host/event_loop.h"

namespace caisson::host {

class FolderWatch {
 public:
  // Whether this kernel has dnotify, and it is not switched off (fs.dir-notify-enable).
  static bool is_available();
  // One object in a process: it takes two signals for its own (SIGIO, SIGRTMIN+5), which stay blocked.
  static Result<std::unique_ptr<FolderWatch>> create(EventLoop& loop);
  ~FolderWatch();
  FolderWatch(const FolderWatch&) = delete;
  FolderWatch& operator=(const FolderWatch&) = delete;

  // changed() runs after something has changed in the folder (not below); several changes may be told as one, and after a flood of them
  // also those that were none. The folder is held by a detached copy of its mount: its own can be unmounted. Needs CAP_SYS_ADMIN. Returns
  // the watch's number.
  Result<int> add(const std::string& folder, std::function<void()> changed);
  void remove(int watch);

 private:
  struct State;
  explicit FolderWatch(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace caisson::host
