// The kernel process as if a guest had taken it: on the host, as root, this program takes the kernel process of a running container over
// (puppet.h) and makes it try to leave: exactly its privileges, namespaces, root directory, descriptors and filter (tests/offenders).
//
//   taken_kernel walls PID CANARY FOLDER...   tries everything that it survives. CANARY: a file of the node outside of FOLDERs, which are
//                                             what the container has of the node.
//   taken_kernel fatal PID NAME               tries one thing that it does not survive
//   taken_kernel names                        their names
//   taken_kernel flood PID                    sends everything that it has to everybody who listens
//   taken_kernel control CANARY               the same attempts by a child of its own, which root may make: those that fail there, too,
//                                             prove nothing
//
// One line each: "ok NAME outcomes" or "FAILED NAME outcomes".
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "attempts.h"

namespace {

std::string name_of(long outcome) {
  if (outcome == kTrapped) return "trapped";
  if (outcome == kKilled) return "killed";
  if (outcome == kStayed) return "stayed";
  if (outcome >= 0) return "WORKED";
  const char* name = strerrorname_np(static_cast<int>(-outcome));
  return name != nullptr ? name : std::to_string(outcome);
}

// A process of the node that nobody inside may touch.
struct Victim {
  pid_t pid = fork();
  Victim() {
    if (pid != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
  ~Victim() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
};

// control: whether the attempt has to do better than it may in the kernel process.
bool report(const Attempt& attempt, const std::vector<Tried>& tried, bool control) {
  std::set<std::string> outcomes, unexpected;
  for (const Tried& each : tried) {
    outcomes.insert(name_of(each.outcome));
    if (!attempt.expected.contains(each.outcome)) unexpected.insert(each.what + ": " + name_of(each.outcome));
  }
  const bool ok = !tried.empty() && unexpected.empty() != control;
  std::string text;
  for (const std::string& each : ok || control ? outcomes : unexpected) text += " " + each;
  printf("%s %s%s\n", ok ? "ok" : "FAILED", attempt.name, text.c_str());
  fflush(stdout);
  return ok;
}

bool try_all(Puppet& puppet, const Node& node, bool control) {
  bool good = true;
  for (const Attempt& attempt : attempts()) {
    if (control && attempt.no_control) continue;
    const Victim victim;
    World world(puppet, node, victim.pid, control);
    attempt.make(world);
    good &= report(attempt, world.tried, control);
    if (puppet.alive()) continue;
    printf("FAILED %s: the process has ended by signal %d\n", attempt.name, puppet.signal());
    return false;
  }
  return good;
}

int walls(pid_t pid, const Node& node) {
  std::optional<Puppet> puppet = Puppet::possess(pid);
  if (!puppet) return perror("the process cannot be taken"), 2;
  const bool good = try_all(*puppet, node, false);
  puppet->release();
  return good ? 0 : 1;
}

int fatal(pid_t pid, const std::string& name) {
  std::optional<Puppet> puppet = Puppet::possess(pid);
  if (!puppet) return perror("the process cannot be taken"), 2;
  for (const Fatal& each : fatal_calls()) {
    if (name != each.name) continue;
    const long outcome = each.make(*puppet);
    const bool ok = outcome == kKilled && puppet->signal() == SIGSYS;
    printf("%s %s %s, signal %d\n", ok ? "ok" : "FAILED", each.name, name_of(outcome).c_str(), puppet->signal());
    puppet->release();
    return ok ? 0 : 1;
  }
  return fprintf(stderr, "there is no call %s here\n", name.c_str()), 2;
}

int flood(pid_t pid) {
  std::optional<Puppet> puppet = Puppet::possess(pid);
  if (!puppet) return perror("the process cannot be taken"), 2;
  printf("sent %u messages\n", send_everything(*puppet));
  puppet->release();
  return 0;
}

// The child may do what it likes, but not to the node's mounts or to who comes after.
[[noreturn]] void be_puppet() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  raise(SIGSTOP);
  for (;;) pause();
}

int control(const Node& node) {
  const pid_t child = fork();
  if (child == 0) be_puppet();
  waitpid(child, nullptr, WUNTRACED);
  kill(child, SIGCONT);
  std::optional<Puppet> puppet = Puppet::possess(child);
  if (!puppet) return perror("the child cannot be taken"), 2;
  bool good = try_all(*puppet, node, true);
  for (const Fatal& each : fatal_calls()) {
    const long outcome = each.make(*puppet);
    const bool ok = outcome != kKilled && outcome != kTrapped;
    printf("%s %s %s\n", ok ? "ok" : "FAILED", each.name, name_of(outcome).c_str());
    good &= ok;
  }
  kill(child, SIGKILL);
  return good ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "names") {
    for (const Fatal& each : fatal_calls()) puts(each.name);
    return 0;
  }
  if (what == "control" && count == 3) return control({arguments[2], {}});
  const pid_t pid = count > 2 ? atoi(arguments[2]) : 0;
  if (what == "walls" && count > 4) return walls(pid, {arguments[3], {arguments + 4, arguments + count}});
  if (what == "fatal" && count == 4) return fatal(pid, arguments[3]);
  if (what == "flood" && count == 3) return flood(pid);
  fprintf(stderr, "taken_kernel walls PID CANARY FOLDER... | fatal PID NAME | names | flood PID | control CANARY\n");
  return 2;
}
