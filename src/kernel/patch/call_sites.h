// CallSites: the system calls of one guest's memory that have become jumps (call_form.h), so that they reach the stub's code without a host
// signal. A call that has trapped often enough is looked at once; what cannot be patched safely stays as it is.
//
// Only private mappings of files that are read-and-execute are patched: not what the guest can write, nor what it shares. Most of what
// guests do to their memory the kernel does not see, so every use of a site looks at its bytes first. What it sees: mprotect with PROT_EXEC
// (the host's filter lets only the others pass) gives the original bytes back where text becomes writable; a file mapped there makes sites
// forgotten; a process that is traced gets all of its text back, for good.
//
// Other threads may run the code that is being changed: the first byte of each instruction becomes `int3`, then the bytes behind, then the
// first byte, each seen by all processors before the next (membarrier, SYNC_CORE). Who meets an `int3` of ours is sent on.
//
// Locks: lock_ is held while the stub works for us; it is taken after none but AddressSpace::descriptors_lock's user. regions_lock_ is a
// leaf.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernel/abi/signal.h"
#include "kernel/patch/thunks.h"

namespace caisson::kernel {

class StubThread;

class CallSites {
 public:
  // So often a call traps before it is looked at.
  static constexpr uint32_t kOften = 32;
  // Whether any process is patched; before the first stub. Off, too, where the processor has no RDGSBASE.
  static void allow(bool on);
  static bool allowed();

  // The stub's thread has trapped at a call for the kOften'th time; `rip` is behind it, `number` was in rax. By its own thread, with a
  // frame.
  void consider(StubThread& stub, uint64_t rip, uint64_t number);
  // The guest's view of an address: its own, where that is one in a thunk. Any thread.
  uint64_t guest_rip(uint64_t rip) const;
  // Thunks are mapped at this address, unless the guest has put something else there. Any thread.
  bool has_thunks_at(uint64_t address) const;
  bool any() const { return any_.load(std::memory_order_acquire); }
  // The thread has met `int3`, rip is behind it. True: ours, `rip` says where to go on.
  bool settle_breakpoint(StubThread& stub, uint64_t& rip);

  // [start, end) is about to become writable: what is there is given back. `writable` false: it becomes executable again, having been
  // writable, maybe; what the guest has not changed of a site that it has changed is given back.
  void text_changes(StubThread& stub, uint64_t start, uint64_t end, bool writable);
  // Something else is there now.
  void forget(uint64_t start, uint64_t end);
  // From now on nothing is patched; restore() is due if anything is. Any thread.
  void turn_off() { off_.store(true, std::memory_order_release); }
  bool restore_due() const { return off_.load(std::memory_order_acquire) && any(); }
  void restore(StubThread& stub);

  // fork: nothing may change while the copy is made. Then the child's are a copy of these.
  std::unique_lock<std::mutex> hold() { return std::unique_lock(lock_); }
  void copy_held(CallSites& child) const;

 private:
  struct Site {
    bool live = false;  // false: it cannot be patched, or was once
    uint64_t start = 0;
    CallForm::Kind kind = CallForm::Move;
    uint8_t original[kJumpLength] = {}, patched[kJumpLength] = {};
    uint64_t behind_call = 0;  // in the thunk
  };
  using Sites = std::map<uint64_t, Site>;  // by the guest's call

  bool patch_locked(StubThread& stub, uint64_t call, uint64_t number, Site& site);
  Result<Thunk> thunk_locked(StubThread& stub, uint64_t call, const CallForm& form, std::span<const uint8_t> code, const std::string& maps);
  bool put_locked(StubThread& stub, const Site& site, bool install);
  void repair_locked(StubThread& stub, const Site& site, const uint8_t* now);

  std::mutex lock_;
  Sites sites_;
  mutable std::mutex regions_lock_;
  std::vector<std::shared_ptr<ThunkRegion>> regions_;
  std::atomic<bool> any_{false}, off_{false};
};

}  // namespace caisson::kernel
