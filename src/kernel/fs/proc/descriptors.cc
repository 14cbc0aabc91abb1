// /proc/PID/fd, fdinfo and task.
#include <dirent.h>

#include <algorithm>
#include <charconv>

#include "kernel/event/inotify.h"
#include "kernel/event/pidfd.h"
#include "kernel/fs/common/node.h"
#include "kernel/fs/host/stream.h"
#include "kernel/fs/proc/facts.h"
#include "kernel/ipc/pipe.h"
#include "kernel/platform/host_proc.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostListed = 256;

Result<int> parse_number(std::string_view name) {
  int value = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), value);
  if (error != std::errc() || end != name.data() + name.size() || value < 0 || std::to_string(value) != name) return Errno(ENOENT);
  return value;
}

// Where files without a folder are.
class UnnamedFileSystem : public FileSystem {
 public:
  const char* name() const override { return "anon_inodefs"; }
  Result<InodeRef> root() override { return Errno(ENOENT); }
  Result<struct statfs> stat_fs() override { return plain_statfs(0x09041934); }
};

const MountRef& unnamed_mount() {
  static const MountRef mount = [] {
    auto made = std::make_shared<Mount>();
    made->fs = std::make_shared<UnnamedFileSystem>();
    made->root = std::make_shared<Dentry>("", nullptr, nullptr);
    return made;
  }();
  return mount;
}

// What pipes, sockets and streams of the host are to a walk that reached them through /proc/self/fd: a file without a folder.
class UnnamedInode : public Inode {
 public:
  explicit UnnamedInode(FileRef file) : Inode(unnamed_mount()->fs), file_(std::move(file)) {}
  Result<struct statx> stat() override { return file_->stat(); }
  mode_t type() const override {
    const Result<struct statx> stat = file_->stat();
    return stat ? stat->stx_mode & S_IFMT : 0;
  }
  std::pair<uint64_t, uint64_t> identity() const override { return {1, reinterpret_cast<uint64_t>(file_.get())}; }
  Result<FileRef> open(Task& task, const Path& path, int flags) override {
    if ((flags & O_PATH) != 0) return FileRef(std::make_shared<File>(path, flags));
    const int kept = flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_LARGEFILE);
    // Unlike a FIFO's, its other end is waited for by nobody: it has been there.
    if (const auto pipe = std::dynamic_pointer_cast<PipeFile>(file_))
      return FileRef(std::make_shared<PipeFile>(pipe->pipe(), Path(), kept & ~O_LARGEFILE));
    if (S_ISSOCK(type()) || file_->host_fd() < 0) return Errno(ENXIO);
    return make_host_stream(task.kernel.watcher(), TRY(reopen_host_fd(file_->host_fd(), kept)));
  }

 private:
  FileRef file_;
};

Result<FileRef> file_of(Task& reader, const ProcSubject& subject, int fd) {
  const ProcFacts facts = TRY(gather_private(reader, subject));
  if (!facts.fds) return Errno(ENOENT);
  const Result<FileRef> file = facts.fds->get(fd);
  if (!file) return Errno(ENOENT);
  return file;
}

class DescriptorLink : public MadeUpInode {
 public:
  DescriptorLink(std::shared_ptr<FileSystem> fs, uint64_t number, mode_t mode, ProcSubject subject, int fd, uid_t uid, gid_t gid)
      : MadeUpInode(std::move(fs), number, S_IFLNK | mode, uid, gid), subject_(std::move(subject)), fd_(fd) {
    node_.size = 64;
  }
  Result<Path> follow(Task& task) override {
    const FileRef file = TRY(file_of(task, subject_, fd_));
    if (file->path()) return file->path();
    return Path{unnamed_mount(), std::make_shared<Dentry>(file->description(), nullptr, std::make_shared<UnnamedInode>(file))};
  }
  Result<std::string> read_link(Task& task) override {
    const FileRef file = TRY(file_of(task, subject_, fd_));
    return file->path() ? path_text(task, file->path()) : file->description();
  }

 private:
  ProcSubject subject_;
  int fd_;
};

// pidfd_open(2): whose it is, and its numbers in the namespaces below; -1: waited for.
std::string process_text(Kernel& kernel, const PidFd& pidfd, const PidNamespace& pids) {
  const ThreadGroup& group = *pidfd.group();
  {
    std::lock_guard guard(kernel.tasks);
    const auto& groups = group.id->space()->groups;
    const auto found = groups.find(group.id->number());
    if (found == groups.end() || found->second.get() != &group) return "Pid:\t-1\nNSpid:\t-1\n";
  }
  const pid_t number = group.id->in(pids);
  std::string numbers;
  for (const PidNamespace* at = group.id->space().get(); number != 0 && at != &pids; at = at->parent.get())
    numbers.insert(0, "\t" + std::to_string(group.id->in(*at)));
  return "Pid:\t" + std::to_string(number) + "\nNSpid:\t" + std::to_string(number) + numbers + "\n";
}

