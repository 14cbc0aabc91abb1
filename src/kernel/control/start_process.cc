#include "kernel/control/start_process.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "kernel.pb.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/messages.h"
#include "kernel/fs/host/stream.h"
#include "kernel/fs/registry.h"
#include "kernel/klog.h"
#include "kernel/tty/console.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

CredentialsRef credentials_of(const v1::Process& process) {
  auto creds = std::make_shared<Credentials>();
  creds->uid = creds->euid = creds->suid = creds->fsuid = process.uid();
  creds->gid = creds->egid = creds->sgid = creds->fsgid = process.gid();
  creds->groups.assign(process.groups().begin(), process.groups().end());
  creds->bounding = process.bounding();
  creds->effective = process.effective();
  creds->permitted = process.permitted();
  creds->inheritable = process.inheritable();
  creds->ambient = process.ambient();
  creds->no_new_privileges = process.no_new_privileges();
  return creds;
}

// passwd(5): name:password:uid:gid:gecos:home:shell, of the container.
std::string home_folder(Kernel& kernel, Container& container, uid_t uid) {
  const std::unique_ptr<Task> setup = make_setup_task(kernel, container);
  Result<FileRef> file = open_path(*setup, AT_FDCWD, "/etc/passwd", O_RDONLY | O_NONBLOCK, 0);
  if (!file || ((*file)->path().inode()->type() & S_IFMT) != S_IFREG) return "/";
  constexpr uint64_t kMost = 1 << 20;
  const Result<struct statx> status = (*file)->path().inode()->stat();
  std::string text(status ? std::min<uint64_t>(status->stx_size, kMost) : 0, '\0');
  IoBuffer buffer(text.data(), text.size());
  Result<size_t> got = (*file)->read(*setup, buffer, 0);
  if (!got) return "/";
  text.resize(*got);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::vector<std::string> fields;
    for (size_t from = at; from <= end;) {
      const size_t colon = std::min(text.find(':', from), end);
      fields.push_back(text.substr(from, colon - from));
      from = colon + 1;
    }
    if (fields.size() >= 6 && fields[2] == std::to_string(uid) && !fields[5].empty()) return fields[5];
    at = end + 1;
  }
  return "/";
}

void add_home(Kernel& kernel, Container& container, StartProcess& process) {
  for (const std::string& variable : process.environment)
    if (variable.starts_with("HOME=")) return;
  process.environment.push_back("HOME=" + home_folder(kernel, container, process.creds->uid));
}

// As runc: a working folder that is missing is made, by root.
Result<void> make_cwd(Kernel& kernel, Container& container, const std::string& cwd) {
  const std::unique_ptr<Task> setup = make_setup_task(kernel, container);
  if (walk(*setup, AT_FDCWD, cwd, kWalkFolder)) return {};
  for (size_t end = 1; end <= cwd.size(); ++end) {
    if (end < cwd.size() && cwd[end] != '/') continue;
    const std::string part = cwd.substr(0, end);
    if (walk(*setup, AT_FDCWD, part)) continue;
    const LastName last = TRY(walk_to_last(*setup, AT_FDCWD, part));
    (void)TRY(last.folder.inode()->make(*setup, last.name, S_IFDIR | 0755, 0));
  }
  return {};
}

// As runc: who opens /dev/stdout again by its name must be allowed to.
void give_to(uid_t uid, int fd) {
  struct stat stat;
  if (fstat(fd, &stat) != 0 || stat.st_uid == uid || (S_ISCHR(stat.st_mode) && stat.st_rdev == 0x103)) return;
  [[maybe_unused]] int ignored = fchown(fd, uid, stat.st_gid);
}

Result<void> add_files(Kernel& kernel, Container& container, const v1::Process& description, std::vector<UniqueFd> fds,
                       StartProcess& process) {
  if (fds.size() < 3) return Errno(EPROTO);
  for (int i = 0; i < 3; ++i) give_to(process.creds->uid, fds[i].get());
  if (description.terminal()) {
    const std::shared_ptr<Terminal> terminal = TRY(make_console(kernel, container, std::move(fds[0]), process.creds->uid));
    const FileRef file = TRY(open_console(container, terminal));
    process.terminal = terminal;
    process.files = {file, file, file};
  } else {
    for (int i = 0; i < 3; ++i) process.files.push_back(TRY(make_host_stream(kernel.watcher(), std::move(fds[i]))));
  }
  for (size_t i = 3; i < fds.size(); ++i) process.files.push_back(TRY(make_host_stream(kernel.watcher(), std::move(fds[i]))));
  return {};
}

}  // namespace

std::vector<UniqueFd> take_streams(unsigned preserved) {
  std::vector<UniqueFd> fds;
  for (int fd = 0; fd < 3; ++fd) fds.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 64));
  for (unsigned i = 0; i < preserved; ++i) {
    fds.emplace_back(fcntl(kFirstPreservedFd + static_cast<int>(i), F_DUPFD_CLOEXEC, 64));
    close(kFirstPreservedFd + static_cast<int>(i));
  }
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd < 3; ++fd)
    if (null)
      dup2(null.get(), fd);
    else
      close(fd);
  return fds;
}

Result<std::shared_ptr<const SeccompState>> configured_seccomp(const v1::Start& start) {
  const std::string& bytes = start.seccomp();
  if (bytes.empty()) return std::shared_ptr<const SeccompState>();
  if (bytes.size() % sizeof(sock_filter) != 0) return Errno(EINVAL);
  std::vector<sock_filter> code(bytes.size() / sizeof(sock_filter));
  memcpy(code.data(), bytes.data(), bytes.size());
  auto filter = std::make_shared<SeccompFilter>(TRY(SeccompProgram::verify(code)));
  filter->log = start.seccomp_log();
  return SeccompState::with(nullptr, std::move(filter));
}

Scheduling scheduling_of(const v1::Process& process) {
  return {process.scheduling_policy(), process.scheduling_priority(), false, process.io_priority()};
}

Result<Kernel::Started> start_with(Kernel& kernel, Container& container, const v1::Process& description, std::vector<UniqueFd> fds) {
  StartProcess process;
  process.arguments.assign(description.arguments().begin(), description.arguments().end());
  process.environment.assign(description.environment().begin(), description.environment().end());
  process.cwd = description.cwd().empty() ? "/" : description.cwd();
  process.creds = credentials_of(description);
  process.umask = description.umask() & 0777;
  process.oom_score_adj = description.oom_score_adj();
  process.scheduling = scheduling_of(description);
  process.nice = std::clamp(description.nice(), -20, 19);
  for (const v1::Process::Limit& limit : description.limits()) process.limits.push_back({limit.resource(), {limit.soft(), limit.hard()}});
  TRY(make_cwd(kernel, container, process.cwd));
  add_home(kernel, container, process);
  TRY(add_files(kernel, container, description, std::move(fds), process));
  return kernel.start(container, std::move(process));
}

Result<Kernel::Started> start_described(Kernel& kernel, Container& container, std::vector<UniqueFd> fds) {
  if (fds.empty()) return Errno(EPROTO);
  const UniqueFd file = std::move(fds.front());
  fds.erase(fds.begin());
  v1::Process description;
  if (!description.ParseFromString(TRY(read_description(file.get())))) return Errno(EPROTO);
  return start_with(kernel, container, description, std::move(fds));
}

}  // namespace caisson::kernel
