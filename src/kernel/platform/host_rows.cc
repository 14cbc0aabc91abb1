// Found by reading src/kernel and by running every test with the filter loaded. Written for a kernel process that has been taken: what is
// allowed here is what an intruder can make the host's kernel do.
#include "kernel/platform/host_rows.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <map>

#include "kernel/net/host_options.h"
#include "kernel/stub/layout.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

namespace caisson::kernel {
namespace {

using enum ArgumentRule::Test;

constexpr uint64_t bit(int capability) { return 1ULL << capability; }
constexpr uint32_t kHere = static_cast<uint32_t>(AT_FDCWD);
// What pthread_create(3) passes.
constexpr uint32_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                             CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
constexpr uint32_t kWindowWatcher = CLONE_VM | CLONE_FILES | CLONE_FS;  // tty/console.cc

ArgumentRule no_bit(int argument, uint32_t bits, const char* words) { return {argument, HasNone, {bits}, words}; }
ArgumentRule one_of(int argument, std::vector<uint32_t> values, std::string words, uint32_t ignored = 0) {
  return {argument, OneOf, std::move(values), std::move(words), ignored};
}
ArgumentRule below_a_descriptor(int argument) { return {argument, Not, {kHere}, "below a descriptor, not AT_FDCWD"}; }

using Rows = std::vector<CallRow>;
void append(Rows& to, Rows rows) { to.insert(to.end(), rows.begin(), rows.end()); }

// Calls with rules, those that are made often first.
Rows memory_rows() {
  return {
      {"mmap",
       SYS_mmap,
       {no_bit(2, PROT_EXEC, "no PROT_EXEC")},
       "heap, stacks of threads, stubs' slots; no code is added to what it began with"},
      {"mprotect", SYS_mprotect, {no_bit(2, PROT_EXEC, "no PROT_EXEC")}, "stacks of threads, heap"},
  };
}

Rows file_rows() {
  return {
      {"openat",
       SYS_openat,
       {below_a_descriptor(0)},
       "the container's files, one component at a time; its root directory is empty, so an absolute path leads nowhere, and \"..\" ends at "
       "each "
       "mount's own root"},
      {"openat2",
       SYS_openat2,
       {below_a_descriptor(0)},
       "as openat; several components at once, with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS. (Its flags lie in memory, where no filter "
       "sees "
       "them: it can do no more than openat.)"},
      {"openat",
       SYS_openat,
       {one_of(0, {kHere}, "AT_FDCWD")},
       "malloc asks so for the node's overcommit mode, and does without",
       CallEffect::Denied},
      {"fcntl",
       SYS_fcntl,
       {one_of(1, {F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS},
               "F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS")},
       "its own descriptors; locks are the kernel's own"},
      {"mknodat",
       SYS_mknodat,
       {one_of(2, {S_IFREG, S_IFIFO, S_IFSOCK}, "files, FIFOs and sockets: no device nodes", 07777)},
       "the guest's mknod"},
      {"mknodat",
       SYS_mknodat,
       {one_of(2, {S_IFCHR}, "a character device", 07777), one_of(3, {0}, "of number 0")},
       "whiteouts of overlays that the guest mounts: no device has this number"},
      {"memfd_create",
       SYS_memfd_create,
       {one_of(1, {0}, "MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL, MFD_EXEC", MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x18)},
       "the content of tmpfs files, pipes' pages, shared memory; stubs' slots"},
  };
}

Rows process_rows() {
  return {
      {"tgkill",
       SYS_tgkill,
       {one_of(2, {0, STUB_INTERRUPT_SIGNAL, SIGABRT}, "signals 0, SIGUSR2, SIGABRT")},
       "interrupts a guest thread's stub, asks whether it is there, ends itself; sees its own PID namespace only"},
      {"kill", SYS_kill, {one_of(1, {SIGKILL}, "SIGKILL")}, "ends the zygote and the helper of a terminal, in its own PID namespace"},
      {"pidfd_send_signal", SYS_pidfd_send_signal, {one_of(1, {SIGKILL}, "SIGKILL")}, "ends a stub"},
      {"pidfd_open", SYS_pidfd_open, {one_of(1, {0}, "no flags")}, "a stub, to be waited for"},
      {"clone",
       SYS_clone,
       {one_of(0, {kThread}, "the flags of a thread, exactly")},
       "one thread for each guest thread; no processes, no namespaces"},
      {"clone",
       SYS_clone,
       {one_of(0, {kWindowWatcher}, "CLONE_VM, CLONE_FILES, CLONE_FS, exactly")},
       "the helper that watches the size of an engine's terminal"},
      {"clone3",
       SYS_clone3,
       {},
       "its flags lie in memory, where no filter sees them; the C library takes clone then",
       CallEffect::NotThere},
      {"prctl", SYS_prctl, {one_of(0, {15 /* PR_SET_NAME */}, "PR_SET_NAME")}, "names of threads"},
      {"prlimit64", SYS_prlimit64, {}, "a stub's limits as the guest sets them, at most its own; never above the container's hard limits"},
  };
}

Rows scheduling_rows() {
  constexpr uint32_t kOneThread = 1;  // IOPRIO_WHO_PROCESS
  return {
      {"sched_setscheduler",
       SYS_sched_setscheduler,
       {one_of(1, {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE}, "SCHED_OTHER, SCHED_BATCH, SCHED_IDLE", SCHED_RESET_ON_FORK)},
       "a stub's policy, as the guest sets it: nothing real-time"},
      {"ioprio_set",
       SYS_ioprio_set,
       {one_of(0, {kOneThread}, "one thread")},
       "a stub's priority for input and output, as the guest sets it; real-time only with the node's CAP_SYS_ADMIN or CAP_SYS_NICE"},
  };
}

Rows ioctl_rows() {
  Rows rows = {
      {"ioctl",
       SYS_ioctl,
       {one_of(1, {TCGETS, TCSETS, TIOCGWINSZ, TIOCSCTTY, FIONREAD}, "TCGETS, TCSETS, TIOCGWINSZ, TIOCSCTTY, FIONREAD")},
       "terminals that engines have passed; not TIOCSTI"},
      {"ioctl", SYS_ioctl, {one_of(1, {FS_IOC_GETFLAGS}, "FS_IOC_GETFLAGS")}, "lsattr(1) of the container's files"},
      {"ioctl", SYS_ioctl, {one_of(1, {SIOCGIFCONF}, "SIOCGIFCONF")}, "the pod's interfaces"},
      {"ioctl",
       SYS_ioctl,
       {one_of(1, {SIOCETHTOOL}, "SIOCETHTOOL")},
       "what the pod's interfaces can do (tcpdump, nmap, ethtool); what would change them needs CAP_NET_ADMIN, which the kernel process "
       "has not"},
  };
  std::vector<uint32_t> reading;  // those that change are the network broker's
  for (const HostIoctl& row : host_ioctls())
    if (!row.administrator) reading.push_back(row.command);
  rows.push_back({"ioctl", SYS_ioctl, {one_of(1, reading, "those of src/kernel/net/host_options.cc that read")}, "the pod's interfaces"});
  return rows;
}

const char* level_name(int level) {
  switch (level) {
    case SOL_SOCKET:
      return "SOL_SOCKET";
    case IPPROTO_IP:
      return "IPPROTO_IP";
    case IPPROTO_IPV6:
      return "IPPROTO_IPV6";
    case IPPROTO_TCP:
      return "IPPROTO_TCP";
    case IPPROTO_UDP:
      return "IPPROTO_UDP";
    case IPPROTO_ICMPV6:
      return "IPPROTO_ICMPV6";
    case SOL_RAW:
      return "SOL_RAW";
    case SOL_NETLINK:
      return "SOL_NETLINK";
    case SOL_PACKET:
      return "SOL_PACKET";
  }
  return "another level";
}

// The options that guests may set and read, level by level: the very rows that the kernel serves them by.
Rows option_rows(const char* name, int number, bool setting) {
  std::map<int, std::vector<uint32_t>> levels;
  for (const HostOption& option : host_options())
    if (setting ? option.set : option.get) levels[option.level].push_back(static_cast<uint32_t>(option.name));
  if (setting) {
    // Its own: stubs' channels, and those of the network broker and rooms.
    for (int own : {SO_PASSCRED, SO_RCVTIMEO, SO_SNDTIMEO}) levels[SOL_SOCKET].push_back(static_cast<uint32_t>(own));
  } else {
    for (int own : {SO_PROTOCOL, SO_TYPE, SO_DOMAIN}) levels[SOL_SOCKET].push_back(static_cast<uint32_t>(own));
  }
  Rows rows;
  for (const auto& [level, options] : levels) {
    const std::string words =
        std::string(level_name(level)) + ": " + std::to_string(options.size()) + " options of src/kernel/net/host_options.cc";
    rows.push_back({name,
                    number,
                    {one_of(1, {static_cast<uint32_t>(level)}, words), one_of(2, options, "")},
                    setting ? "the guest's sockets; not packet filters, not what takes programs or descriptors" : "the guest's sockets"});
  }
  return rows;
}

Rows socket_rows() {
  constexpr uint32_t kFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const auto family = [](uint32_t value, const char* words) { return one_of(0, {value}, words); };
  Rows rows;
  for (const auto& [value, words] : {std::pair<uint32_t, const char*>(AF_INET, "AF_INET"), {AF_INET6, "AF_INET6"}}) {
    rows.push_back({"socket",
                    SYS_socket,
                    {family(value, words), one_of(1, {SOCK_STREAM}, "SOCK_STREAM", kFlags), one_of(2, {0, IPPROTO_TCP}, "TCP")},
                    "the guest's sockets, in the pod's network namespace"});
    rows.push_back({"socket",
                    SYS_socket,
                    {family(value, words), one_of(1, {SOCK_DGRAM}, "SOCK_DGRAM", kFlags),
                     one_of(2, {0, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_ICMP, IPPROTO_ICMPV6}, "UDP, UDP-Lite, ping")},
                    "the guest's sockets, in the pod's network namespace"});
  }
  append(rows, {{"socket",
                 SYS_socket,
                 {family(AF_NETLINK, "AF_NETLINK"), one_of(1, {SOCK_RAW, SOCK_DGRAM}, "", kFlags),
                  one_of(2, {NETLINK_ROUTE, NETLINK_SOCK_DIAG}, "routes and socket lists: no netfilter, no audit, no generic families")},
                 "ip, ss, getifaddrs; the host refuses what changes anything: that is the network broker's"},
                {"socketpair",
                 SYS_socketpair,
                 {family(AF_UNIX, "AF_UNIX"), one_of(1, {SOCK_SEQPACKET}, "SOCK_SEQPACKET", kFlags)},
                 "a stub's channel. No other Unix socket of the host: one could connect to a service of the node"}});
  append(rows, option_rows("setsockopt", SYS_setsockopt, true));
  append(rows, option_rows("getsockopt", SYS_getsockopt, false));
  return rows;
}

// Calls that are safe with any arguments.
Rows plain_rows() {
  return {
      {"futex", SYS_futex, {}, "locks; the handoff with stubs"},
      {"process_vm_readv",
       SYS_process_vm_readv,
       {},
       "a guest's memory: processes of its own PID namespace with no more privileges than it has"},
      {"process_vm_writev", SYS_process_vm_writev, {}, "as process_vm_readv"},
      {"read", SYS_read, {}, "descriptors that it has"},
      {"write", SYS_write, {}, "descriptors that it has"},
      {"pread64", SYS_pread64, {}, "descriptors that it has"},
      {"pwrite64", SYS_pwrite64, {}, "descriptors that it has"},
      {"lseek", SYS_lseek, {}, "descriptors that it has"},
      {"close", SYS_close, {}, "descriptors that it has"},
      {"fstat", SYS_fstat, {}, "descriptors that it has"},
      {"newfstatat", SYS_newfstatat, {}, "the container's files"},
      {"statx", SYS_statx, {}, "the container's files"},
      {"fstatfs", SYS_fstatfs, {}, "the container's files"},
      {"getdents64", SYS_getdents64, {}, "the container's folders"},
      {"readlinkat", SYS_readlinkat, {}, "the container's symbolic links"},
      {"faccessat2", SYS_faccessat2, {}, "what the guest's user may do"},
      {"mkdirat", SYS_mkdirat, {}, "the container's files"},
      {"unlinkat", SYS_unlinkat, {}, "the container's files"},
      {"symlinkat", SYS_symlinkat, {}, "the container's files"},
      {"linkat", SYS_linkat, {}, "the container's files"},
      {"renameat2", SYS_renameat2, {}, "the container's files"},
      {"renameat", SYS_renameat, {}, "the container's files: the C library's renameat2 without flags"},
      {"fchmodat", SYS_fchmodat, {}, "the container's files"},
      {"fchownat", SYS_fchownat, {}, "the container's files"},
      {"fchown", SYS_fchown, {}, "standard streams become the guest user's, as runc has it"},
      {"utimensat", SYS_utimensat, {}, "the container's files"},
      {"ftruncate", SYS_ftruncate, {}, "the container's files, memory files"},
      {"fallocate", SYS_fallocate, {}, "the container's files, memory files"},
      {"fsync", SYS_fsync, {}, "the container's files"},
      {"fdatasync", SYS_fdatasync, {}, "the container's files"},
      {"sync_file_range", SYS_sync_file_range, {}, "the container's files"},
      {"sync_file_range", SYS_sync_file_range, {}, "the container's files"},
      {"copy_file_range", SYS_copy_file_range, {}, "the container's files"},
      {"truncate", SYS_truncate, {}, "the container's files, as self/fd/N of its working folder, which is its /proc; its root is empty"},
      {"getxattr", SYS_getxattr, {}, "as truncate"},
      {"setxattr", SYS_setxattr, {}, "as truncate; security.capability only with CAP_SETFCAP"},
      {"removexattr", SYS_removexattr, {}, "as truncate"},
      {"listxattr", SYS_listxattr, {}, "as truncate"},
      {"inotify_init1", SYS_inotify_init1, {}, "one instance, while the guest watches files of host folders"},
      {"inotify_add_watch", SYS_inotify_add_watch, {}, "as truncate: what the guest's user may read, at most 8,192 files"},
      {"inotify_rm_watch", SYS_inotify_rm_watch, {}, "as inotify_add_watch"},
      {"munmap", SYS_munmap, {}, "its own memory"},
      {"mremap", SYS_mremap, {}, "its own memory"},
      {"madvise", SYS_madvise, {}, "its own memory"},
      {"brk", SYS_brk, {}, "its own memory"},
      {"setfsuid", SYS_setfsuid, {}, "the guest's user, for one thread, so that the host checks permissions of files"},
      {"setfsgid", SYS_setfsgid, {}, "as setfsuid"},
      {"setgroups", SYS_setgroups, {}, "as setfsuid"},
      {"capget", SYS_capget, {}, "as setfsuid"},
      {"capset", SYS_capset, {}, "as setfsuid; what has been dropped does not come back"},
      {"poll", SYS_poll, {}, "waits for descriptors"},
      {"epoll_create1", SYS_epoll_create1, {}, "waits for descriptors"},
      {"epoll_ctl", SYS_epoll_ctl, {}, "waits for descriptors"},
      {"epoll_wait", SYS_epoll_wait, {}, "waits for descriptors"},
      {"eventfd2", SYS_eventfd2, {}, "wakes itself up"},
      {"bind", SYS_bind, {}, "the guest's sockets"},
      {"connect", SYS_connect, {}, "the guest's sockets"},
      {"listen", SYS_listen, {}, "the guest's sockets"},
      {"accept4", SYS_accept4, {}, "the guest's sockets"},
      {"getsockname", SYS_getsockname, {}, "the guest's sockets"},
      {"getpeername", SYS_getpeername, {}, "the guest's sockets"},
      {"shutdown", SYS_shutdown, {}, "the guest's sockets"},
      {"sendto", SYS_sendto, {}, "the guest's sockets"},
      {"recvfrom", SYS_recvfrom, {}, "the guest's sockets"},
      {"sendmsg", SYS_sendmsg, {}, "the guest's sockets; descriptors for stubs"},
      {"recvmsg", SYS_recvmsg, {}, "the guest's sockets; messages of the sandbox process and of execs"},
      {"waitid", SYS_waitid, {}, "stubs that have ended"},
      {"wait4", SYS_wait4, {}, "the zygote, the helper of a terminal"},
      {"setpriority", SYS_setpriority, {}, "a stub's nice value, as the guest sets it"},
      {"sched_setaffinity", SYS_sched_setaffinity, {}, "a stub's CPUs, within the container's cpuset"},
      {"sched_getaffinity", SYS_sched_getaffinity, {}, "the container's CPUs"},
      {"sched_yield", SYS_sched_yield, {}, "locks"},
      {"getcpu", SYS_getcpu, {}, "the guest's getcpu"},
      {"clock_gettime", SYS_clock_gettime, {}, "clocks of stubs; the vDSO answers for others"},
      {"gettimeofday", SYS_gettimeofday, {}, "clocks, where there is no vDSO"},
      {"time", SYS_time, {}, "clocks, where there is no vDSO"},
      {"adjtimex", SYS_adjtimex, {}, "reads the state of the clock; to change it takes CAP_SYS_TIME, which it does not have"},
      {"sysinfo", SYS_sysinfo, {}, "memory of the machine"},
      {"getrandom", SYS_getrandom, {}, "random bytes"},
      {"getpid", SYS_getpid, {}, "its own number"},
      {"gettid", SYS_gettid, {}, "its own number"},
      {"set_robust_list", SYS_set_robust_list, {}, "threads of the C library"},
      {"rseq", SYS_rseq, {}, "threads of the C library"},
      {"rt_sigprocmask", SYS_rt_sigprocmask, {}, "threads of the C library"},
      {"rt_sigreturn", SYS_rt_sigreturn, {}, "the handler that logs what this list refuses"},
      {"rt_sigtimedwait", SYS_rt_sigtimedwait, {}, "the helper that watches the size of an engine's terminal"},
      {"setsid", SYS_setsid, {}, "the same helper"},
      {"restart_syscall", SYS_restart_syscall, {}, "the host goes on with a call after the container was paused"},
      {"exit", SYS_exit, {}, "ends a thread"},
      {"exit_group", SYS_exit_group, {}, "ends itself"},
  };
}

// What the sanitizers' own code does in threads; nothing in a build for users.
Rows sanitizer_rows() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return {{"sigaltstack", SYS_sigaltstack, {}, "sanitizers"},
          {"rt_sigaction", SYS_rt_sigaction, {}, "sanitizers"},
          {"nanosleep", SYS_nanosleep, {}, "sanitizers"},
          {"clock_nanosleep", SYS_clock_nanosleep, {}, "sanitizers"},
          {"pipe2", SYS_pipe2, {}, "sanitizers: is memory readable?"},
          {"mincore", SYS_mincore, {}, "sanitizers"}};
#else
  return {};
#endif
}

// No part of the kernel process has a use for them: who makes one has broken in, and the container ends.
Rows intruder_rows() {
  Rows rows;
  const auto kill = [&](const char* reason, std::initializer_list<std::pair<const char*, int>> calls) {
    for (const auto& [name, number] : calls) rows.push_back({name, number, {}, reason, CallEffect::Kill});
  };
#define CALL(name) {#name, SYS_##name}
  kill("runs another program", {CALL(execve), CALL(execveat), CALL(fork), CALL(vfork), CALL(uselib)});
  kill("other processes", {CALL(ptrace), CALL(pidfd_getfd), CALL(kcmp), CALL(process_madvise)});
  kill("out of the wall", {CALL(setns), CALL(unshare), CALL(mount), CALL(umount2), CALL(pivot_root), CALL(chroot), CALL(open_tree),
                           CALL(move_mount), CALL(fsopen), CALL(fsconfig), CALL(fsmount), CALL(fspick), CALL(mount_setattr)});
  kill("files that are not below its descriptors", {CALL(open_by_handle_at), CALL(name_to_handle_at)});
  kill("the host's inside",
       {CALL(bpf), CALL(perf_event_open), CALL(userfaultfd), CALL(io_uring_setup), CALL(io_uring_enter), CALL(io_uring_register),
        CALL(init_module), CALL(finit_module), CALL(delete_module), CALL(kexec_load), CALL(kexec_file_load), CALL(syslog), CALL(seccomp)});
  kill("hardware", {CALL(iopl), CALL(ioperm), CALL(modify_ldt)});
  kill("the host as a whole", {CALL(reboot), CALL(swapon), CALL(swapoff), CALL(acct), CALL(quotactl), CALL(quotactl_fd), CALL(sethostname),
                               CALL(setdomainname), CALL(settimeofday), CALL(clock_settime), CALL(clock_adjtime), CALL(vhangup)});
  kill("keys", {CALL(add_key), CALL(request_key), CALL(keyctl)});
  kill("IPC of the host; the guest's is the kernel process's own",
       {CALL(shmget), CALL(shmat), CALL(shmctl), CALL(semget), CALL(semop), CALL(semtimedop), CALL(semctl), CALL(msgget), CALL(msgsnd),
        CALL(msgrcv), CALL(msgctl), CALL(mq_open), CALL(mq_unlink)});
#undef CALL
  return rows;
}

}  // namespace

