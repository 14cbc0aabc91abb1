#include "kernel/patch/call_sites.h"

#include <linux/membarrier.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <string>

#include "kernel/klog.h"
#include "kernel/patch/text_maps.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kPage = 4096;
constexpr size_t kMostSites = 1024;
constexpr int kSecondByte = 2;          // Next: of the jump, where the instruction behind the call began
constexpr unsigned long kFsGsBase = 2;  // AT_HWCAP2

std::atomic<bool> g_allowed{false};

// Reads as much around the call as is there: nothing before it where that is another page that cannot be read.
struct Code {
  std::array<uint8_t, kBytesBefore + kCallLength + kBytesBehind> bytes{};
  size_t call = 0, size = 0;
  std::span<const uint8_t> all() const { return {bytes.data(), size}; }
};
bool read_code(pid_t host, uint64_t call, Code& code) {
  const uint64_t page = call & ~(kPage - 1);
  for (const uint64_t from : {call - kBytesBefore, std::max(page, call - kBytesBefore)}) {
    const size_t least = call - from + kCallLength, most = least + kBytesBehind;
    const Result<size_t> got = read_guest_partly(host, from, code.bytes.data(), most);
    if (!got || *got < least) continue;
    code.call = call - from;
    code.size = *got;
    return true;
  }
  return false;
}

// All processors that run this process's threads see what has been written before.
bool synchronise(StubThread& stub) { return stub.run_one({SYS_membarrier, {MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE}}).ok(); }

Result<std::string> maps_of(StubThread& stub) {
  return read_host_proc((std::to_string(stub.process()->pid()) + "/maps").c_str(), 64 << 20);
}

// The pages of a jump's bytes, writable while this lives and then as they were.
class WritableText {
 public:
  WritableText(StubThread& stub, const std::string& maps, uint64_t at) : stub_(stub) {
    for (uint64_t page = at & ~(kPage - 1); page < at + kJumpLength; page += kPage) pages_.push_back({page, protection_at(maps, page)});
    for (const Page& page : pages_)
      writable_ = writable_ && stub.run_one({SYS_mprotect, {page.at, kPage, page.before | PROT_READ | PROT_WRITE}}).ok();
  }
  ~WritableText() {
    for (const Page& page : pages_) (void)stub_.run_one({SYS_mprotect, {page.at, kPage, page.before}});
  }
  WritableText(const WritableText&) = delete;
  WritableText& operator=(const WritableText&) = delete;
  bool writable() const { return writable_; }

 private:
  struct Page {
    uint64_t at, before;
  };
  StubThread& stub_;
  std::vector<Page> pages_;
  bool writable_ = true;
};

}  // namespace

void CallSites::allow(bool on) { g_allowed = on && (getauxval(AT_HWCAP2) & kFsGsBase) != 0; }
bool CallSites::allowed() { return g_allowed.load(std::memory_order_relaxed); }

bool CallSites::traps_often(uint64_t rip, uint32_t times) {
  TrapCount& entry = trap_counts_[(rip ^ rip >> 6) % trap_counts_.size()];
  if (entry.rip.load(std::memory_order_relaxed) != rip) {
    entry.rip.store(rip, std::memory_order_relaxed);
    entry.count.store(0, std::memory_order_relaxed);
  }
  const uint32_t before = entry.count.fetch_add(times, std::memory_order_relaxed);
  return before < kOften && before + times >= kOften;
}

void CallSites::consider(StubThread& stub, uint64_t rip, uint64_t number) {
  const uint64_t call = rip - kCallLength;
  if (!allowed() || off_.load(std::memory_order_acquire)) return;
  std::lock_guard guard(lock_);
  if (off_.load(std::memory_order_acquire) || sites_.size() >= kMostSites || sites_.contains(call)) return;
  Site& site = sites_[call];
  site.live = patch_locked(stub, call, number, site);
  if (klog_enabled(LogLevel::Debug))
    klog(LogLevel::Debug, "stub %d: the call at %#lx (%lu) is %s", stub.host_tid(), static_cast<unsigned long>(call),
         static_cast<unsigned long>(number), site.live ? "patched" : "left as it is");
}

