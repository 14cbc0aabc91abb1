#include "kernel/memory.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>

#include "kernel/patch/call_sites.h"
#include "kernel/platform/passed_memory.h"
#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

// Linux moves whole pages or nothing of them; what is moved before the first bad page counts.
ssize_t transfer(bool write, pid_t host_tid, uint64_t address, void* local, size_t length) {
  iovec ours{local, length};
  iovec theirs{reinterpret_cast<void*>(address), length};
  return write ? process_vm_writev(host_tid, &ours, 1, &theirs, 1, 0) : process_vm_readv(host_tid, &ours, 1, &theirs, 1, 0);
}

// What a call has brought along, or has room for, is no call of the host's.
bool is_passed(bool write, pid_t host_tid, uint64_t address, void* local, size_t length) {
  PassedMemory* passed = PassedMemory::of(host_tid);
  return passed != nullptr && (write ? passed->write(address, local, length) : passed->read(address, local, length));
}

Result<size_t> transfer_partly(bool write, pid_t host_tid, uint64_t address, void* local, size_t length) {
  if (length == 0) return size_t{0};
  if (is_passed(write, host_tid, address, local, length)) return length;
  const ssize_t moved = transfer(write, host_tid, address, local, length);
  if (moved > 0) return static_cast<size_t>(moved);
  return Errno(EFAULT);
}

}  // namespace

Result<void> read_guest(pid_t host_tid, uint64_t address, void* to, size_t length) {
  if (length == 0 || is_passed(false, host_tid, address, to, length)) return {};
  if (transfer(false, host_tid, address, to, length) != static_cast<ssize_t>(length)) return Errno(EFAULT);
  return {};
}

Result<void> write_guest(pid_t host_tid, uint64_t address, const void* from, size_t length) {
  if (length == 0 || is_passed(true, host_tid, address, const_cast<void*>(from), length)) return {};
  if (transfer(true, host_tid, address, const_cast<void*>(from), length) != static_cast<ssize_t>(length)) return Errno(EFAULT);
  return {};
}

Result<size_t> read_guest_partly(pid_t host_tid, uint64_t address, void* to, size_t length) {
  return transfer_partly(false, host_tid, address, to, length);
}

Result<size_t> write_guest_partly(pid_t host_tid, uint64_t address, const void* from, size_t length) {
  return transfer_partly(true, host_tid, address, const_cast<void*>(from), length);
}

AddressSpace::AddressSpace() : call_sites_(std::make_unique<CallSites>()) {}

Result<std::shared_ptr<AddressSpace>> AddressSpace::create() {
  std::shared_ptr<AddressSpace> memory(new AddressSpace);
  memory->slots_fd_.reset(memfd_create("guest-slots", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory->slots_fd_) return host_errno();
  // Sealed at its size: a stub that shrank it could make the kernel fault.
  if (ftruncate(memory->slots_fd_.get(), STUB_SLOTS_SIZE) != 0) return host_errno();
  if (fcntl(memory->slots_fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return host_errno();
  void* slots = mmap(nullptr, STUB_SLOTS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory->slots_fd_.get(), 0);
  if (slots == MAP_FAILED) return host_errno();
  memory->slots_ = slots;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return host_errno();
  memory->kernel_socket_.reset(pair[0]);
  memory->stub_socket_.reset(pair[1]);
  const int on = 1;
  if (setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) return host_errno();
  return memory;
}

AddressSpace::~AddressSpace() {
  if (slots_ != nullptr) munmap(slots_, STUB_SLOTS_SIZE);
}

bool AddressSpace::is_alone() {
  std::lock_guard guard(slots_lock_);
  return std::count(taken_.begin(), taken_.end(), true) == 1;
}

Result<uint32_t> AddressSpace::take_slot(int wanted) {
  std::lock_guard guard(slots_lock_);
  std::erase_if(leaving_, [&](const Leaving& old) {
    if (syscall(SYS_tgkill, old.host_pid, old.host_tid, 0) == 0) return false;
    taken_[old.index] = false;
    return true;
  });
  uint32_t index = wanted >= 0 ? static_cast<uint32_t>(wanted) : 0;
  if (wanted < 0)
    while (index < taken_.size() && taken_[index]) ++index;
  if (index >= STUB_MAX_SLOTS) return Errno(EAGAIN);
  if (index >= taken_.size()) taken_.resize(index + 1);
  if (taken_[index]) return Errno(EAGAIN);
  taken_[index] = true;
  return index;
}

void AddressSpace::free_slot(uint32_t index, pid_t host_pid, pid_t host_tid) {
  std::lock_guard guard(slots_lock_);
  if (index < taken_.size()) leaving_.push_back({index, host_pid, host_tid});
}

}  // namespace caisson::kernel
