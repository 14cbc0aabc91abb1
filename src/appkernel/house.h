// House: a kernel process and the containers that live in it, as the sandbox process that has made it sees them. The kernel process is
// nobody's first process: it is made beside the container that comes first, in a PID namespace of its own, and lives until the last of its
// containers has ended, or until this sandbox process has gone and they have.
//
// Its cgroup: while it serves one container it is in that one's, so that the container's limits hold for all that is done on its behalf,
// and a pause stops it, too. When a further container comes it moves to a cgroup of its own beside (cgroup_of_kernel): it must serve one
// while another is paused, and what it holds is the pod's. Beside a scope of systemd's that is another scope of systemd's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "appkernel/kernel_log.h"
#include "appkernel/pod.h"
#include "base/unique_fd.h"
#include "container/container.h"
#include "host/event_loop.h"
#include "host/worker.h"
#include "kernel.pb.h"

namespace caisson::appkernel {

// Where a kernel process moves to that began in a container's cgroup of that path: beside it, "/pod/id.kernel" or
// "/x.slice/id.kernel.scope". A long id is divided: to cadvisor (of a kubelet, too) whatever has 64 letters and digits in its name is the
// container of that id, and it would be reported twice. Pure.
std::string cgroup_of_kernel(const std::string& path);

class House : public std::enable_shared_from_this<House> {
 public:
  // The kernel process is made by a worker, beside the creation of the container `options.id`, which waits for it by
  // options.before_spawn. dir: of the sandbox, where it is written down what must be freed; "": nowhere. spec: before divide().
  static Result<std::shared_ptr<House>> build(host::EventLoop& loop, const std::string& dir, const oci::Spec& spec,
                                              const kernel::v1::House& description, container::CreateOptions& options);
  ~House();
  House(const House&) = delete;
  House& operator=(const House&) = delete;

  // Of the container that it was made for, as it was then.
  Resident resident;

  const std::string& id() const { return id_; }
  // Of the kernel process, on the node; 0: it is being made.
  pid_t kernel() const { return pid_; }
  // It is in that one container's cgroup still, having no other.
  bool alone() const { return alone_; }
  // Calls it once that is known.
  void when_known(std::function<void()> call);
  // The cgroup of the container that it was made for.
  void begins_in(const host::CgroupPaths& cgroup) { first_cgroup_ = cgroup; }
  // Announces a container (kernel/control/messages.h, Join). bounding: capabilities that its processes may have; where the kernel process's
  // network broker has not what they take, it gets another one. foreign: of another sandbox process.
  Result<void> join(const std::vector<int>& fds, uint64_t bounding, bool foreign);
  // Somebody wants to see system calls: the kernel process has that much more to say (kernel_log.h).
  void allow_trace() { log_.allow_trace(); }
  // Nobody of this sandbox process lives here any more: what the kernel process had is freed. Where that has not ended yet, or containers
  // of other sandbox processes live on in it, a process of its own waits for its end.
  void leave();

 private:
  House(host::EventLoop& loop, std::string dir, std::string id);
  void made(Result<host::WorkerOutput> output);
  Result<void> move_out();
  Result<void> extend(uint64_t brokered);
  // By a process of its own: waits so long for the kernel process's end (negative: for ever), kills what is left and removes the cgroup.
  void sweep_later(std::chrono::milliseconds patience);
  std::string leftovers_name() const { return id_ + ".kernel"; }

  host::EventLoop& loop_;
  std::string dir_, id_;
  KernelLog log_;
  UniqueFd channel_, pidfd_;
  pid_t pid_ = 0;
  std::vector<std::function<void()>> when_known_;
  host::CgroupPaths first_cgroup_, cgroup_;  // cgroup_: of its own
  bool systemd_ = false;                     // they are scopes that systemd is asked for
  std::function<void()> stop_moving_;        // while a worker makes it
  uint64_t brokered_ = 0;                    // what its network broker has
  bool inhabited_ = false, foreigners_ = false, alone_ = true;
};

}  // namespace caisson::appkernel