Result<std::string> describe(Task& reader, const ProcSubject& subject, int fd) {
  const FileRef file = TRY(file_of(reader, subject, fd));
  const ProcFacts facts = TRY(gather_private(reader, subject));
  const Result<bool> close_on_exec = facts.fds ? facts.fds->close_on_exec(fd) : Result<bool>(false);
  const Result<struct statx> stat = file->stat();
  off_t position = 0;
  if (file->seekable() && file->position_lock.try_lock()) {
    position = file->position;
    file->position_lock.unlock();
  }
  std::string text;
  append_format(text, "pos:\t%ld\nflags:\t0%o\nmnt_id:\t%lu\nino:\t%lu\n", static_cast<long>(position),
                static_cast<unsigned>(file->flags() | (close_on_exec && *close_on_exec ? O_CLOEXEC : 0)),
                static_cast<unsigned long>(file->path().mount ? file->path().mount->id : 15),
                static_cast<unsigned long>(stat ? stat->stx_ino : 0));
  if (const auto pidfd = std::dynamic_pointer_cast<PidFd>(file)) text += process_text(reader.kernel, *pidfd, *subject.pids);
  if (const auto inotify = std::dynamic_pointer_cast<Inotify>(file)) text += inotify->watches_text();
  return text;
}

class DescriptorFolder : public MadeUpFolder {
 public:
  DescriptorFolder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uint64_t number, bool info, uid_t uid, gid_t gid)
      : MadeUpFolder(std::move(fs), number, 0500, uid, gid), subject_(std::move(subject)), info_(info), uid_(uid), gid_(gid) {}

  Result<InodeRef> lookup(Task& task, std::string_view name) override {
    const int fd = TRY(parse_number(name));
    const FileRef file = TRY(file_of(task, subject_, fd));
    const uint64_t number = number_of(fd);
    if (info_)
      return InodeRef(std::make_shared<TextInode>(
          fs(), number, 0444, [subject = subject_, fd](Task& reader) { return describe(reader, subject, fd); }, nullptr, uid_, gid_));
    const mode_t mode = (file->readable() ? 0500U : 0U) | (file->writable() ? 0300U : 0U);
    return InodeRef(std::make_shared<DescriptorLink>(fs(), number, mode, subject_, fd, uid_, gid_));
  }

  // A process may look at its own, whoever it has become (proc_fd_permission).
  Result<void> access(Task& task, int mode, bool effective) override {
    if (subject_.group.lock() == task.group) return {};
    return MadeUpFolder::access(task, mode, effective);
  }

  Result<std::vector<ListedEntry>> list(Task& task, int64_t position) override {
    const ProcFacts facts = TRY(gather_private(task, subject_));
    std::vector<ListedEntry> result;
    if (!facts.fds) return result;
    for (const int fd : facts.fds->list()) {
      if (fd + 2 < position) continue;
      result.push_back({std::to_string(fd), number_of(fd), static_cast<unsigned char>(info_ ? DT_REG : DT_LNK), fd + 3});
      if (result.size() >= kMostListed) break;
    }
    return result;
  }

 private:
  // Beyond all numbers of processes' other files: bit 56 (57: fdinfo), the process, the descriptor.
  uint64_t number_of(int fd) const {
    const auto id = static_cast<uint64_t>(subject_.tid != 0 ? subject_.tid : subject_.pid);
    return (info_ ? 1ULL << 57 : 1ULL << 56) | id << 24 | static_cast<uint64_t>(fd);
  }
  ProcSubject subject_;
  bool info_;
  uid_t uid_;
  gid_t gid_;
};

class TaskFolder : public MadeUpFolder {
 public:
  TaskFolder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uint64_t number)
      : MadeUpFolder(std::move(fs), number), subject_(std::move(subject)) {}

  // Chromium asks the number of links whether it has one thread only.
  Result<struct statx> stat() override {
    struct statx stat = TRY(MadeUpFolder::stat());
    const ProcSubject whole{subject_.group, subject_.pid, 0, subject_.pids};
    if (const auto facts = gather(std::static_pointer_cast<ProcFileSystem>(fs())->kernel(), whole))
      stat.stx_nlink = static_cast<uint32_t>(2 + facts->threads);
    return stat;
  }

  Result<InodeRef> lookup(Task& task, std::string_view name) override {
    const pid_t tid = TRY(parse_number(name));
    const ProcSubject thread{subject_.group, subject_.pid, tid, subject_.pids};
    const Result<ProcFacts> facts = gather(task.kernel, thread);
    if (!facts) return Errno(ENOENT);
    return make_process_folder(std::static_pointer_cast<ProcFileSystem>(fs()), thread, facts->creds->euid, facts->creds->egid);
  }

  Result<std::vector<ListedEntry>> list(Task& task, int64_t position) override {
    std::vector<pid_t> tids;
    const std::shared_ptr<ThreadGroup> group = subject_.group.lock();
    if (!group) return Errno(ENOENT);
    {
      std::lock_guard guard(task.kernel.tasks);
      for (const Task* each : group->tasks) tids.push_back(each->id->in(*subject_.pids));
      if (tids.empty()) tids.push_back(group->id->in(*subject_.pids));
    }
    std::sort(tids.begin(), tids.end());
    std::vector<ListedEntry> result;
    for (const pid_t tid : tids)
      if (tid + 2 >= position) result.push_back({std::to_string(tid), static_cast<uint64_t>(tid) << 16 | 0x8000, DT_DIR, tid + 3});
    return result;
  }

 private:
  ProcSubject subject_;
};

}  // namespace

InodeRef make_fd_folder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uint64_t number, bool info, uid_t uid, gid_t gid) {
  return std::make_shared<DescriptorFolder>(std::move(fs), std::move(subject), number, info, uid, gid);
}

InodeRef make_task_folder(std::shared_ptr<ProcFileSystem> fs, ProcSubject subject, uint64_t number) {
  return std::make_shared<TaskFolder>(std::move(fs), std::move(subject), number);
}

}  // namespace caisson::kernel