bool CallSites::patch_locked(StubThread& stub, uint64_t call, uint64_t number, Site& site) {
  Code code;
  if (!read_code(stub.host_tid(), call, code)) return false;
  const std::optional<CallForm> form = recognise_call(code.all(), code.call, number);
  if (!form) return false;
  site.start = call - form->before;
  site.kind = form->kind;
  const std::span<const uint8_t> from = code.all().subspan(code.call - form->before);
  const Result<std::string> maps = maps_of(stub);
  if (!maps || !is_private_text(*maps, site.start, call + kCallLength + form->behind)) return false;
  const Result<Thunk> thunk = thunk_locked(stub, call, *form, from, *maps);
  if (!thunk) return false;
  site.thunk = thunk->start;
  site.behind_call = thunk->call + kCallLength;
  memcpy(site.original, from.data(), kJumpLength);
  site.patched[0] = 0xe9;
  const auto distance = static_cast<int32_t>(thunk->start - (site.start + kJumpLength));
  memcpy(site.patched + 1, &distance, sizeof distance);
  {
    std::lock_guard guard(regions_lock_);
    Jump& jump = jumps_[call];
    jump.start = site.start;
    memcpy(jump.original, site.original, kJumpLength);
    memcpy(jump.patched, site.patched, kJumpLength);
  }
  any_.store(true, std::memory_order_release);
  return put_locked(stub, *maps, site, true);
}

Result<Thunk> CallSites::thunk_locked(StubThread& stub, uint64_t call, const CallForm& form, std::span<const uint8_t> code,
                                      const std::string& maps) {
  for (const auto& region : regions_) {  // only lock_'s holder changes the list
    if (!ThunkRegion::reaches(region->address(), call)) continue;
    if (const std::optional<Thunk> thunk = region->add(call, form, code)) return *thunk;
  }
  const uint64_t at = place_near(maps, call, ThunkRegion::kSize);
  if (at == 0) return Errno(ENOMEM);
  const std::shared_ptr<ThunkRegion> region = TRY(ThunkRegion::create(at));
  StubCall map{SYS_mmap, {at, ThunkRegion::kSize, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE, ~0ULL, 0}};
  map.fd_argument = 4;
  map.fd = region->fd();
  if (TRY(stub.run_one(map)) != at) return Errno(ENOMEM);
  region->mapped();
  {
    std::lock_guard guard(regions_lock_);
    regions_.push_back(region);
  }
  const std::optional<Thunk> thunk = region->add(call, form, code);
  if (!thunk) return Errno(ENOMEM);
  return *thunk;
}

// Puts the jump, or what was there before it, in its place. False: something else is there, or the host does not let us.
bool CallSites::put_locked(StubThread& stub, const std::string& maps, const Site& site, bool install) {
  const pid_t host = stub.host_tid();
  const uint8_t* from = install ? site.original : site.patched;
  const uint8_t* to = install ? site.patched : site.original;
  const bool alone = stub.memory()->is_alone();
  if (!alone && !stub.run_one({SYS_membarrier, {MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE}})) return false;
  const WritableText text(stub, maps, site.start);
  if (!text.writable()) return false;
  uint8_t now[kJumpLength];
  bool done = read_guest(host, site.start, now, sizeof now).ok() && memcmp(now, from, sizeof now) == 0;
  const auto poke = [&](int offset, const uint8_t* bytes, size_t count) {
    done = done && write_guest(host, site.start + static_cast<uint64_t>(offset), bytes, count).ok();
  };
  if (alone) {
    poke(0, to, kJumpLength);
  } else {
    const bool next = site.kind == CallForm::Next;
    poke(0, &kBreakpoint, 1);
    if (next) poke(kSecondByte, &kBreakpoint, 1);
    done = done && synchronise(stub);
    poke(1, to + 1, 1);
    if (!next) poke(kSecondByte, to + kSecondByte, 1);
    poke(kSecondByte + 1, to + kSecondByte + 1, kJumpLength - kSecondByte - 1);
    done = done && synchronise(stub);
    if (next) poke(kSecondByte, to + kSecondByte, 1);
    poke(0, to, 1);
    done = done && synchronise(stub);
  }
  return done;
}

bool CallSites::give_back_locked(StubThread& stub, const Site& site) {
  const Result<std::string> maps = maps_of(stub);
  return maps && put_locked(stub, *maps, site, false);
}

// The same of a copy of the site's bytes at `start`, if that is what is there.
bool CallSites::give_moved_back_locked(StubThread& stub, const Site& site, uint64_t start) {
  uint8_t now[kJumpLength];
  if (!read_guest(stub.host_tid(), start, now, sizeof now) || memcmp(now, site.patched, sizeof now) != 0) return false;
  const Result<std::string> maps = maps_of(stub);
  if (!maps || !is_of_file(*maps, start)) return false;
  Site moved = site;
  moved.start = start;
  return put_locked(stub, *maps, moved, false);
}

uint64_t CallSites::guest_rip(uint64_t rip) const {
  if (!any()) return rip;
  std::lock_guard guard(regions_lock_);
  for (const auto& region : regions_)
    if (region->contains(rip))
      if (const std::optional<Thunk> thunk = region->find(rip)) return thunk->guest_rip(rip);
  return rip;
}

bool CallSites::has_thunks_at(uint64_t address) const {
  if (!any()) return false;
  std::lock_guard guard(regions_lock_);
  return std::any_of(regions_.begin(), regions_.end(), [&](const auto& region) { return region->contains(address); });
}

