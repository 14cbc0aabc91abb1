#include "attempts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/io_priority.h"

namespace fs = std::filesystem;

namespace {

constexpr auto kNowhere = static_cast<uint64_t>(AT_FDCWD);
const char kOurs[] = "what a victim has in its memory";

std::vector<int> numbers_in(const std::string& folder) {
  std::vector<int> numbers;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (const std::string name = entry.path().filename(); isdigit(name[0]) != 0) numbers.push_back(atoi(name.c_str()));
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::string of_process(pid_t pid, const std::string& file) { return "/proc/" + std::to_string(pid) + "/" + file; }

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string link_of(const std::string& path) {
  std::error_code error;
  return fs::read_symlink(path, error);
}

bool same_file(const std::string& one, const std::string& other) {
  struct stat a, b;
  return stat(one.c_str(), &a) == 0 && stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// The number that it has in the innermost of its PID namespaces.
pid_t inner_number(pid_t pid) {
  const std::string status = text_of(of_process(pid, "status"));
  const size_t at = status.find("NSpid:");
  if (at == status.npos) return 0;
  const std::string line = status.substr(at, status.find('\n', at) - at);
  return atoi(line.substr(line.find_last_of("\t ") + 1).c_str());
}

std::string file_name(int at, const std::string& path) { return std::to_string(at) + ":" + path; }

}  // namespace

World::World(Puppet& taken, const Node& outside, pid_t somebody, bool is_control)
    : puppet(taken), node(outside), victim(somebody), control(is_control), fds(numbers_in(of_process(taken.pid(), "fd"))) {
  for (const int fd : fds) {
    const std::string path = of_process(puppet.pid(), "fd/" + std::to_string(fd));
    if (struct stat first; stat((path + "/1/cmdline").c_str(), &first) == 0 && proc < 0) proc = fd;
  }
  if (control) {
    everyone = others = {victim};
    return;
  }
  const std::string space = link_of(of_process(puppet.pid(), "ns/pid"));
  for (const int pid : numbers_in("/proc")) {
    if (link_of(of_process(pid, "ns/pid")) != space) continue;
    everyone.push_back(inner_number(pid));
    const bool stub = text_of(of_process(pid, "comm")) == "caisson-guest\n";
    if (!stub && pid != puppet.pid()) others.push_back(everyone.back());
  }
}

long World::open(int at, const std::string& path, int flags) {
  const long fd = puppet.call(SYS_openat, static_cast<uint64_t>(at), puppet.put(path), static_cast<uint64_t>(flags | O_CLOEXEC));
  if (fd >= 0) puppet.call(SYS_close, static_cast<uint64_t>(fd));
  return fd;
}

long World::openat2(int at, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  const uint64_t name = puppet.put(path), rules = puppet.put({reinterpret_cast<const char*>(&how), sizeof how});
  const long fd = puppet.call(SYS_openat2, static_cast<uint64_t>(at), name, rules, sizeof how);
  if (fd >= 0) puppet.call(SYS_close, static_cast<uint64_t>(fd));
  return fd;
}

namespace {

// Files ---------------------------------------------------------------------------------------------------------------------------

// The links "absolute" and "up" are in the container's folders; they lead to the canary.
void names(World& world) {
  const std::string up = "../../../../../../../../../../../..";
  for (const int fd : world.fds)
    for (const std::string& path : {world.node.canary, up + world.node.canary, std::string("absolute"), std::string("up")}) {
      world.note(file_name(fd, path), world.open(fd, path, O_RDONLY));
      world.note(file_name(fd, path) + " by openat2", world.openat2(fd, path, O_RDONLY));
    }
  world.note("by its name", world.open(AT_FDCWD, world.node.canary, O_RDONLY));
}

// Whatever ".." is of what it holds, it is not above what the container has.
void parents(World& world) {
  std::vector<std::string> outside = {"/"};
  for (std::string path = world.node.canary; path.size() > 1; path = fs::path(path).parent_path()) outside.push_back(path);
  for (const std::string& folder : world.node.folders) outside.push_back(fs::path(folder).parent_path());
  for (const int fd : world.fds) {
    const long up = world.puppet.call(SYS_openat, static_cast<uint64_t>(fd), world.puppet.put(".."), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (up < 0) {
      world.note(file_name(fd, ".."), up);
      continue;
    }
    const std::string reached = of_process(world.puppet.pid(), "fd/" + std::to_string(up));
    const bool left = std::any_of(outside.begin(), outside.end(), [&](const std::string& path) { return same_file(reached, path); });
    world.note(file_name(fd, ".."), left ? up : kStayed);
    world.puppet.call(SYS_close, static_cast<uint64_t>(up));
  }
}

// Calls that take a name and no descriptor.
void bare_names(World& world) {
  Puppet& puppet = world.puppet;
  const uint64_t canary = puppet.put(world.node.canary), name = puppet.put("user.taken"), value = puppet.put("value");
  struct stat stat {};
  ::stat(world.node.canary.c_str(), &stat);
  world.note("truncate", puppet.call(SYS_truncate, canary, static_cast<uint64_t>(stat.st_size)));
  world.note("setxattr", puppet.call(SYS_setxattr, canary, name, value, 5, 0));
  world.note("getxattr", puppet.call(SYS_getxattr, canary, name, 0, 0));
  world.note("listxattr", puppet.call(SYS_listxattr, canary, 0, 0));
  world.note("removexattr", puppet.call(SYS_removexattr, canary, name));
  const long watcher = puppet.call(SYS_inotify_init1, O_CLOEXEC);
  world.note("inotify_add_watch", puppet.call(SYS_inotify_add_watch, static_cast<uint64_t>(watcher), canary, 2));
  puppet.call(SYS_close, static_cast<uint64_t>(watcher));
}

void working_folder(World& world) {
  world.note("chdir", world.puppet.call(SYS_chdir, world.puppet.put("/")));
  for (const int fd : world.fds) world.note("fchdir " + std::to_string(fd), world.puppet.call(SYS_fchdir, static_cast<uint64_t>(fd)));
}

// "node" is a device node of the image.
void devices(World& world) {
  for (const int fd : world.fds) {
    world.note(file_name(fd, "node"), world.open(fd, "node", O_RDONLY));
    for (const mode_t type : {S_IFBLK, S_IFCHR})
      world.note("mknodat " + std::to_string(fd),
                 world.puppet.call(SYS_mknodat, static_cast<uint64_t>(fd), world.puppet.put("taken-made"), type | 0600, makedev(1, 5)));
    world.puppet.call(SYS_unlinkat, static_cast<uint64_t>(fd), world.puppet.put("taken-made"), 0);
  }
}

// Other processes -----------------------------------------------------------------------------------------------------------------

void through_proc(World& world) {
  for (const pid_t pid : world.others) {
    const std::string folder = std::to_string(pid) + "/";
    for (const char* file : {"root", "cwd", "exe", "fd/0", "fd/3", "ns/mnt", "ns/net", "ns/user", "environ", "maps"})
      world.note(folder + file, world.open(world.proc, folder + file, O_RDONLY));
    for (const int flags : {O_RDONLY, O_RDWR}) world.note(folder + "mem", world.open(world.proc, folder + "mem", flags));
  }
  // Those that it may look into are as empty as itself.
  for (const pid_t pid : world.everyone)
    for (const char* file : {"root", "cwd", "task/self/root", "cwd/../../../../../.."})
      world.note(std::to_string(pid) + "/" + file, world.open(world.proc, std::to_string(pid) + "/" + file + world.node.canary, O_RDONLY));
}

// CVE-2019-5736: the runtime's own program.
void programs(World& world) {
  std::vector<std::string> all = {"self/exe"};
  for (const pid_t pid : world.everyone) all.push_back(std::to_string(pid) + "/exe");
  for (const std::string& path : all) {
    world.note(path, world.open(world.proc, path, O_WRONLY));
    world.note(path + " chmod", world.puppet.call(SYS_fchmodat, static_cast<uint64_t>(world.proc), world.puppet.put(path), 0777));
  }
}

void memory_of_others(World& world) {
  const iovec there{const_cast<char*>(kOurs), sizeof kOurs};
  std::vector<pid_t> all = world.others;
  all.push_back(world.victim);
  for (const pid_t pid : all) {
    const uint64_t buffer = world.puppet.put(kOurs);
    const iovec here{reinterpret_cast<void*>(buffer), sizeof kOurs};
    const uint64_t ours = world.puppet.put({reinterpret_cast<const char*>(&here), sizeof here});
    const uint64_t theirs = world.puppet.put({reinterpret_cast<const char*>(&there), sizeof there});
    for (const long call : {SYS_process_vm_readv, SYS_process_vm_writev})
      world.note(std::to_string(call) + " of " + std::to_string(pid),
                 world.puppet.call(call, static_cast<uint64_t>(pid), ours, 1, theirs, 1, 0));
  }
}

void signals(World& world) {
  const auto pid = static_cast<uint64_t>(world.victim);
  siginfo_t info{};
  info.si_code = SI_QUEUE;
  const uint64_t what = world.puppet.put({reinterpret_cast<const char*>(&info), sizeof info});
  world.note("tgkill 0", world.puppet.call(SYS_tgkill, pid, pid, 0));
  world.note("kill 0", world.puppet.call(SYS_kill, pid, 0));
  world.note("kill SIGCONT", world.puppet.call(SYS_kill, pid, SIGCONT));
  world.note("tkill", world.puppet.call(SYS_tkill, pid, SIGCONT));
  world.note("rt_sigqueueinfo", world.puppet.call(SYS_rt_sigqueueinfo, pid, SIGCONT, what));
  world.note("rt_tgsigqueueinfo", world.puppet.call(SYS_rt_tgsigqueueinfo, pid, pid, SIGCONT, what));
  world.note("F_SETOWN", world.puppet.call(SYS_fcntl, 1, F_SETOWN, pid));
  const long held = world.puppet.call(SYS_pidfd_open, pid, 0);
  world.note("pidfd_open", held);
  world.note("pidfd_send_signal", world.puppet.call(SYS_pidfd_send_signal, static_cast<uint64_t>(held), SIGCONT, 0, 0));
  world.note("kill SIGKILL", world.puppet.call(SYS_kill, pid, SIGKILL));
}

// What it holds already are processes of its own PID namespace.
void held_processes(World& world) {
  const std::string space = link_of(of_process(world.puppet.pid(), "ns/pid"));
  for (const int fd : world.fds) {
    if (link_of(of_process(world.puppet.pid(), "fd/" + std::to_string(fd))).find("pidfd") == std::string::npos) continue;
    const std::string info = text_of(of_process(world.puppet.pid(), "fdinfo/" + std::to_string(fd)));
    const size_t at = info.find("\nPid:");
    const pid_t pid = at == info.npos ? 0 : atoi(info.c_str() + at + 5);
    const bool ended = pid <= 0, own = !ended && link_of(of_process(pid, "ns/pid")) == space;
    world.note("pidfd " + std::to_string(fd), ended || own ? kStayed : pid);
  }
}

void priorities(World& world) {
  const auto pid = static_cast<uint64_t>(world.victim);
  Puppet& puppet = world.puppet;
  const uint64_t mask = puppet.put("\x01\0\0\0\0\0\0"), zero = puppet.put(std::string(8, '\0'));
  const rlimit limit{1, 1};
  world.note("setpriority", puppet.call(SYS_setpriority, PRIO_PROCESS, pid, 5));
  world.note("setpriority of a group", puppet.call(SYS_setpriority, PRIO_PGRP, static_cast<uint64_t>(getpgrp()), 5));
  const auto nice = [&] { return getpriority(PRIO_PROCESS, static_cast<id_t>(world.victim)); };
  const int before = nice();
  const long user = puppet.call(SYS_setpriority, PRIO_USER, 0, static_cast<uint64_t>(std::min(before + 2, 19)));
  world.note("setpriority of a user", nice() != before ? user : kStayed);
  world.note("sched_setaffinity", puppet.call(SYS_sched_setaffinity, pid, 8, mask));
  world.note("sched_setscheduler", puppet.call(SYS_sched_setscheduler, pid, SCHED_BATCH, zero));
  world.note("prlimit64",
             puppet.call(SYS_prlimit64, pid, RLIMIT_CORE, puppet.put({reinterpret_cast<const char*>(&limit), sizeof limit}), 0));
  world.note("ioprio_set", puppet.call(SYS_ioprio_set, 1, pid, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7)));
  world.note("ioprio_set of a user", puppet.call(SYS_ioprio_set, 3, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7)));
}

// Itself ----------------------------------------------------------------------------------------------------------------------------

void code(World& world) {
  Puppet& puppet = world.puppet;
  constexpr uint64_t kReadExecute = PROT_READ | PROT_EXEC;
  const uint64_t page = puppet.put("");
  world.note("mmap", puppet.call(SYS_mmap, 0, 4096, kReadExecute | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, static_cast<uint64_t>(-1), 0));
  const long file = puppet.call(SYS_memfd_create, puppet.put("code"), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  puppet.call(SYS_ftruncate, static_cast<uint64_t>(file), 4096);
  world.note("mmap of a memory file", puppet.call(SYS_mmap, 0, 4096, kReadExecute, MAP_PRIVATE, static_cast<uint64_t>(file), 0));
  puppet.call(SYS_close, static_cast<uint64_t>(file));
  world.note("mprotect", puppet.call(SYS_mprotect, page, 4096, kReadExecute));
  puppet.call(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE);
  world.note("pkey_mprotect", puppet.call(SYS_pkey_mprotect, page, 4096, kReadExecute, static_cast<uint64_t>(-1)));
  puppet.call(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE);
  world.note("personality", puppet.call(SYS_personality, READ_IMPLIES_EXEC));
}

void privileges(World& world) {
  Puppet& puppet = world.puppet;
  const __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct all[2] = {{~0U, ~0U, 0}, {0xff, 0xff, 0}};
  world.note("capset", puppet.call(SYS_capset, puppet.put({reinterpret_cast<const char*>(&header), sizeof header}),
                                   puppet.put({reinterpret_cast<const char*>(all), sizeof all})));
  world.note("dumpable", puppet.call(SYS_prctl, PR_SET_DUMPABLE, 1));
  world.note("ambient", puppet.call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL));
  world.note("securebits", puppet.call(SYS_prctl, PR_SET_SECUREBITS, 0));
  world.note("setresuid", puppet.call(SYS_setresuid, 0, 0, 0));
  world.note("setresgid", puppet.call(SYS_setresgid, 0, 0, 0));
}

void processes(World& world) {
  world.note("clone", world.puppet.call(SYS_clone, SIGCHLD));
  world.note("clone in a user namespace", world.puppet.call(SYS_clone, CLONE_NEWUSER | SIGCHLD));
  world.note("clone in a network", world.puppet.call(SYS_clone, CLONE_NEWNET | SIGCHLD));
  world.note("clone3", world.puppet.call(SYS_clone3, 0, 0));
}

// The calls of other tables that the machine has.
void other_tables(World& world) { world.note("x32", world.puppet.call(0x40000000 | SYS_setns, 0, 0)); }

}  // namespace

const std::vector<Attempt>& attempts() {
  static const std::vector<Attempt> all = {
      {"names", {-ENOENT, -ENOTDIR, -EACCES, -EPERM}, names},
      {"parents", {kStayed, -ENOTDIR, -EACCES, -ENOENT}, parents},
      {"bare-names", {-ENOENT}, bare_names},
      {"working-folder", {kTrapped}, working_folder},
      {"devices", {kTrapped, -ENOENT, -ENOTDIR, -EACCES, -EROFS}, devices},
      {"proc", {-EACCES, -EPERM, -ENOENT, -EROFS, -ENOTDIR}, through_proc},
      {"programs", {-EROFS, -ETXTBSY, -EACCES, -EPERM}, programs},
      {"memory", {-EPERM, -ESRCH}, memory_of_others},
      {"signals", {-ESRCH, -EBADF, kTrapped}, signals},
      {"held-processes", {kStayed}, held_processes, true},
      {"priorities", {-ESRCH, kTrapped, kStayed}, priorities},
      {"code", {kTrapped}, code},
      {"privileges", {-EPERM, kTrapped}, privileges},
      {"processes", {kTrapped, -ENOSYS}, processes},
      {"other-tables", {kTrapped}, other_tables, true},
      {"sockets", {kTrapped}, sockets},
      {"services", {kStayed, -EISCONN, -ECONNREFUSED, -ECONNRESET, -EPIPE, -EINVAL}, services},
      {"side-doors", {kTrapped, -EPERM}, side_doors},
  };
  return all;
}

const std::vector<Fatal>& fatal_calls() {
  static const std::vector<Fatal> all = {
      {"chroot", [](Puppet& puppet) { return puppet.call(SYS_chroot, puppet.put("/")); }},
      {"mount", [](Puppet& puppet) { return puppet.call(SYS_mount, puppet.put("none"), puppet.put("/nowhere"), puppet.put("tmpfs")); }},
      {"fsopen", [](Puppet& puppet) { return puppet.call(SYS_fsopen, puppet.put("tmpfs"), 1); }},
      {"open_tree", [](Puppet& puppet) { return puppet.call(SYS_open_tree, kNowhere, puppet.put("/"), O_CLOEXEC); }},
      {"setns", [](Puppet& puppet) { return puppet.call(SYS_setns, 0, CLONE_NEWNET); }},
      {"unshare", [](Puppet& puppet) { return puppet.call(SYS_unshare, CLONE_NEWUTS); }},
      {"ptrace", [](Puppet& puppet) { return puppet.call(SYS_ptrace, 16 /* PTRACE_ATTACH */, 4'000'000); }},
      {"pidfd_getfd", [](Puppet& puppet) { return puppet.call(SYS_pidfd_getfd, 0, 0, 0); }},
      {"open_by_handle_at", [](Puppet& puppet) { return puppet.call(SYS_open_by_handle_at, 0, puppet.put(std::string(16, '\0')), 0); }},
      {"execveat",
       [](Puppet& puppet) {
         const long file = puppet.call(SYS_memfd_create, puppet.put("program"), MFD_CLOEXEC);
         return puppet.call(SYS_execveat, static_cast<uint64_t>(file), puppet.put(""), 0, 0, AT_EMPTY_PATH);
       }},
      {"bpf", [](Puppet& puppet) { return puppet.call(SYS_bpf, 5, puppet.put(std::string(128, '\0')), 128); }},
      {"io_uring_setup", [](Puppet& puppet) { return puppet.call(SYS_io_uring_setup, 1, puppet.put(std::string(120, '\0'))); }},
      {"keyctl", [](Puppet& puppet) { return puppet.call(SYS_keyctl, 0, static_cast<uint64_t>(-3), 0); }},
      {"userfaultfd", [](Puppet& puppet) { return puppet.call(SYS_userfaultfd, O_CLOEXEC); }},
      {"32-bit-gate", [](Puppet& puppet) { return puppet.call32(20 /* getpid */); }},
  };
  return all;
}

unsigned send_everything(Puppet& puppet) {
  constexpr size_t kMany = 200;
  const std::vector<int> fds = numbers_in(of_process(puppet.pid(), "fd"));
  std::string control(CMSG_SPACE(kMany * sizeof(int)), '\0');
  auto* header = reinterpret_cast<cmsghdr*>(control.data());
  header->cmsg_len = CMSG_LEN(kMany * sizeof(int));
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  for (size_t i = 0; i < kMany; ++i) memcpy(CMSG_DATA(header) + i * sizeof(int), &fds[i % fds.size()], sizeof(int));
  unsigned sent = 0;
  for (int round = 0; round < 20; ++round)
    for (const int fd : fds) {
      const std::string payload(static_cast<size_t>(1 + round), static_cast<char>(round));
      const iovec part{reinterpret_cast<void*>(puppet.put(payload)), payload.size()};
      msghdr message{};
      message.msg_iov = reinterpret_cast<iovec*>(puppet.put({reinterpret_cast<const char*>(&part), sizeof part}));
      message.msg_iovlen = 1;
      message.msg_control = reinterpret_cast<void*>(puppet.put(control));
      message.msg_controllen = control.size();
      const uint64_t where = puppet.put({reinterpret_cast<const char*>(&message), sizeof message});
      sent += puppet.call(SYS_sendmsg, static_cast<uint64_t>(fd), where, MSG_DONTWAIT | MSG_NOSIGNAL) > 0 ? 1 : 0;
    }
  return sent;
}
