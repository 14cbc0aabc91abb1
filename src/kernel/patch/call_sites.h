// CallSites: the system calls of one guest's memory that have become jumps (call_form.h), so that they reach the stub's code without a host
// signal. A call that has trapped often enough is looked at once; what cannot be patched safely stays as it is.
//
// Only private mappings of files that are read-and-execute are patched: not what the guest can write, nor what it shares. Most of what
// guests do to their memory the kernel does not see, so every use of a site looks at its bytes first. What it sees: mprotect with PROT_EXEC
// (the host's filter lets only the others pass) gives the original bytes back where text becomes writable; a file mapped there makes sites
// forgotten; text that mremap moves with MREMAP_FIXED gets its bytes back before; a process that is traced gets all of its text back, for
// good. What it does not see is mended when it fails: a jump that leads nowhere (text that has grown and so moved, thunks that the guest
// has unmapped) is undone where it lies (settle_moved).
//
// Other threads may run the code that is being changed: the first byte of each instruction becomes `int3`, then the bytes behind, then the
// first byte, each seen by all processors before the next (membarrier, SYNC_CORE). Who meets an `int3` of ours is sent on.
//
// Locks: lock_ is held while the stub works for us, and by a guest's own call that changes what is mapped where text may be; it is taken
// before AddressSpace::descriptors_lock. regions_lock_ is a leaf.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
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

  // A thread has trapped so many times more at a call, `rip` is behind it: true at the kOften'th time of all threads. Any thread.
  bool traps_often(uint64_t rip, uint32_t times);
  // The stub's thread has trapped at a call for the kOften'th time; `number` was in rax. By its own thread, with a frame.
  void consider(StubThread& stub, uint64_t rip, uint64_t number);
  // The guest's view of an address: its own, where that is one in a thunk. Any thread.
  uint64_t guest_rip(uint64_t rip) const;
  // Thunks are mapped at this address, unless the guest has put something else there. Any thread.
  bool has_thunks_at(uint64_t address) const;
  bool any() const { return any_.load(std::memory_order_acquire); }
  // The thread has met `int3`, rip is behind it. True: ours, `rip` says where to go on.
  bool settle_breakpoint(StubThread& stub, uint64_t& rip);

  // The thread has been sent to `rip`, where nothing can be executed. True: it was a jump of ours that lies elsewhere now, or whose thunk
  // has gone; what it had replaced is back, and `rip` says where to go on.
  bool settle_moved(StubThread& stub, uint64_t& rip);
  // This is the call instruction of a site, patched now or once. Any thread.
  bool is_site(uint64_t call) const;
  // These bytes of the guest's memory, which have been read from `address`, become what its program has there. For other processes that
  // look at it; any thread.
  void show_originals(uint64_t address, std::span<uint8_t> bytes) const;

  // What a guest's call is about to do; the lock is to be held until it is done, so that nothing is patched meanwhile.
  using Held = std::unique_lock<std::mutex>;
  // [start, end) becomes writable: what is there is given back. `writable` false: it becomes executable again, having been writable,
  // maybe; what the guest has not changed of a site that it has changed is given back.
  [[nodiscard]] Held text_changes(StubThread& stub, uint64_t start, uint64_t end, bool writable);
  // Something is being mapped: forget_held() says where, afterwards.
  [[nodiscard]] Held hold() { return Held(lock_); }
  void forget_held(uint64_t start, uint64_t end);
  // From now on nothing is patched; restore() is due if anything is. Any thread.
  void turn_off() { off_.store(true, std::memory_order_release); }
  bool restore_due() const { return off_.load(std::memory_order_acquire) && any(); }
  void restore(StubThread& stub);

  // fork: nothing may change while the copy is made (hold()). Then the child's are a copy of these.
  void copy_held(CallSites& child) const;

 private:
  struct Site {
    bool live = false;  // false: it cannot be patched, or was once
    uint64_t start = 0;
    CallForm::Kind kind = CallForm::Move;
    uint8_t original[kJumpLength] = {}, patched[kJumpLength] = {};
    uint64_t thunk = 0, behind_call = 0;  // where the jump leads; in the thunk
  };
  using Sites = std::map<uint64_t, Site>;  // by the guest's call
  // Of a site that is patched, or was.
  struct Jump {
    uint64_t start = 0;
    uint8_t original[kJumpLength] = {}, patched[kJumpLength] = {};
  };

  bool patch_locked(StubThread& stub, uint64_t call, uint64_t number, Site& site);
  Result<Thunk> thunk_locked(StubThread& stub, uint64_t call, const CallForm& form, std::span<const uint8_t> code, const std::string& maps);
  bool put_locked(StubThread& stub, const std::string& maps, const Site& site, bool install);
  bool give_back_locked(StubThread& stub, const Site& site);
  bool give_moved_back_locked(StubThread& stub, const Site& site, uint64_t start);
  void repair_locked(StubThread& stub, const Site& site, const uint8_t* now);

  // How often calls have trapped, by a hash of the address behind them; a collision begins anew, and now and then one is lost.
  struct TrapCount {
    std::atomic<uint64_t> rip{0};
    std::atomic<uint32_t> count{0};
  };
  std::array<TrapCount, 64> trap_counts_{};

  std::mutex lock_;
  Sites sites_;
  mutable std::mutex regions_lock_;
  std::vector<std::shared_ptr<ThunkRegion>> regions_;
  std::map<uint64_t, Jump> jumps_;  // by the guest's call; for who must not wait for lock_
  std::atomic<bool> any_{false}, off_{false};
};

}  // namespace caisson::kernel
