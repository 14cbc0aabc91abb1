#include "agent/processors.h"

#include <dirent.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string_view>

#include "agent/device_events.h"
#include "base/log.h"
#include "host/files.h"

namespace caisson::agent {
namespace {

// A message begins with "<action>@<path>"; processors are below devices/system/cpu.
bool is_of_a_processor(std::string_view message) { return message.starts_with("add@/devices/system/cpu/cpu"); }

}  // namespace

int switch_on_processors(const std::string& folder) {
  std::unique_ptr<DIR, int (*)(DIR*)> opened(opendir(folder.c_str()), closedir);
  int count = 0;
  while (const dirent* entry = opened ? readdir(opened.get()) : nullptr) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with("cpu") || name.find_first_not_of("0123456789", 3) != name.npos) continue;
    const std::string file = fmt::format("{}/{}/online", folder, name);
    auto state = host::read_file(file, 16);  // the first processor may have none
    if (!state.ok() || !state->starts_with('0')) continue;
    if (auto on = host::write_file(file, "1"); !on.ok())
      log::warning("{}", on.error().message());
    else
      ++count;
  }
  return count;
}

Result<std::unique_ptr<ProcessorWatch>> ProcessorWatch::create(host::EventLoop& loop) {
  std::unique_ptr<ProcessorWatch> watch(new ProcessorWatch(loop, TRY(watch_devices())));
  TRY(loop.add(watch->events_.get(), EPOLLIN, [self = watch.get()](uint32_t) { self->look(); }));
  return watch;
}

ProcessorWatch::~ProcessorWatch() { loop_.remove(events_.get()); }

// Messages that did not fit (ENOBUFS) may have been of processors. To be asked for nothing does no harm: anybody's message will do.
void ProcessorWatch::look() {
  bool any = false;
  for (;;) {
    char message[8192];
    const ssize_t length = recv(events_.get(), message, sizeof message, MSG_DONTWAIT);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) {
      any |= errno == ENOBUFS;
      break;
    }
    any |= is_of_a_processor({message, static_cast<size_t>(length)});
  }
  if (any) switch_on_processors();
}

}  // namespace caisson::agent
