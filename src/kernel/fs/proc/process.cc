// /proc/PID and /proc/PID/task/TID: one row per file.
#include <dirent.h>
#include <inttypes.h>

#include <algorithm>
#include <charconv>

#include "kernel/fs/nsfs/nsfs.h"
#include "kernel/fs/proc/facts.h"
#include "kernel/platform/host_proc.h"
#include "kernel/stub/layout.h"
#include "kernel/task/kernel.h"
#include "kernel/task/unshare.h"
#include "kernel/trace/trace.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

using ProcWrite = Result<void> (*)(Task& writer, const ProcSubject& subject, std::string_view text);

Result<std::string> read_name(Task& reader, const ProcSubject& subject) { return TRY(gather(reader.kernel, subject)).name + "\n"; }

Result<void> write_name(Task& writer, const ProcSubject& subject, std::string_view text) {
  const std::shared_ptr<ThreadGroup> group = subject.group.lock();
  if (!group || group != writer.group) return Errno(group ? EINVAL : ESRCH);
  const std::string name(text.substr(0, std::min<size_t>(text.find('\n'), 15)));
  std::lock_guard guard(writer.kernel.tasks);
  const auto found = subject.pids->tasks.find(subject.tid != 0 ? subject.tid : subject.pid);
  if (found == subject.pids->tasks.end() || found->second->group != group) return Errno(ESRCH);
  found->second->name = name;
  return {};
}

Result<std::string> read_oom_adjustment(Task& reader, const ProcSubject& subject) {
  return std::to_string(TRY(gather(reader.kernel, subject)).oom_score_adj) + "\n";
}

Result<void> write_oom_adjustment(Task& writer, const ProcSubject& subject, std::string_view text) {
  int value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc() || value < -1000 || value > 1000)
    return Errno(EINVAL);
  (void)TRY(gather_private(writer, subject));
  const std::shared_ptr<ThreadGroup> group = subject.group.lock();
  if (!group) return Errno(ESRCH);
  std::lock_guard guard(writer.kernel.tasks);
  if (value < group->oom_score_adj && !writer.creds->has(kCapSysResource)) return Errno(EACCES);
  group->oom_score_adj = value;
  return {};
}

Result<std::string> read_io(Task& reader, const ProcSubject& subject) {
  (void)TRY(gather_private(reader, subject));
  return std::string("rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n");
}

Result<std::string> read_personality(Task& reader, const ProcSubject& subject) {
  std::string text;
  append_format(text, "%08x\n", TRY(gather_private(reader, subject)).personality);
  return text;
}

// Clocks are the host's of the namespace that the kernel process and its stubs are in.
Result<std::string> read_time_offsets(Task&, const ProcSubject&) { return read_host_proc("self/timens_offsets"); }

Result<std::string> read_schedstat(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  const Result<std::string> host = read_host_proc((std::to_string(facts.host_pid) + "/schedstat").c_str());
  return host ? *host : std::string("0 0 0\n");
}

// As the reader's cgroup namespace has it.
Result<std::string> read_cgroup(Task& reader, const ProcSubject& subject) {
  const std::shared_ptr<ThreadGroup> group = subject.group.lock();
  if (!group) return Errno(ESRCH);
  std::lock_guard guard(reader.kernel.tasks);
  if (!group->cgroup) return std::string("0::/\n");
  return "0::" + cgroup_path(*group->cgroup, *reader.spaces->cgroup->root) + (group->cgroup->removed ? " (deleted)\n" : "\n");
}

template <const char* kText>
Result<std::string> fixed(Task&, const ProcSubject&) {
  return std::string(kText);
}
constexpr char kZero[] = "0", kZeroLine[] = "0\n", kUserMap[] = "         0          0 4294967295\n", kCoreFilter[] = "00000033\n",
               kSlack[] = "50000\n", kUnconfined[] = "unconfined\n";

enum Places : unsigned { kProcess = 1, kThread = 2, kBoth = 3 };

struct Row {
  const char* name;
  mode_t mode;
  unsigned places;
  ProcText read;
  ProcWrite write = nullptr;
};

