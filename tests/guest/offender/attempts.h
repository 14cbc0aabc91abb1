// What a kernel process that has been taken tries, and what must come of it.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "puppet.h"

// The call may be made, but nothing of the node is had or changed by it.
inline constexpr long kStayed = -10'002;

// What is outside, as the host's root sees it.
struct Node {
  std::string canary;                // a file
  std::vector<std::string> folders;  // of the node, that the container has
};

struct Tried {
  std::string what;
  long outcome;
};

// One attempt's surroundings.
struct World {
  World(Puppet& taken, const Node& outside, pid_t somebody, bool is_control);
  void note(const std::string& what, long outcome) { tried.push_back({what, outcome}); }
  long open(int at, const std::string& path, int flags);
  long openat2(int at, const std::string& path, int flags);

  Puppet& puppet;
  const Node& node;
  pid_t victim;  // a process of the node
  bool control;
  std::vector<int> fds;         // of the taken process
  int proc = -1;                // the one of them that is a /proc
  std::vector<pid_t> others;    // processes that it sees and that are no stubs, itself aside, by their numbers there
  std::vector<pid_t> everyone;  // all that it sees
  std::vector<Tried> tried;
};

struct Attempt {
  const char* name;
  std::set<long> expected;  // outcomes; each one that is tried must be one of them
  std::function<void(World&)> make;
  bool no_control = false;
};
const std::vector<Attempt>& attempts();

// doors.cc
void sockets(World& world);
void services(World& world);
void side_doors(World& world);

struct Fatal {
  const char* name;
  std::function<long(Puppet&)> make;
};
// Calls that no part of the kernel process makes: they end it.
const std::vector<Fatal>& fatal_calls();

// Each of its descriptors to each of its sockets, many times. How many messages have gone.
unsigned send_everything(Puppet& puppet);
