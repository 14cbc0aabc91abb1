// Tenant: one container of a kernel process, and all who talk about it: its sandbox process, its first process's stand-in and the stand-ins
// of its execs. Everything here is the control
// thread's; what may take long (looking for a program, waiting for a stub of a container that is paused) is done by threads of their own,
// so that no container holds up another.
//
// What comes over these channels is checked here: the kernel process trusts its sandbox process, but not to be free of errors.
#pragma once

#include <poll.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernel/control/container_setup.h"
#include "kernel/control/end_watch.h"
#include "kernel/control/messages.h"

namespace caisson::kernel {

struct Handover;

// What all tenants have in common.
struct Household {
  Kernel& kernel;
  int event;                                                            // eventfd: something has ended or has been started
  std::function<Result<UniqueFd>()> user_namespace;                     // of the kernel process; invalid: it has none of its own
  std::function<SharedNamespaces(const v1::Start&)> shared_namespaces;  // by the ids of other tenants
  // A container is on its way that waits for no other: one that shares its namespaces and comes early waits for it.
  std::function<bool()> somebody_begins;
  std::function<void(UniqueFd control, UniqueFd stand_in)> join;
  size_t starting = 0;  // threads that start something
  // Channels of stand-ins that have been told how to end: the kernel process must not end before they have, since the host would kill them.
  std::vector<UniqueFd> partings;
  void part(UniqueFd channel);
  // Waits until they have ended; not for ever: they may be paused.
  void see_off();
};

// Something that is being started, by a thread of its own.
struct Starting {
  std::mutex lock;
  std::unique_ptr<Container> container;           // of a container's first process
  std::optional<Result<Kernel::Started>> result;  // under the lock; with it everything else is the control thread's
};

class Tenant {
 public:
  // Its stand-in will describe it.
  Tenant(Household& house, UniqueFd control, UniqueFd stand_in);
  ~Tenant();

  // Descriptors that are to be read, and reading one of them.
  void add_descriptors(std::vector<pollfd>& entries) const;
  void take_from(int fd);

  // After every turn of the loop: what has been started or has ended is told.
  void settle();
  // Wants settle() soon without an event: output is on its way, or tasks are ending.
  bool impatient() const;
  // It has ended, or has never begun.
  bool gone() const { return state_ == State::Gone && !starting_; }
  // Nobody asks after it any more either: it may be destroyed.
  bool over() const { return gone() && !control_; }

  // To its first process.
  void deliver(int signal);
  // Null until it has been described and made, and once it has ended.
  Container* container() { return lives() ? container_.get() : nullptr; }
  // Neither ended nor running yet, and for no want of another tenant.
  bool begins_by_itself() const { return begins() && !waits_for_another_; }
  // Processes refer to it as long as the kernel lives.
  std::unique_ptr<Container> take_container() { return std::move(container_); }

 private:
  // Awaited: not described yet. Held: its first process does not run before Begin. Ending: that has ended, the others are about to.
  enum class State { Awaited, Starting, Held, Running, Ending, Gone };
  struct Exec {
    UniqueFd socket;
    int number = 0;                      // the sandbox's name for it
    std::vector<UniqueFd> described;     // waits until the container has begun
    std::shared_ptr<Starting> starting;  // null: not described yet, or started
    std::unique_ptr<EndWatch> process;
  };

  bool lives() const { return state_ == State::Held || state_ == State::Running; }
  bool begins() const { return state_ == State::Awaited || state_ == State::Starting; }
  Result<void> welcome(bool held);
  void take_request();
  void take_limits(int fd);
  void take_exec(int fd);
  void take_from_stand_in();
  void answer(int socket, Question question);
  void signal_all(int signal);
  void kill_all();
  Result<void> begin(Message message);
  Result<void> begin_when_others_are_there(const std::shared_ptr<Handover>& all);
  void refuse(Errno error);
  void begin_exec(Exec& exec, std::vector<UniqueFd> fds);
  void settle_start();
  void settle_held();
  void release();
  void settle_execs();
  void settle_end();
  void leave();
  void run_aside(const std::shared_ptr<Starting>& starting, std::function<Result<Kernel::Started>(Starting&)> body);

  Household& house_;
  State state_ = State::Awaited;
  std::unique_ptr<Container> container_;
  UniqueFd control_, stand_in_;
  std::vector<UniqueFd> mounts_;                 // that the stand-in has handed over so far
  std::shared_ptr<Handover> waits_for_another_;  // while Awaited: described, but a tenant whose namespaces it shares is not running yet
  std::shared_ptr<Starting> starting_;
  std::unique_ptr<EndWatch> init_;
  bool hold_ = false;
  std::function<void()> go_;  // of the first process, until it runs
  int status_ = 0;
  std::vector<int> early_signals_;  // that came before there was a process
  std::string early_limits_;        // v1::Limits that came before there was a container
  Deadline patience_;
  std::map<int, Exec> execs_;  // by their sockets
};

}  // namespace caisson::kernel