// There is no audit here, so no loginuid and sessionid, as with a Linux without CONFIG_AUDIT: those who log users in (pam_loginuid) then
// leave it; that nobody may write them would be an error to them.
constexpr Row kRows[] = {
    {"auxv", 0400, kBoth, proc_auxiliary_vector},
    {"cgroup", 0444, kBoth, read_cgroup},
    {"cmdline", 0444, kBoth, proc_command_line},
    {"comm", 0644, kBoth, read_name, write_name},
    {"coredump_filter", 0644, kProcess, fixed<kCoreFilter>, [](Task&, const ProcSubject&, std::string_view) { return Result<void>(); }},
    {"environ", 0400, kBoth, proc_environment},
    {"gid_map", 0644, kBoth, proc_gid_map, proc_set_gid_map},
    {"io", 0400, kBoth, read_io},
    {"limits", 0444, kBoth, proc_limits},
    {"maps", 0444, kBoth, proc_maps},
    {"mountinfo", 0444, kBoth, proc_mountinfo},
    {"mounts", 0444, kBoth, proc_mounts},
    {"mountstats", 0400, kProcess, proc_mountstats},
    {"oom_adj", 0444, kBoth, fixed<kZeroLine>},
    {"oom_score", 0444, kBoth, fixed<kZeroLine>},
    {"oom_score_adj", 0644, kBoth, read_oom_adjustment, write_oom_adjustment},
    {"personality", 0400, kBoth, read_personality},
    {"projid_map", 0444, kBoth, fixed<kUserMap>},
    {"schedstat", 0444, kBoth, read_schedstat},
    {"setgroups", 0644, kProcess, proc_setgroups, proc_set_setgroups},
    {"smaps", 0444, kBoth, proc_smaps},
    {"smaps_rollup", 0444, kProcess, proc_smaps_rollup},
    {"stat", 0444, kBoth, proc_stat},
    {"statm", 0444, kBoth, proc_statm},
    {"status", 0444, kBoth, proc_status},
    {"timens_offsets", 0444, kProcess, read_time_offsets},
    {"timerslack_ns", 0444, kProcess, fixed<kSlack>},
    {"uid_map", 0644, kBoth, proc_uid_map, proc_set_uid_map},
    {"wchan", 0444, kBoth, fixed<kZero>},
};

// exe, cwd and root: links that lead to a place whatever it is called now.
enum class PlaceKind { Executable, WorkingFolder, Root };

class PlaceLink : public MadeUpInode {
 public:
  PlaceLink(std::shared_ptr<FileSystem> fs, uint64_t number, ProcSubject subject, PlaceKind kind, uid_t uid, gid_t gid)
      : MadeUpInode(std::move(fs), number, S_IFLNK | 0777, uid, gid), subject_(std::move(subject)), kind_(kind) {}
  Result<Path> follow(Task& task) override {
    const ProcFacts facts = TRY(gather_private(task, subject_));
    Path place;
    if (kind_ == PlaceKind::Executable && facts.memory) {
      std::lock_guard guard(facts.memory->lock);
      if (facts.memory->executable) place = *facts.memory->executable;
    } else if (facts.fs) {
      place = kind_ == PlaceKind::Root ? facts.fs->root() : facts.fs->cwd();
    }
    if (!place) return Errno(ENOENT);
    return place;
  }
  Result<std::string> read_link(Task& task) override { return path_text(task, TRY(follow(task))); }

 private:
  ProcSubject subject_;
  PlaceKind kind_;
};

// /proc/PID/mem: what lies in the process's memory, at the offset that is its address. Debuggers.
class MemoryFile : public File {
 public:
  MemoryFile(Path path, int flags, ProcSubject subject) : File(std::move(path), flags), subject_(std::move(subject)) {}
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override {
    return move(task, buffer, offset, [&](pid_t host, uint64_t address, char* bytes, size_t size) -> Result<size_t> {
      const size_t got = TRY(read_guest_partly(host, address, bytes, size));
      return buffer.put(bytes, got);
    });
  }
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override {
    return move(task, buffer, offset, [&](pid_t host, uint64_t address, char* bytes, size_t size) -> Result<size_t> {
      const size_t taken = TRY(buffer.take(bytes, size));
      const Result<size_t> written = write_guest_partly(host, address, bytes, taken);
      if (written && *written == taken) return written;
      // A tracer may write where the process itself may not: breakpoints.
      if (poke_memory(task, subject_.tid != 0 ? subject_.tid : subject_.pid, address, std::string(bytes, taken))) return taken;
      return written;
    });
  }
  bool seekable() const override { return true; }
  Result<off_t> seek(off_t position, off_t offset, int whence) override {
    if (whence == SEEK_END) return Errno(EINVAL);
    return File::seek(position, offset, whence);
  }

