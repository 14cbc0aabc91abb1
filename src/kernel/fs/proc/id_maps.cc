// uid_map, gid_map and setgroups of a process's user namespace (user_namespaces(7)).
#include <stdio.h>

#include <algorithm>
#include <sstream>

#include "kernel/fs/proc/facts.h"
#include "kernel/platform/host_proc.h"

namespace caisson::kernel {
namespace {

using Ids = UserNamespace::Ids;
using Range = UserNamespace::Range;
constexpr size_t kMostRanges = 340;

// Whom the outside ids of a map are told to or come from: who lives in that namespace sees its parent's.
const UserNamespace& outside_of(const Task& task, const UserNamespace& space) {
  return task.creds->user.get() == &space && space.owner ? *space.owner : *task.creds->user;
}

Result<std::string> read_map(Task& reader, const ProcSubject& subject, Ids ids) {
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  const UserNamespace& space = *facts.creds->user;
  const UserNamespace& outside = outside_of(reader, space);
  std::string text;
  for (const Range& range : space.map(ids)) {
    const std::optional<uint32_t> shown = outside.from_kernel(ids, range.outside);
    append_format(text, "%10u %10u %10u\n", range.inside, shown.value_or(UINT32_MAX), range.count);
  }
  return text;
}

Result<std::vector<Range>> parse_map(std::string_view text) {
  std::vector<Range> map;
  if (text.size() >= 4096) return Errno(EINVAL);
  std::istringstream lines{std::string(text)};
  std::string line;
  while (std::getline(lines, line)) {
    unsigned long inside = 0, outside = 0, count = 0;
    char more = 0;
    if (sscanf(line.c_str(), "%lu %lu %lu %c", &inside, &outside, &count, &more) != 3) return Errno(EINVAL);
    if (count == 0 || inside + count > UINT32_MAX || outside + count > UINT32_MAX || inside > UINT32_MAX || outside > UINT32_MAX)
      return Errno(EINVAL);
    const Range range{static_cast<uint32_t>(inside), static_cast<uint32_t>(outside), static_cast<uint32_t>(count)};
    for (const Range& other : map) {
      const auto overlaps = [](uint32_t a, uint32_t b, uint32_t na, uint32_t nb) { return a < b + nb && b < a + na; };
      if (overlaps(range.inside, other.inside, range.count, other.count) ||
          overlaps(range.outside, other.outside, range.count, other.count))
        return Errno(EINVAL);
    }
    if (map.size() >= kMostRanges) return Errno(EINVAL);
    map.push_back(range);
  }
  if (map.empty()) return Errno(EINVAL);
  return map;
}

// May this map be written (new_idmap_permitted in Linux)? `map` is in the kernel's numbers.
bool may_write(const Credentials& writer, const UserNamespace& space, Ids ids, const std::vector<Range>& map) {
  // One's own id alone, by who has made the namespace; of groups only where it cannot drop any.
  if (map.size() == 1 && map[0].count == 1 && space.creator == writer.euid) {
    if (ids == Ids::Users && map[0].outside == writer.euid) return true;
    if (ids == Ids::Groups && !space.may_set_groups() && map[0].outside == writer.egid) return true;
  }
  return writer.has_in(*space.owner, ids == Ids::Users ? kCapSetuid : kCapSetgid);
}

Result<void> write_map(Task& writer, const ProcSubject& subject, std::string_view text, Ids ids) {
  const ProcFacts facts = TRY(gather(writer.kernel, subject));
  const std::shared_ptr<UserNamespace> space = facts.creds->user;
  if (space->is_initial()) return Errno(EPERM);
  if (!writer.creds->has_in(*space, kCapSysAdmin)) return Errno(EPERM);
  if (writer.creds->user != space && writer.creds->user != space->owner) return Errno(EPERM);
  std::vector<Range> map = TRY(parse_map(text));
  if (!space->map(ids).empty()) return Errno(EPERM);
  for (Range& range : map) {
    const auto first = space->owner->to_kernel(ids, range.outside), last = space->owner->to_kernel(ids, range.outside + range.count - 1);
    if (!first || !last || *last - *first != range.count - 1) return Errno(EPERM);
    range.outside = *first;
  }
  if (!may_write(*writer.creds, *space, ids, map)) return Errno(EPERM);
  return space->set_map(ids, std::move(map));
}

}  // namespace

Result<void> adopt_host_id_maps() {
  for (const auto& [ids, file] : {std::pair(Ids::Users, "self/uid_map"), {Ids::Groups, "self/gid_map"}})
    UserNamespace::initial()->adopt(ids, TRY(parse_map(TRY(read_host_proc(file)))));
  return {};
}

Result<std::string> proc_uid_map(Task& reader, const ProcSubject& subject) { return read_map(reader, subject, Ids::Users); }
Result<std::string> proc_gid_map(Task& reader, const ProcSubject& subject) { return read_map(reader, subject, Ids::Groups); }
Result<void> proc_set_uid_map(Task& writer, const ProcSubject& subject, std::string_view text) {
  return write_map(writer, subject, text, Ids::Users);
}
Result<void> proc_set_gid_map(Task& writer, const ProcSubject& subject, std::string_view text) {
  return write_map(writer, subject, text, Ids::Groups);
}

Result<std::string> proc_setgroups(Task& reader, const ProcSubject& subject) {
  return std::string(TRY(gather(reader.kernel, subject)).creds->user->may_set_groups() ? "allow\n" : "deny\n");
}

Result<void> proc_set_setgroups(Task& writer, const ProcSubject& subject, std::string_view text) {
  const ProcFacts facts = TRY(gather(writer.kernel, subject));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  if (text != "allow" && text != "deny") return Errno(EINVAL);
  if (!writer.creds->has_in(*facts.creds->user, kCapSysAdmin)) return Errno(EPERM);
  return facts.creds->user->allow_set_groups(text == "allow");
}

}  // namespace caisson::kernel
