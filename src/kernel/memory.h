// AddressSpace: a guest's memory, as one or more stub processes have it mapped. Most mappings are made natively and are not known here: the
// host's own /proc/<stub>/maps is the list.
//
// Locks: AddressSpace::lock is a leaf.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/errno.h"
#include "kernel/user_ptr.h"

namespace caisson::kernel {

class CallSites;
class Path;

// Copies between the kernel and the memory of the host process `host_tid`. EFAULT where any byte cannot be had; then nothing is known about
// how much was.
Result<void> read_guest(pid_t host_tid, uint64_t address, void* to, size_t length);
Result<void> write_guest(pid_t host_tid, uint64_t address, const void* from, size_t length);
// As many bytes as can be had from the front: at least 1, else EFAULT.
Result<size_t> read_guest_partly(pid_t host_tid, uint64_t address, void* to, size_t length);
Result<size_t> write_guest_partly(pid_t host_tid, uint64_t address, const void* from, size_t length);

class AddressSpace {
 public:
  // A new one, with no stub yet: makes the slots' memory and the socket pair. EMFILE, ENOMEM.
  static Result<std::shared_ptr<AddressSpace>> create();
  ~AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  // A slot for one more thread: its index. EAGAIN when there are STUB_MAX_SLOTS threads.
  Result<uint32_t> take_slot(int wanted = -1);
  // The host thread host_tid of host_pid is leaving it: taken again only when that thread has gone.
  void free_slot(uint32_t index, pid_t host_pid, pid_t host_tid);
  // The kernel's view of a slot; valid as long as this object.
  void* slot(uint32_t index) const { return static_cast<char*>(slots_) + static_cast<uint64_t>(index) * 0x8000; }
  // Gives the stub's ends away (to the zygote, or to a forking stub), or borrows them.
  int slots_fd() const { return slots_fd_.get(); }
  int stub_socket_fd() const { return stub_socket_.get(); }
  int socket() const { return kernel_socket_.get(); }

  // Its calls that have become jumps.
  CallSites& call_sites() const { return *call_sites_; }
  // One thread has a slot here, and none is leaving.
  bool is_alone();

  // Serialises "send descriptors, run the batch that receives them": threads of a process share the socket.
  std::mutex descriptors_lock;

  // What exec has put where; for brk and /proc. Under `lock`.
  struct Layout {
    uint64_t start_code = 0, end_code = 0, start_data = 0, end_data = 0, start_brk = 0, brk = 0, brk_mapped = 0, start_stack = 0,
             stack_low = 0, stack_high = 0;
    uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
    std::vector<uint64_t> auxv;
  };
  std::mutex lock;
  Layout layout;
  std::shared_ptr<Path> executable;  // /proc/self/exe

 private:
  AddressSpace();
  std::unique_ptr<CallSites> call_sites_;
  UniqueFd slots_fd_, stub_socket_, kernel_socket_;
  void* slots_ = nullptr;
  std::mutex slots_lock_;
  struct Leaving {
    uint32_t index;
    pid_t host_pid, host_tid;
  };
  std::vector<bool> taken_;
  std::vector<Leaving> leaving_;
};

}  // namespace caisson::kernel
