#include "kernel/event/async_notice.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <map>

#include "kernel/ipc/pipe.h"
#include "kernel/net/socket.h"
#include "kernel/signal/send.h"
#include "kernel/task/kernel.h"
#include "kernel/time/timer_service.h"
#include "kernel/tty/pty.h"
#include "kernel/tty/terminal.h"

namespace caisson::kernel {
namespace {

constexpr Events kAll = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLPRI | POLLERR | POLLHUP;

// Who gets the signals, and which.
struct Owner {
  int type = F_OWNER_PID;
  pid_t id = 0;                      // 0: nobody
  std::weak_ptr<ThreadGroup> group;  // of F_OWNER_PID and F_OWNER_TID: numbers are used again
  TaskIdRef thread;                  // of F_OWNER_TID
  TaskIdRef process_group;           // of F_OWNER_PGRP
  Kernel* kernel = nullptr;
  uid_t uid = 0, euid = 0;  // of who chose the owner
  int signal = 0;           // 0: SIGIO, without details
};

// Linux's answer to POLL_IN... (siginfo_t's si_code and si_band).
struct Reason {
  Events events;
  int code;
  long band;
};
constexpr Reason kReasons[] = {
    {POLLIN | POLLRDNORM, POLL_IN, POLLIN | POLLRDNORM},
    {POLLOUT | POLLWRNORM, POLL_OUT, POLLOUT | POLLWRNORM | POLLWRBAND},
    {POLLPRI, POLL_PRI, POLLPRI | POLLRDBAND},
    {POLLERR, POLL_ERR, POLLERR},
    {POLLHUP, POLL_HUP, POLLHUP | POLLERR},
};

class Notice;
struct Settings {
  Owner owner;
  std::shared_ptr<Notice> notice;  // while O_ASYNC is on
};
struct Table {
  std::mutex lock;
  std::map<const File*, Settings> files;
};
Table& table() {
  static Table* const made = new Table;
  return *made;
}

class Notice : public Waiter, public Alarm {
 public:
  Notice(const FileRef& file, int fd) : file_(file), key_(file.get()), fd_(fd), queue_(file->wait_queue()->state()) { interest = kAll; }
  // Once it is shared: an alarm is kept by a weak pointer.
  void begin() { queue_->add(*this); }
  ~Notice() override { queue_->remove(*this); }

  void notify(Events events) override {
    events_.fetch_or(events);
    TimerService::get().set(*this, monotonic_now());
  }

  void expired() override {
    const FileRef file = file_.lock();
    if (!file) return;
    const Events ready = events_.exchange(0) & file->poll();
    file->arm(kAll);
    Owner owner;
    {
      std::lock_guard guard(table().lock);
      const auto found = table().files.find(key_);
      if (found == table().files.end() || found->second.notice.get() != this) return;
      owner = found->second.owner;
    }
    if (owner.id == 0) return;
    std::lock_guard guard(owner.kernel->tasks);
    for (const Reason& reason : kReasons)
      if ((ready & reason.events) != 0) send_locked(owner, reason);
  }

 private:
  void send_locked(const Owner& owner, const Reason& reason) const {
    abi::SigInfo info = user_signal(SIGIO, nullptr);
    if (owner.signal != 0) {
      info = abi::SigInfo();
      info.signo = owner.signal;
      info.code = reason.code;
      info.poll.band = reason.band;
      info.poll.fd = fd_;
    }
    if (owner.type == F_OWNER_PGRP) {
      if (!owner.process_group) return;
      for (auto& [pid, group] : owner.process_group->space()->groups)
        if (group->pgid == owner.process_group && allowed(owner, *group)) send_to_group_locked(*group, info);
      return;
    }
    const auto group = owner.group.lock();
    if (!group || !allowed(owner, *group)) return;
    if (owner.type == F_OWNER_PID) return send_to_group_locked(*group, info);
    for (Task* task : group->tasks)
      if (task->id == owner.thread) return send_to_task_locked(*task, info);
  }
  static bool allowed(const Owner& owner, const ThreadGroup& group) {
    if (owner.euid == 0 || group.tasks.empty()) return true;
    const Credentials& theirs = *group.tasks.front()->creds;
    return owner.euid == theirs.suid || owner.euid == theirs.uid || owner.uid == theirs.suid || owner.uid == theirs.uid;
  }

