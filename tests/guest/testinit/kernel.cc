// Questions about the kernel around us: namespaces, clocks, system calls, network, mounts.
#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "testinit.h"

namespace caisson::testinit {
namespace {

Json system_name(Args) {
  utsname names{};
  check(::uname(&names), "uname");
  return Object()
      .set("sysname", names.sysname)
      .set("nodename", names.nodename)
      .set("release", names.release)
      .set("version", names.version)
      .set("machine", names.machine)
      .set("domainname", names.domainname);
}

// Inode numbers of this process's namespaces.
Json namespaces(Args) {
  Object result;
  for (const char* type : {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}) {
    struct stat status {};
    result.set(type, ::stat((std::string("/proc/self/ns/") + type).c_str(), &status) == 0 ? Json(status.st_ino) : Json());
  }
  return result;
}

Json id_maps(Args) {
  return Object()
      .set("uid", read_all("/proc/self/uid_map"))
      .set("gid", read_all("/proc/self/gid_map"))
      .set("setgroups", read_all("/proc/self/setgroups"));
}

Json sysctl(Args args) {
  std::string name = arg(args, 0);
  std::replace(name.begin(), name.end(), '.', '/');
  std::string value = read_all("/proc/sys/" + name);
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

Json clocks(Args) {
  Object result;
  for (auto [name, clock] : {std::pair{"realtime", CLOCK_REALTIME}, {"monotonic", CLOCK_MONOTONIC}, {"boottime", CLOCK_BOOTTIME}}) {
    timespec now{};
    check(::clock_gettime(clock, &now), "clock_gettime");
    result.set(name, static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec);
  }
  return result;
}

// syscall NUMBER [ARG...]: made in a child, with what came of it. An argument "@TEXT" is a pointer to TEXT.
Json system_call(Args args) {
  long values[6] = {};
  for (size_t i = 1; i < args.size() && i <= 6; i++)
    values[i - 1] = args[i][0] == '@' ? reinterpret_cast<long>(args[i].c_str() + 1) : number(args[i]);
  long call = number(arg(args, 0));
  int pipe[2];
  check(::pipe(pipe), "pipe");
  pid_t child = static_cast<pid_t>(check(::fork(), "fork"));
  if (child == 0) {
    errno = 0;
    long result[2] = {::syscall(call, values[0], values[1], values[2], values[3], values[4], values[5]), errno};
    if (::write(pipe[1], result, sizeof result) != sizeof result) ::_exit(1);
    ::_exit(0);
  }
  ::close(pipe[1]);
  long result[2] = {};
  ssize_t got = ::read(pipe[0], result, sizeof result);
  ::close(pipe[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return Object().set("signal", WTERMSIG(status));
  if (got != sizeof result) return Object().set("exited", WEXITSTATUS(status));
  if (result[0] == -1 && result[1] != 0) return Object().set("failed", errno_name(static_cast<int>(result[1])));
  return Object().set("returned", result[0]);
}

Json interfaces(Args) {
  ifaddrs* list = nullptr;
  check(::getifaddrs(&list), "getifaddrs");
  std::vector<Json> result;
  for (ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_PACKET) continue;
    char address[64] = "";
    for (ifaddrs* other = list; other != nullptr; other = other->ifa_next)
      if (other->ifa_addr != nullptr && other->ifa_addr->sa_family == AF_INET && std::strcmp(other->ifa_name, entry->ifa_name) == 0)
        ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(other->ifa_addr)->sin_addr, address, sizeof address);
    result.push_back(Object().set("name", entry->ifa_name).set("up", (entry->ifa_flags & IFF_UP) != 0).set("address", address));
  }
  ::freeifaddrs(list);
  return Json::list(result);
}

// loopback: a TCP connection to ourselves over 127.0.0.1.
Json loopback(Args) {
  int listener = static_cast<int>(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  check(::bind(listener, reinterpret_cast<sockaddr*>(&address), length), "bind");
  check(::listen(listener, 1), "listen");
  check(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
  int client = static_cast<int>(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  check(::connect(client, reinterpret_cast<sockaddr*>(&address), length), "connect");
  int server = static_cast<int>(check(::accept(listener, nullptr, nullptr), "accept"));
  check(::write(client, "ping", 4), "write");
  char buffer[8] = "";
  check(::read(server, buffer, sizeof buffer - 1), "read");
  for (int fd : {listener, client, server}) ::close(fd);
  return std::string(buffer);
}

// connect-unix PATH: "@name" is an abstract address.
Json connect_unix(Args args) {
  int fd = static_cast<int>(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, arg(args, 0).c_str(), sizeof address.sun_path - 1);
  socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + arg(args, 0).size());
  if (address.sun_path[0] == '@') address.sun_path[0] = 0;
  int failed = ::connect(fd, reinterpret_cast<sockaddr*>(&address), length);
  int error = errno;
  ::close(fd);
  if (failed != 0) fail("connect", error);
  return true;
}

// shm KEY [create]: System V shared memory, which an IPC namespace separates.
Json shm(Args args) {
  int flags = args.size() > 1 ? IPC_CREAT | IPC_EXCL | 0600 : 0;
  return check(::shmget(static_cast<key_t>(number(arg(args, 0))), 4096, flags), "shmget");
}

// mount SOURCE TARGET TYPE FLAGS [DATA]; "-" is no source or type.
Json make_mount(Args args) {
  auto text = [&](size_t index) { return arg(args, index) == "-" ? nullptr : arg(args, index).c_str(); };
  return check(::mount(text(0), text(1), text(2), number(arg(args, 3)), args.size() > 4 ? args[4].c_str() : nullptr), "mount");
}
Json remove_mount(Args args) { return check(::umount2(arg(args, 0).c_str(), MNT_DETACH), "umount2"); }
Json set_hostname(Args args) { return check(::sethostname(arg(args, 0).data(), arg(args, 0).size()), "sethostname"); }

// Processes that /proc shows: pid and command name.
Json processes(Args) {
  DIR* folder = ::opendir("/proc");
  if (folder == nullptr) fail("opendir /proc");
  std::vector<Json> result;
  while (dirent* entry = ::readdir(folder)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    try {
      std::string name = read_all(std::string("/proc/") + entry->d_name + "/comm");
      result.push_back(Object().set("pid", number(entry->d_name)).set("name", name.substr(0, name.find('\n'))));
    } catch (const Failure&) {  // has just ended
    }
  }
  ::closedir(folder);
  return Json::list(result);
}

Json machine(Args) {
  struct sysinfo info {};
  check(::sysinfo(&info), "sysinfo");
  return Object().set("memory", info.totalram * info.mem_unit).set("cpus", ::sysconf(_SC_NPROCESSORS_ONLN)).set("uptime", info.uptime);
}

constexpr Question kQuestions[] = {
    {"uname", "", system_name},
    {"namespaces", "", namespaces},
    {"id_maps", "", id_maps},
    {"sysctl", "NAME", sysctl},
    {"clocks", "", clocks},
    {"syscall", "NUMBER [ARG...]", system_call},
    {"interfaces", "", interfaces},
    {"loopback", "", loopback},
    {"connect-unix", "PATH", connect_unix},
    {"shm", "KEY [create]", shm},
    {"mount", "SOURCE TARGET TYPE FLAGS [DATA]", make_mount},
    {"umount", "TARGET", remove_mount},
    {"sethostname", "NAME", set_hostname},
    {"processes", "", processes},
    {"machine", "", machine},
};

}  // namespace

std::span<const Question> kernel_questions() { return kQuestions; }

}  // namespace caisson::testinit
