// System V shared memory: host memfds that stubs map.
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/ipc/limits.h"
#include "kernel/ipc/listing.h"
#include "kernel/ipc/shared_memory.h"
#include "kernel/ipc/sysv.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/current.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kPage = 4096, kMostBytes = 1ULL << 40;
constexpr unsigned kDestroyed = 01000;  // SHM_DEST

struct Attachment {
  std::weak_ptr<AddressSpace> memory;
  uint64_t address = 0;
};

struct Segment {
  IpcPermissions permissions;
  UniqueFd fd;
  uint64_t size = 0;
  int64_t attached_at = 0, detached_at = 0, changed_at = realtime_now() / 1'000'000'000;
  pid_t creator = 0, last = 0;
  std::weak_ptr<ThreadGroup> maker;  // empty once it has ended
  bool removed = false;
  std::vector<Attachment> attachments;
  size_t sweep_at = 64;  // so many of them: those that have gone are taken out
};

IpcTable<Segment>& segments_of(IpcNamespace& space) {
  return space.part<IpcTable<Segment>>(IpcNamespace::SharedMemory, IpcLimit::Segments);
}
// Of the task that the calling thread serves.
IpcTable<Segment>& segments() { return segments_of(*current_task()->spaces->ipc); }

uint64_t pages_of(uint64_t size) { return (size + kPage - 1) / kPage; }

void sweep(Segment& segment) {
  std::erase_if(segment.attachments, [](const Attachment& each) { return each.memory.expired(); });
  segment.sweep_at = std::max<size_t>(64, segment.attachments.size() * 2);
}

// Those whose processes have gone do not count any more; a segment without any is destroyed where that has been asked for.
void settle(IpcNamespace& space, int id, const std::shared_ptr<Segment>& segment) {
  sweep(*segment);
  if (!segment->attachments.empty()) return;
  if (segment->removed || (segment->maker.expired() && IpcLimits::of(space)[IpcLimit::RemoveForced] != 0)) segments_of(space).remove(id);
}
// What has been detached is not spared for its maker's sake (shm_rmid_forced).
void settle_detached(IpcNamespace& space, int id, const std::shared_ptr<Segment>& segment) {
  if (IpcLimits::of(space)[IpcLimit::RemoveForced] != 0) segment->maker.reset();
  settle(space, id, segment);
}

void settle_all(IpcNamespace& space) {
  segments_of(space).each([&](int id, const std::shared_ptr<Segment>& segment) { settle(space, id, segment); });
}

// ENOSPC: all together would have more than the namespace may.
Result<void> may_have_pages(IpcNamespace& space, uint64_t pages) {
  settle_all(space);
  uint64_t all = pages;
  segments_of(space).each([&](int, const auto& segment) { all += pages_of(segment->size); });
  if (all > IpcLimits::of(space)[IpcLimit::SegmentPages]) return Errno(ENOSPC);
  return {};
}