 private:
  template <typename Once>
  Result<size_t> move(Task& task, IoBuffer& buffer, off_t offset, Once&& once) {
    const ProcFacts facts = TRY(gather_private(task, subject_));
    if (facts.host_tid == 0) return size_t{0};
    size_t done = 0;
    char bytes[4096];
    while (!buffer.empty()) {
      const uint64_t address = static_cast<uint64_t>(offset) + done;
      const size_t size = std::min(buffer.left(), sizeof bytes - address % sizeof bytes);
      const bool hidden = address >= STUB_WINDOW && address < STUB_WINDOW_END;
      const Result<size_t> moved = hidden ? Result<size_t>(Errno(EIO)) : once(facts.host_tid, address, bytes, size);
      if (!moved) return done > 0 ? Result<size_t>(done) : Errno(EIO);
      done += *moved;
      if (*moved < size) break;
    }
    return done;
  }
  ProcSubject subject_;
};

class MemoryInode : public MadeUpInode {
 public:
  MemoryInode(std::shared_ptr<FileSystem> fs, uint64_t number, ProcSubject subject, uid_t uid, gid_t gid)
      : MadeUpInode(std::move(fs), number, S_IFREG | 0600, uid, gid), subject_(std::move(subject)) {}
  Result<FileRef> open(Task& task, const Path& path, int flags) override {
    if ((flags & O_PATH) != 0) return MadeUpInode::open(task, path, flags);
    (void)TRY(gather_private(task, subject_));
    return FileRef(std::make_shared<MemoryFile>(path, flags, subject_));
  }

 private:
  ProcSubject subject_;
};

// The links of ns/: they lead to the namespaces themselves.
struct NamespaceName {
  const char* name;
  NamespaceKind kind;
  bool for_children = false;
};
constexpr NamespaceName kNamespaces[] = {{"cgroup", NamespaceKind::Cgroup}, {"ipc", NamespaceKind::Ipc},
                                         {"mnt", NamespaceKind::Mount},     {"net", NamespaceKind::Network},
                                         {"pid", NamespaceKind::Pid},       {"pid_for_children", NamespaceKind::Pid, true},
                                         {"time", NamespaceKind::Time},     {"time_for_children", NamespaceKind::Time},
                                         {"user", NamespaceKind::User},     {"uts", NamespaceKind::Uts}};

class NamespaceLink : public MadeUpInode {
 public:
  NamespaceLink(std::shared_ptr<FileSystem> fs, uint64_t number, ProcSubject subject, const NamespaceName& which)
      : MadeUpInode(std::move(fs), number, S_IFLNK | 0777), subject_(std::move(subject)), which_(which) {}
  Result<Path> follow(Task& task) override { return namespace_place(TRY(space(task))); }
  Result<std::string> read_link(Task& task) override { return namespace_text(*TRY(space(task))); }

 private:
  Result<NamespaceRef> space(Task& task) {
    (void)TRY(gather_private(task, subject_));
    const std::shared_ptr<ThreadGroup> group = subject_.group.lock();
    if (!group) return Errno(ENOENT);
    std::lock_guard guard(task.kernel.tasks);
    const Task* of = group->leader != nullptr ? group->leader : group->tasks.empty() ? nullptr : group->tasks.front();
    if (const auto found = subject_.pids->tasks.find(subject_.tid); subject_.tid != 0 && found != subject_.pids->tasks.end())
      of = found->second;
    if (of == nullptr || of->group != group || !of->spaces) return Errno(ENOENT);
    const NamespaceRef found = namespace_of(*of, which_.kind, which_.for_children);
    if (which_.for_children && of->spaces->pids_for_children->init.expired()) return Errno(ENOENT);
    return found;
  }
  ProcSubject subject_;
  NamespaceName which_;
};