  const std::weak_ptr<File> file_;
  const File* const key_;
  const int fd_;
  const std::shared_ptr<WaitQueue::State> queue_;
  std::atomic<Events> events_{0};
};

Settings& settings_locked(const FileRef& file) {
  file->has_async = true;
  return table().files[file.get()];
}

// The process, thread or group of this number; an owner of nobody for 0.
Result<Owner> find_owner(Task& task, int type, pid_t id) {
  Owner owner;
  owner.type = type;
  owner.id = id;
  owner.kernel = &task.kernel;
  owner.uid = task.creds->uid;
  owner.euid = task.creds->euid;
  if (id == 0) return owner;
  std::lock_guard guard(task.kernel.tasks);
  PidNamespace& pids = *task.group->pids;
  if (type == F_OWNER_TID) {
    const auto found = pids.tasks.find(id);
    if (found == pids.tasks.end()) return Errno(ESRCH);
    owner.group = found->second->group;
    owner.thread = found->second->id;
  } else if (type == F_OWNER_PID) {
    const auto found = pids.groups.find(id);
    if (found == pids.groups.end()) return Errno(ESRCH);
    owner.group = found->second;
  } else {
    for (const auto& [number, group] : pids.groups)
      if (number_in(group->pgid, pids) == id) owner.process_group = group->pgid;
    if (!owner.process_group) return Errno(ESRCH);
  }
  return owner;
}

Result<void> set_owner(Task& task, const FileRef& file, int type, pid_t id) {
  if (id < 0) return Errno(EINVAL);
  Owner owner = TRY(find_owner(task, type, id));
  std::lock_guard guard(table().lock);
  Settings& settings = settings_locked(file);
  owner.signal = settings.owner.signal;
  settings.owner = std::move(owner);
  return {};
}

Owner owner_of(const File& file) {
  std::lock_guard guard(table().lock);
  const auto found = table().files.find(&file);
  if (found == table().files.end()) return {};
  Owner owner = found->second.owner;
  if (owner.type != F_OWNER_PGRP && owner.group.expired()) owner.id = 0;
  return owner;
}

}  // namespace

bool can_notify(const File& file) {
  return dynamic_cast<const Socket*>(&file) != nullptr || dynamic_cast<const PipeFile*>(&file) != nullptr ||
         dynamic_cast<const TerminalFile*>(&file) != nullptr || dynamic_cast<const PtyMasterFile*>(&file) != nullptr;
}

void set_async(const FileRef& file, int fd, bool on) {
  std::shared_ptr<Notice> ended;
  {
    std::lock_guard guard(table().lock);
    Settings& settings = settings_locked(file);
    if (on == (settings.notice != nullptr)) return;
    ended = std::move(settings.notice);  // ends without the lock
    settings.notice = on ? std::make_shared<Notice>(file, fd) : nullptr;
    if (on) settings.notice->begin();
  }
  file->set_flags(on ? file->flags() | O_ASYNC : file->flags() & ~O_ASYNC);
  if (on) file->arm(kAll);
}

bool is_owner_command(int command) {
  return command == F_SETOWN || command == F_GETOWN || command == F_SETOWN_EX || command == F_GETOWN_EX || command == F_SETSIG ||
         command == F_GETSIG;
}

Result<long> owner_command(Task& task, const FileRef& file, int command, uint64_t argument) {
  switch (command) {
    case F_SETOWN: {
      const int id = static_cast<int>(argument);
      if (id == INT32_MIN) return Errno(EINVAL);
      TRY(set_owner(task, file, id < 0 ? F_OWNER_PGRP : F_OWNER_PID, id < 0 ? -id : id));
      return 0L;
    }
    case F_GETOWN: {
      const Owner owner = owner_of(*file);
      return owner.type == F_OWNER_PGRP ? -long{owner.id} : long{owner.id};
    }
    case F_SETOWN_EX: {
      const f_owner_ex wanted = TRY(task.read(UserPtr<f_owner_ex>(argument)));
      if (wanted.type != F_OWNER_TID && wanted.type != F_OWNER_PID && wanted.type != F_OWNER_PGRP) return Errno(EINVAL);
      TRY(set_owner(task, file, wanted.type, wanted.pid));
      return 0L;
    }
    case F_GETOWN_EX: {
      const Owner owner = owner_of(*file);
      f_owner_ex found{};
      found.type = static_cast<__pid_type>(owner.type);
      found.pid = owner.id;
      TRY(task.write(UserPtr<f_owner_ex>(argument), found));
      return 0L;
    }
    case F_SETSIG: {
      if (argument > abi::kSignals) return Errno(EINVAL);
      std::lock_guard guard(table().lock);
      settings_locked(file).owner.signal = static_cast<int>(argument);
      return 0L;
    }
    default:
      return owner_of(*file).signal;
  }
}

void release_async(const File& file) {
  Settings ended;  // destroyed last, without the lock: a notice's end takes others
  std::lock_guard guard(table().lock);
  const auto found = table().files.find(&file);
  if (found == table().files.end()) return;
  ended = std::move(found->second);
  table().files.erase(found);
}

}  // namespace caisson::kernel
