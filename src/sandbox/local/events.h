// EventLog: what has happened in a sandbox, numbered, with long polls.
#pragma once

#include <deque>

#include "sandbox/sandbox.h"

namespace caisson::sandbox::local {

inline constexpr size_t kMaxEvents = 1024;
inline constexpr size_t kMaxPolls = 64;

// Keeps the last kMaxEvents; a reader that is slower sees a gap in the sequence numbers.
class EventLog {
 public:
  // Fills in sequence and time, and answers the polls.
  void add(v1::Event event);
  // Answers with what comes after the sequence number: now, or with the next event. Beyond kMaxPolls the oldest poll is answered with
  // nothing.
  void poll(uint64_t after, Reply<v1::EventsResponse> reply);
  // Answers all polls with nothing: the sandbox ends.
  void close();

 private:
  struct Poll {
    uint64_t after = 0;
    Reply<v1::EventsResponse> reply;
  };
  v1::EventsResponse after(uint64_t sequence) const;

  std::deque<v1::Event> events_;
  std::deque<Poll> polls_;
  uint64_t last_ = 0;
};

// CLOCK_REALTIME.
int64_t unix_nanos_now();

}  // namespace caisson::sandbox::local