bool CallSites::settle_breakpoint(StubThread& stub, uint64_t& rip) {
  if (!any()) return false;
  const uint64_t at = rip - 1;
  std::lock_guard guard(lock_);  // whoever changes a site is done with it
  const auto found = std::find_if(sites_.begin(), sites_.end(), [&](const auto& entry) {
    const Site& site = entry.second;
    return site.behind_call != 0 && (at == site.start || (site.kind == CallForm::Next && at == site.start + kSecondByte));
  });
  if (found == sites_.end()) {
    // In text that has been moved: the instruction behind the call begins there again.
    const auto moved = std::find_if(sites_.begin(), sites_.end(), [&](const auto& entry) {
      const Site& site = entry.second;
      return site.behind_call != 0 && site.kind == CallForm::Next && give_moved_back_locked(stub, site, at - kSecondByte);
    });
    if (moved == sites_.end()) return false;
    rip = at;
    return true;
  }
  const Site& site = found->second;
  uint8_t now[kJumpLength];
  if (!read_guest(stub.host_tid(), site.start, now, sizeof now)) return false;
  if (now[at - site.start] != kBreakpoint) {
    rip = at;  // it was there for a moment
    return true;
  }
  if (at == site.start || memcmp(now, site.patched, sizeof now) != 0) return false;
  rip = site.behind_call;
  return true;
}

bool CallSites::settle_moved(StubThread& stub, uint64_t& rip) {
  if (!any()) return false;
  std::lock_guard guard(lock_);
  for (auto& [call, site] : sites_) {
    if (site.behind_call == 0) continue;
    const uint64_t start = rip - site.thunk + site.start;
    if (!give_moved_back_locked(stub, site, start)) continue;
    if (start == site.start) site.live = false;
    rip = start;
    return true;
  }
  return false;
}

bool CallSites::is_site(uint64_t call) const {
  if (!any()) return false;
  std::lock_guard guard(regions_lock_);
  return jumps_.contains(call);
}

void CallSites::show_originals(uint64_t address, std::span<uint8_t> bytes) const {
  if (!any()) return;
  std::lock_guard guard(regions_lock_);
  for (const auto& [call, jump] : jumps_) {
    const uint64_t from = std::max(jump.start, address), to = std::min(jump.start + kJumpLength, address + bytes.size());
    if (from >= to) continue;
    const uint64_t skipped = from - jump.start;
    if (memcmp(&bytes[from - address], jump.patched + skipped, to - from) == 0)
      memcpy(&bytes[from - address], jump.original + skipped, to - from);
  }
}

// Some bytes of the jump are the guest's: those that are not become what they were. Where most of them are not ours, none is.
void CallSites::repair_locked(StubThread& stub, const Site& site, const uint8_t* now) {
  int ours = 0;
  for (size_t i = 0; i < kJumpLength; ++i) ours += now[i] == site.patched[i];
  if (ours < 3) return;
  const Result<std::string> maps = maps_of(stub);
  if (!maps || !is_of_file(*maps, site.start)) return;
  const WritableText text(stub, *maps, site.start);
  if (!text.writable()) return;
  for (size_t i = 0; i < kJumpLength; ++i)
    if (now[i] == site.patched[i]) (void)write_guest(stub.host_tid(), site.start + i, &site.original[i], 1);
}

CallSites::Held CallSites::text_changes(StubThread& stub, uint64_t start, uint64_t end, bool writable) {
  Held held(lock_);
  for (auto& [call, site] : sites_) {
    if (!site.live || site.start + kJumpLength <= start || site.start >= end) continue;
    uint8_t now[kJumpLength];
    const bool readable = read_guest(stub.host_tid(), site.start, now, sizeof now).ok();
    const bool whole = readable && memcmp(now, site.patched, sizeof now) == 0;
    if (whole && !writable) continue;
    site.live = false;
    if (whole)
      (void)give_back_locked(stub, site);
    else if (readable)
      repair_locked(stub, site, now);
  }
  return held;
}

void CallSites::forget_held(uint64_t start, uint64_t end) {
  const auto gone = [&](const auto& entry) { return entry.first < end && entry.first + kCallLength > start; };
  std::erase_if(sites_, gone);
  std::lock_guard guard(regions_lock_);
  std::erase_if(jumps_, gone);
}

void CallSites::restore(StubThread& stub) {
  std::lock_guard guard(lock_);
  for (auto& [call, site] : sites_) {
    if (site.live) (void)give_back_locked(stub, site);
    site.live = false;
  }
}

void CallSites::copy_held(CallSites& child) const {
  child.sites_ = sites_;
  {
    std::lock_guard guard(regions_lock_);
    child.regions_ = regions_;
    child.jumps_ = jumps_;
  }
  child.any_ = any_.load();
  child.off_ = off_.load();
}

}  // namespace caisson::kernel
