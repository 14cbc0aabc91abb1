#include "sandbox/local/events.h"

#include <time.h>

namespace caisson::sandbox::local {

int64_t unix_nanos_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void EventLog::add(v1::Event event) {
  event.set_sequence(++last_);
  event.set_at_unix_nanos(unix_nanos_now());
  events_.push_back(std::move(event));
  if (events_.size() > kMaxEvents) events_.pop_front();
  // A poll may be for what has not come yet, and a reply may lead to the next poll at once.
  for (Poll& poll : std::exchange(polls_, {})) this->poll(poll.after, std::move(poll.reply));
}

void EventLog::poll(uint64_t after_sequence, Reply<v1::EventsResponse> reply) {
  if (after_sequence < last_) return reply(after(after_sequence));
  polls_.push_back({after_sequence, std::move(reply)});
  if (polls_.size() <= kMaxPolls) return;
  Poll oldest = std::move(polls_.front());
  polls_.pop_front();
  oldest.reply(v1::EventsResponse());
}

void EventLog::close() {
  for (Poll& poll : std::exchange(polls_, {})) poll.reply(v1::EventsResponse());
}

v1::EventsResponse EventLog::after(uint64_t sequence) const {
  v1::EventsResponse response;
  for (const v1::Event& event : events_)
    if (event.sequence() > sequence) *response.add_events() = event;
  return response;
}

}  // namespace caisson::sandbox::local
