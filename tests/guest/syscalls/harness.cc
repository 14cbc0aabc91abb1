#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

namespace {

constexpr int kSeconds = 20;
constexpr int kSkipped = 77;
TestCase* g_first = nullptr;

bool wanted(const TestCase& test, int count, char** names) {
  if (count == 0) return true;
  const std::string full = std::string(test.family) + "." + test.name;
  for (int i = 0; i < count; ++i)
    if (full == names[i] || names[i] == std::string(test.family)) return true;
  return false;
}

// "ok", "FAILED", "skipped": one line each; the reason is printed by the test itself before.
bool run(const TestCase& test, const std::string& folder) {
  const std::string own = folder + "/" + test.family + "." + test.name;
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    umask(022);
    if (mkdir(own.c_str(), 0755) != 0 || chdir(own.c_str()) != 0) {
      perror(own.c_str());
      _exit(1);
    }
    test.body();
    fflush(nullptr);
    _exit(0);
  }
  int status = 0;
  const int64_t until = now_ms() + kSeconds * 1000;
  bool late = false;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (now_ms() > until) {
      late = true;
      kill(-pid, SIGKILL);
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      break;
    }
    sleep_ms(1);
  }
  kill(-pid, SIGKILL);  // what it has left behind
  const bool good = !late && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const bool skipped = !late && WIFEXITED(status) && WEXITSTATUS(status) == kSkipped;
  if (late) printf("    takes more than %d seconds\n", kSeconds);
  if (!late && WIFSIGNALED(status)) printf("    killed by signal %d\n", WTERMSIG(status));
  printf("%s %s.%s\n", good ? "ok" : skipped ? "skipped" : "FAILED", test.family, test.name);
  fflush(stdout);
  return good || skipped;
}

}  // namespace

TestCase::TestCase(const char* f, const char* n, void (*b)()) : family(f), name(n), body(b), next(nullptr) {
  TestCase** end = &g_first;
  while (*end != nullptr) end = &(*end)->next;
  *end = this;
}

void fail_check(const char* file, int line, const char* what, const std::string& found) {
  const char* name = strrchr(file, '/');
  printf("    %s:%d: %s %s\n", name != nullptr ? name + 1 : file, line, what, found.c_str());
  fflush(stdout);
  _exit(1);
}

void skip_test(const char* why) {
  printf("    %s\n", why);
  fflush(stdout);
  _exit(kSkipped);
}

pid_t start_child(const std::function<void()>& body) {
  fflush(nullptr);
  const pid_t pid = OK(fork());
  if (pid == 0) {
    body();
    fflush(nullptr);
    _exit(0);
  }
  return pid;
}

int wait_child(pid_t pid) {
  int status = 0;
  EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int in_child(const std::function<void()>& body) { return wait_child(start_child(body)); }

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000L + now.tv_nsec / 1'000'000;
}

void sleep_ms(int milliseconds) {
  const timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
  nanosleep(&time, nullptr);
}

bool becomes_true(const std::function<bool()>& condition) {
  for (const int64_t until = now_ms() + 5000; now_ms() < until; sleep_ms(2))
    if (condition()) return true;
  return false;
}

// syscall_tests list | FOLDER [FAMILY | FAMILY.NAME]...
int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    for (const TestCase* test = g_first; test != nullptr; test = test->next) printf("%s.%s\n", test->family, test->name);
    return 0;
  }
  if (argc < 2) {
    fputs("usage: syscall_tests list | FOLDER [FAMILY | FAMILY.NAME]...\n", stderr);
    return 2;
  }
  int failed = 0;
  for (const TestCase* test = g_first; test != nullptr; test = test->next)
    if (wanted(*test, argc - 2, argv + 2) && !run(*test, argv[1])) ++failed;
  return failed == 0 ? 0 : 1;
}