Result<long> sys_shmget(Task& task, int key, uint64_t size, int flags) {
  if ((flags & SHM_HUGETLB) != 0) return Errno(ENOMEM);
  return static_cast<long>(TRY(segments().get(
      task, key, flags,
      [&]() -> Result<std::shared_ptr<Segment>> {
        IpcNamespace& space = *task.spaces->ipc;
        if (size == 0 || size > IpcLimits::of(space)[IpcLimit::SegmentBytes]) return Errno(EINVAL);
        if (size > kMostBytes) return Errno(ENOMEM);
        TRY(may_have_pages(space, pages_of(size)));
        auto segment = std::make_shared<Segment>();
        segment->fd.reset(::memfd_create("guest-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
        if (!segment->fd) return host_errno();
        if (ftruncate(segment->fd.get(), static_cast<off_t>((size + kPage - 1) & ~(kPage - 1))) != 0) return Errno(ENOSPC);
        (void)fcntl(segment->fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        segment->size = size;
        segment->creator = task.group->pid;
        segment->maker = task.group;
        return segment;
      },
      [&](const Segment& old) { return size > old.size ? Result<void>(Errno(EINVAL)) : Result<void>(); })));
}

Result<long> sys_shmat(Task& task, int id, uint64_t address, int flags) {
  if (address % kPage != 0) {
    if ((flags & SHM_RND) == 0) return Errno(EINVAL);
    address &= ~(kPage - 1);
  }
  const bool read_only = (flags & SHM_RDONLY) != 0;
  std::shared_ptr<Segment> segment;
  {
    std::lock_guard guard(segments().lock);
    segment = segments().find(id);
    if (!segment) return Errno(EINVAL);
    TRY(ipc_access(task, segment->permissions, read_only ? 4 : 6));
  }
  int prot = PROT_READ | (read_only ? 0 : PROT_WRITE);
  if ((flags & SHM_EXEC) != 0) prot |= PROT_EXEC;
  if ((flags & SHM_REMAP) != 0 && address == 0) return Errno(EINVAL);
  int map_flags = MAP_SHARED;
  if (address != 0) map_flags |= (flags & SHM_REMAP) != 0 ? MAP_FIXED : MAP_FIXED_NOREPLACE;
  const uint64_t length = (segment->size + kPage - 1) & ~(kPage - 1);
  if (address != 0 && (address >= (1ULL << 46) || address + length >= (1ULL << 46))) return Errno(EINVAL);
  StubCall call{SYS_mmap, {address, length, static_cast<uint64_t>(prot), static_cast<uint64_t>(map_flags), ~0ULL, 0}};
  call.fd_argument = 4;
  call.fd = segment->fd.get();
  Result<uint64_t> mapped = task.stub->run_one(call);
  if (!mapped) return mapped.error() == Errno(EEXIST) ? Errno(EINVAL) : mapped.error();
  std::lock_guard guard(segments().lock);
  segment->attachments.push_back({task.memory, *mapped});
  segment->attached_at = realtime_now() / 1'000'000'000;
  segment->last = task.group->pid;
  return static_cast<long>(*mapped);
}

Result<long> sys_shmdt(Task& task, uint64_t address) {
  uint64_t length = 0;
  {
    std::lock_guard guard(segments().lock);
    int found_id = 0;
    std::shared_ptr<Segment> found;
    segments().each([&](int id, const std::shared_ptr<Segment>& segment) {
      for (const Attachment& each : segment->attachments) {
        if (each.address != address || each.memory.lock() != task.memory) continue;
        found = segment;
        found_id = id;
      }
    });
    if (!found) return Errno(EINVAL);
    length = (found->size + kPage - 1) & ~(kPage - 1);
    std::erase_if(found->attachments, [&](const Attachment& each) { return each.address == address && each.memory.lock() == task.memory; });
    found->detached_at = realtime_now() / 1'000'000'000;
    found->last = task.group->pid;
    settle_detached(*task.spaces->ipc, found_id, found);
  }
  TRY(task.stub->run_one({SYS_munmap, {address, length}}));
  return 0L;
}

// struct shmid64_ds of x86-64.
struct SegmentStatus {
  IpcPermissions permissions;
  uint64_t size;
  int64_t attached_at, detached_at, changed_at;
  int32_t creator, last;
  uint64_t attachments, unused[2];
};
static_assert(sizeof(SegmentStatus) == 112);

SegmentStatus status_of(const Segment& segment) {
  SegmentStatus status{};
  status.permissions = segment.permissions;
  if (segment.removed) status.permissions.mode |= kDestroyed;
  status.size = segment.size;
  status.attached_at = segment.attached_at;
  status.detached_at = segment.detached_at;
  status.changed_at = segment.changed_at;
  status.creator = segment.creator;
  status.last = segment.last;
  status.attachments = segment.attachments.size();
  return status;
}

Result<long> info(Task& task, int command, uint64_t at) {
  int greatest = 0;
  size_t count = 0;
  uint64_t pages = 0;
  {
    std::lock_guard guard(segments().lock);
    settle_all(*task.spaces->ipc);
    greatest = segments().greatest();
    count = segments().size();
    segments().each([&](int, const auto& segment) { pages += pages_of(segment->size); });
  }
  if (command == IPC_INFO) {
    const IpcLimits& limits = IpcLimits::of(*task.spaces->ipc);
    const uint64_t segments_allowed = limits[IpcLimit::Segments];
    const uint64_t told[9] = {limits[IpcLimit::SegmentBytes], 1, segments_allowed, segments_allowed, limits[IpcLimit::SegmentPages]};
    TRY(task.write_bytes(at, told, sizeof told));
  } else {
    struct {
      int32_t used, pad;
      uint64_t total, resident, swapped, attempts, successes;
    } const usage = {static_cast<int32_t>(count), 0, pages, pages, 0, 0, 0};
    TRY(task.write_bytes(at, &usage, sizeof usage));
  }
  return static_cast<long>(greatest);
}

Result<long> sys_shmctl(Task& task, int id, int command, UserPtr<SegmentStatus> at) {
  if (command == IPC_INFO || command == SHM_INFO) return info(task, command, at.address());
  SegmentStatus wanted{};
  if (command == IPC_SET) wanted = TRY(task.read(at));
  SegmentStatus status{};
  {
    std::lock_guard guard(segments().lock);
    const auto segment = segments().find(id);
    if (!segment) return Errno(EINVAL);
    settle(*task.spaces->ipc, id, segment);
    switch (command) {
      case IPC_STAT:
      case SHM_STAT:
        TRY(ipc_access(task, segment->permissions, 4));
        status = status_of(*segment);
        break;
      case IPC_SET:
        TRY(ipc_owns(task, segment->permissions));
        segment->permissions.uid = wanted.permissions.uid;
        segment->permissions.gid = wanted.permissions.gid;
        segment->permissions.mode = wanted.permissions.mode & 0777;
        segment->changed_at = realtime_now() / 1'000'000'000;
        return 0L;
      case IPC_RMID:
        TRY(ipc_owns(task, segment->permissions));
        segments().forget_key(*segment);
        segment->permissions.key = IPC_PRIVATE;
        segment->removed = true;
        settle(*task.spaces->ipc, id, segment);
        return 0L;
      case SHM_LOCK:
      case SHM_UNLOCK:
        return 0L;
      default:
        return Errno(EINVAL);
    }
  }
  TRY(task.write(at, status));
  return command == SHM_STAT ? static_cast<long>(id) : 0L;
}

}  // namespace

void inherit_attachments(Task& parent, const std::shared_ptr<AddressSpace>& child) {
  std::lock_guard guard(segments().lock);
  segments().each([&](int, const std::shared_ptr<Segment>& segment) {
    if (segment->attachments.size() >= segment->sweep_at) sweep(*segment);
    const size_t count = segment->attachments.size();
    for (size_t i = 0; i < count; ++i)
      if (segment->attachments[i].memory.lock() == parent.memory) segment->attachments.push_back({child, segment->attachments[i].address});
  });
}

void settle_shared_memory(IpcNamespace& space, const ThreadGroup* ended) {
  std::lock_guard guard(segments_of(space).lock);
  segments_of(space).each([&](int id, const std::shared_ptr<Segment>& segment) {
    if (ended != nullptr && segment->maker.lock().get() == ended) segment->maker.reset();
    const size_t before = segment->attachments.size();
    sweep(*segment);
    if (segment->attachments.size() != before)
      settle_detached(space, id, segment);
    else
      settle(space, id, segment);
  });
}

Result<std::string> list_shared_memory(Task& reader) {
  std::string text =
      "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime"
      "                   rss                  swap\n";
  std::lock_guard guard(segments().lock);
  settle_all(*reader.spaces->ipc);
  segments().each([&](int id, const std::shared_ptr<Segment>& segment) {
    const SegmentStatus status = status_of(*segment);
    append_format(text, "%10d %10d  %4o %21" PRIu64 " %5d %5d  %5" PRIu64, status.permissions.key, id, status.permissions.mode, status.size,
                  status.creator, status.last, status.attachments);
    text += ipc_ids_text(reader, status.permissions);
    append_format(text, " %10" PRId64 " %10" PRId64 " %10" PRId64 " %21d %21d\n", status.attached_at, status.detached_at, status.changed_at,
                  0, 0);
  });
  return text;
}

std::span<const SyscallRow> shm_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(shmget, 29, Full, ""),
      SYSCALL(shmat, 30, Full, ""),
      SYSCALL(shmctl, 31, Full, ""),
      SYSCALL(shmdt, 67, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