const std::vector<CallRow>& host_calls() {
  static const std::vector<CallRow> rows = [] {
    Rows all;
    for (Rows part : {memory_rows(), file_rows(), process_rows(), scheduling_rows(), ioctl_rows(), socket_rows(), plain_rows(),
                      sanitizer_rows(), intruder_rows()})
      append(all, std::move(part));
    return all;
  }();
  return rows;
}

const std::vector<CapabilityRow>& host_capabilities() {
  static const std::vector<CapabilityRow> rows = {
      {"CAP_CHOWN", CAP_CHOWN, false, "the guest's chown: a container's files belong to any of its users"},
      {"CAP_DAC_OVERRIDE", CAP_DAC_OVERRIDE, false, "the guest's root; only while a thread acts for a task that has it"},
      {"CAP_DAC_READ_SEARCH", CAP_DAC_READ_SEARCH, false,
       "as CAP_DAC_OVERRIDE (open_by_handle_at, which it also unlocks, ends the process)"},
      {"CAP_FOWNER", CAP_FOWNER, false, "the guest's root: chmod, utimes and removal in sticky folders"},
      {"CAP_FSETID", CAP_FSETID, false, "the guest's root keeps set-user-ID bits; nothing here is executed by the host"},
      {"CAP_SETUID", CAP_SETUID, false, "setfsuid: a thread acts on files as the guest's user"},
      {"CAP_SETGID", CAP_SETGID, false, "setfsgid, setgroups: as CAP_SETUID"},
      {"CAP_SETFCAP", CAP_SETFCAP, false, "the guest's setcap, for whichever container of a pod may"},
      {"CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE, true, "ports below 1024 of the pod's network"},
      {"CAP_SYS_NICE", CAP_SYS_NICE, true, "the guest lowers nice values"},
  };
  return rows;
}

uint64_t kept_capabilities(uint64_t guest) {
  uint64_t kept = 0;
  for (const CapabilityRow& row : host_capabilities())
    if (!row.if_guest_has || (guest & bit(row.number)) != 0) kept |= bit(row.number);
  return kept;
}

}  // namespace caisson::kernel