class ProcessFolder : public MadeUpFolder {
 public:
  ProcessFolder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uid_t uid, gid_t gid, uint64_t number)
      : MadeUpFolder(std::move(fs), number, 0555, uid, gid), subject_(std::move(subject)), uid_(uid), gid_(gid), number_(number) {}

  const ProcSubject& subject() const { return subject_; }

  Result<InodeRef> lookup(Task& task, std::string_view name) override {
    (void)TRY(alive(task));
    for (size_t i = 0; i < std::size(kRows); ++i) {
      const Row& row = kRows[i];
      if (row.name != name || (row.places & place()) == 0) continue;
      if (row.read == proc_mountinfo || row.read == proc_mounts)
        return make_mounts_file(fs(), number_ + 16 + i, row.mode, subject_, row.read);
      TextInode::Write write;
      if (row.write != nullptr)
        write = [subject = subject_, row](Task& writer, std::string_view text) { return row.write(writer, subject, text); };
      return InodeRef(std::make_shared<TextInode>(
          fs(), number_ + 16 + i, row.mode, [subject = subject_, row](Task& reader) { return row.read(reader, subject); }, std::move(write),
          uid_, gid_));
    }
    return lookup_special(name);
  }

  Result<std::vector<ListedEntry>> list(Task& task, int64_t position) override {
    (void)TRY(alive(task));
    std::vector<ListedEntry> all;
    const auto add = [&](const char* name, unsigned char type) {
      all.push_back({name, number_ + 16 + all.size(), type, static_cast<int64_t>(all.size()) + 3});
    };
    for (const Row& row : kRows)
      if ((row.places & place()) != 0) add(row.name, DT_REG);
    add("mem", DT_REG);
    for (const char* name : {"fd", "fdinfo", "ns", "net"}) add(name, DT_DIR);
    if (place() == kProcess) add("task", DT_DIR);
    for (const char* name : {"cwd", "exe", "root"}) add(name, DT_LNK);
    const size_t skip = std::min(all.size(), static_cast<size_t>(std::max<int64_t>(position, 2) - 2));
    all.erase(all.begin(), all.begin() + static_cast<ptrdiff_t>(skip));
    return all;
  }

 private:
  unsigned place() const { return subject_.tid == 0 ? kProcess : kThread; }

  Result<void> alive(Task& task) const {
    const Result<ProcFacts> facts = gather(task.kernel, subject_);
    return facts ? Result<void>() : Errno(ENOENT);
  }

  Result<InodeRef> lookup_special(std::string_view name) {
    const auto proc = std::static_pointer_cast<ProcFileSystem>(fs());
    if (name == "fd" || name == "fdinfo")
      return make_fd_folder(proc, subject_, number_ + (name == "fd" ? 1 : 2), name == "fdinfo", uid_, gid_);
    if (name == "task" && place() == kProcess) return make_task_folder(proc, subject_, number_ + 3);
    if (name == "net") return make_network_state(fs(), subject_, number_ + 4);
    if (name == "mem") return InodeRef(std::make_shared<MemoryInode>(fs(), number_ + 9, subject_, uid_, gid_));
    if (name == "cwd" || name == "exe" || name == "root") {
      const PlaceKind kind = name == "cwd" ? PlaceKind::WorkingFolder : name == "exe" ? PlaceKind::Executable : PlaceKind::Root;
      return InodeRef(std::make_shared<PlaceLink>(fs(), number_ + 5 + static_cast<uint64_t>(kind), subject_, kind, uid_, gid_));
    }
    if (name == "ns") {
      TreeBuilder tree(fs(), number_ + 64);
      for (const NamespaceName& each : kNamespaces)
        tree.add(each.name, std::make_shared<NamespaceLink>(fs(), tree.number(), subject_, each));
      return InodeRef(tree.root());
    }
    return Errno(ENOENT);
  }

  ProcSubject subject_;
  uid_t uid_;
  gid_t gid_;
  uint64_t number_;
};

}  // namespace

std::shared_ptr<ThreadGroup> process_of_folder(const File& file) {
  if (!file.path()) return nullptr;
  const auto* folder = dynamic_cast<const ProcessFolder*>(file.path().inode().get());
  return folder != nullptr && folder->subject().tid == 0 ? folder->subject().group.lock() : nullptr;
}

InodeRef make_process_folder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uid_t uid, gid_t gid) {
  // Numbers: pid << 16 for the process, tid << 16 | 1 << 15 for a thread; entries follow.
  const uint64_t number = subject.tid != 0 ? static_cast<uint64_t>(subject.tid) << 16 | 0x8000 : static_cast<uint64_t>(subject.pid) << 16;
  return std::make_shared<ProcessFolder>(std::move(fs), std::move(subject), uid, gid, number);
}

}  // namespace caisson::kernel
