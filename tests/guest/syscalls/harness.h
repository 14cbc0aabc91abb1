// Tests of system calls that run inside: first natively, where they say what is right, then under each kernel of ours.
//
//     TEST(pipe, packets) { int fds[2]; OK(pipe2(fds, O_DIRECT)); EQ(write(fds[1], "a", 1), 1); FAILS(pipe2(fds, -1), EINVAL); }
//
// Each test is a process of its own, killed after kSeconds. A failed check ends it. Nothing here may depend on /proc, on other files than
// those in the test's own folder (the working folder), or on a user but root.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <string>

struct TestCase {
  const char* family;
  const char* name;
  void (*body)();
  TestCase* next;
  TestCase(const char* family, const char* name, void (*body)());
};

#define TEST(family, name)                                                        \
  static void test_##family##_##name();                                           \
  static TestCase case_##family##_##name(#family, #name, test_##family##_##name); \
  static void test_##family##_##name()

[[noreturn]] void fail_check(const char* file, int line, const char* what, const std::string& found);
// This place cannot run the test, natively neither: "skipped" and the reason.
[[noreturn]] void skip_test(const char* why);

// The expression holds.
#define CHECK(expression)                                                       \
  do {                                                                          \
    if (!(expression)) fail_check(__FILE__, __LINE__, #expression, "is false"); \
  } while (0)
// Equal numbers.
#define EQ(expression, wanted)                                                              \
  do {                                                                                      \
    const long long eq_found = static_cast<long long>(expression);                          \
    const int eq_error = errno;                                                             \
    const long long eq_wanted = static_cast<long long>(wanted);                             \
    if (eq_found != eq_wanted)                                                              \
      fail_check(__FILE__, __LINE__, #expression,                                           \
                 "is " + std::to_string(eq_found) + ", not " + std::to_string(eq_wanted) +  \
                     (eq_found == -1 ? std::string(" (") + strerror(eq_error) + ")" : "")); \
  } while (0)
// The call does not fail; its value.
#define OK(expression)                                                                                        \
  ({                                                                                                          \
    const auto ok_value = (expression);                                                                       \
    if (static_cast<long long>(ok_value) == -1) fail_check(__FILE__, __LINE__, #expression, strerror(errno)); \
    ok_value;                                                                                                 \
  })
// The call fails with this errno.
#define FAILS(expression, error)                                                                                  \
  do {                                                                                                            \
    errno = 0;                                                                                                    \
    const long long fails_value = static_cast<long long>(expression);                                             \
    if (fails_value != -1 || errno != (error))                                                                    \
      fail_check(__FILE__, __LINE__, #expression,                                                                 \
                 "gave " + std::to_string(fails_value) + " and " + strerror(errno) + ", not " + strerror(error)); \
  } while (0)

// Runs body in a child; the exit status, or 128 + signal.
int in_child(const std::function<void()>& body);
// Starts one; the pid. It ends with 0 after body.
pid_t start_child(const std::function<void()>& body);
// Waits for it; the same as in_child. Fails the test unless it is `wanted`.
int wait_child(pid_t pid);

// Milliseconds of CLOCK_MONOTONIC.
int64_t now_ms();
void sleep_ms(int milliseconds);
// Waits until the condition holds, at most 5 seconds.
bool becomes_true(const std::function<bool()>& condition);
