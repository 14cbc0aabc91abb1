// testinit: a static program that runs inside a container and answers what a test wants to know about its surroundings.
//
//   testinit ask QUESTION [ARG...] [";;" QUESTION [ARG...]]...   one JSON list, one element per question
//   testinit serve                                              one question per line of standard input, one JSON line each
//   testinit ACTION [ARG...]                                    does something (sleep, pattern, spin...): `testinit help`
//
// A question that fails answers {"errno": "ENOENT", "call": "open"}.
#pragma once

#include <cerrno>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "json.h"

namespace caisson::testinit {

using Args = std::span<const std::string>;

// A failed call; caught where the question is dispatched.
struct Failure {
  int error;
  std::string call;
};
[[noreturn]] void fail(const std::string& call, int error = errno);
// Returns value, or fails with errno when it is -1.
long check(long value, const char* call);
// The argument at index, EINVAL when there is none.
const std::string& arg(Args args, size_t index);
long number(const std::string& text);
long number_or(Args args, size_t index, long otherwise);

std::string errno_name(int error);
std::string read_all(const std::string& path, size_t limit = 1 << 20);
Json failure_json(const Failure& failure);

struct Question {
  const char* name;
  const char* arguments;
  Json (*answer)(Args args);
};
std::span<const Question> process_questions();
std::span<const Question> file_questions();
std::span<const Question> kernel_questions();
// Answers one question; failures become an errno object.
Json answer(const std::string& name, Args args);

struct Action {
  const char* name;
  const char* arguments;
  int (*run)(Args args);
};
std::span<const Action> actions();

}  // namespace caisson::testinit
