// testinit: see testinit.h.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>

#include "testinit.h"

namespace caisson::testinit {

void fail(const std::string& call, int error) { throw Failure{error, call}; }

long check(long value, const char* call) {
  if (value == -1) fail(call);
  return value;
}

const std::string& arg(Args args, size_t index) {
  if (index >= args.size()) fail("argument " + std::to_string(index), EINVAL);
  return args[index];
}

long number(const std::string& text) {
  char* end = nullptr;
  long value = static_cast<long>(std::strtoull(text.c_str(), &end, 0));
  if (!text.empty() && text[0] == '-') value = std::strtol(text.c_str(), &end, 0);
  if (text.empty() || *end != 0) fail("number " + text, EINVAL);
  return value;
}

long number_or(Args args, size_t index, long otherwise) { return index < args.size() ? number(args[index]) : otherwise; }

std::string errno_name(int error) {
  const char* name = ::strerrorname_np(error);
  return name != nullptr ? name : std::to_string(error);
}

std::string read_all(const std::string& path, size_t limit) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("open " + path);
  std::string content;
  char buffer[65536];
  ssize_t got = 0;
  while (content.size() < limit && (got = ::read(fd, buffer, std::min(sizeof buffer, limit - content.size()))) > 0)
    content.append(buffer, got);
  int error = errno;
  ::close(fd);
  if (got < 0) fail("read " + path, error);
  return content;
}

Json failure_json(const Failure& failure) { return Object().set("errno", errno_name(failure.error)).set("call", failure.call); }

Json answer(const std::string& name, Args args) {
  for (std::span<const Question> questions : {process_questions(), file_questions(), kernel_questions()}) {
    for (const Question& question : questions) {
      if (name != question.name) continue;
      try {
        return question.answer(args);
      } catch (const Failure& failure) {
        return failure_json(failure);
      }
    }
  }
  return Object().set("errno", "ENOSYS").set("call", "no such question: " + name);
}

namespace {

// Writes everything at once, so that answers of several processes do not mix.
int print(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    ssize_t wrote = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return 125;
    done += wrote;
  }
  return 0;
}

int ask(Args words) {
  std::vector<Json> answers;
  for (size_t first = 0; first < words.size();) {
    size_t last = first;
    while (last < words.size() && words[last] != ";;") last++;
    if (last > first) answers.push_back(answer(words[first], words.subspan(first + 1, last - first - 1)));
    first = last + 1;
  }
  return print(Json::list(answers).text() + "\n");
}

int serve() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream stream(line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    if (words.empty()) continue;
    if (words[0] == "quit") return words.size() > 1 ? std::atoi(words[1].c_str()) : 0;
    if (print(answer(words[0], Args(words).subspan(1)).text() + "\n") != 0) return 125;
  }
  return 0;
}

int help() {
  std::string text = "testinit ask QUESTION [ARG...] [';;' QUESTION...]\n";
  for (std::span<const Question> questions : {process_questions(), file_questions(), kernel_questions()})
    for (const Question& question : questions) text += std::string("  ") + question.name + " " + question.arguments + "\n";
  text += "testinit serve\n";
  for (const Action& action : actions()) text += std::string("testinit ") + action.name + " " + action.arguments + "\n";
  return print(text);
}

int run(Args words) {
  if (words.empty() || words[0] == "help") return help();
  if (words[0] == "ask") return ask(words.subspan(1));
  if (words[0] == "serve") return serve();
  for (const Action& action : actions())
    if (words[0] == action.name) return action.run(words.subspan(1));
  std::fprintf(stderr, "testinit: no such action: %s\n", words[0].c_str());
  return 124;
}

}  // namespace
}  // namespace caisson::testinit

int main(int argc, char** argv) {
  using namespace caisson::testinit;
  std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  try {
    return run(words);
  } catch (const Failure& failure) {
    std::fprintf(stderr, "testinit: %s: %s\n", failure.call.c_str(), std::strerror(failure.error));
    return 123;
  }
}
