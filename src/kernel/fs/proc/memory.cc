// maps and what lies in a process's memory for others to read.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "kernel/fs/proc/facts.h"
#include "kernel/fs/proc/mapped_names.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostText = 2 << 20;

struct Range {
  uint64_t start = 0, end = 0;
};

// The address range at the front of a line of maps; false: the line is one of details (smaps).
bool parse_range(std::string_view line, Range& range) {
  char copy[64];
  const size_t length = std::min(line.size(), sizeof copy - 1);
  std::copy_n(line.data(), length, copy);
  copy[length] = 0;
  return sscanf(copy, "%" SCNx64 "-%" SCNx64 " ", &range.start, &range.end) == 2;
}

bool is_kernels_own(const Range& range, const CallSites& sites) {
  return (range.start >= STUB_WINDOW && range.start < STUB_WINDOW_END) || sites.has_thunks_at(range.start);
}

// The host does not know which of the anonymous mappings are the guest's heap and stack.
const char* name_of(const Range& range, const AddressSpace::Layout& layout) {
  if (layout.brk > layout.start_brk && range.start < layout.brk && range.end > layout.start_brk) return "[heap]";
  if (range.start < layout.stack_high && range.end > layout.stack_low) return "[stack]";
  return nullptr;
}

// A line of maps that shows program text of a file: pages whose calls have become jumps are mappings of their own on the host (patch/),
// which guests, and what reads symbols by these lines, need not know.
struct TextLine {
  Range range;
  char rights[8] = "";
  uint64_t offset = 0;
  std::string file;  // "dev inode   name"
};

std::optional<TextLine> parse_text_line(const std::string& line) {
  TextLine parsed;
  int file_at = 0;
  if (sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %n", &parsed.range.start, &parsed.range.end, parsed.rights,
             &parsed.offset, &file_at) != 4)
    return std::nullopt;
  if (parsed.rights[2] != 'x' || line.find('/') == line.npos) return std::nullopt;
  parsed.file = line.substr(static_cast<size_t>(file_at));
  return parsed;
}

bool goes_on(const TextLine& first, const TextLine& second) {
  return first.range.end == second.range.start && first.offset + (first.range.end - first.range.start) == second.offset &&
         first.file == second.file && strcmp(first.rights, second.rights) == 0;
}

// maps with such lines joined.
std::string join_text(const std::string& maps) {
  std::string result;
  result.reserve(maps.size());
  std::optional<TextLine> last;
  size_t last_at = 0;
  for (size_t at = 0; at < maps.size();) {
    const size_t end = std::min(maps.find('\n', at), maps.size());
    const std::string line = maps.substr(at, end - at);
    at = end + 1;
    std::optional<TextLine> text = parse_text_line(line);
    if (last && text && goes_on(*last, *text)) {
      last->range.end = text->range.end;
      result.resize(last_at);
      append_format(result, "%08" PRIx64 "-%08" PRIx64 " %s %08" PRIx64 " ", last->range.start, last->range.end, last->rights,
                    last->offset);
      result += last->file + "\n";
      continue;
    }
    last = std::move(text);
    last_at = result.size();
    result += line + "\n";
  }
  return result;
}

// The host's maps or smaps without what is the kernel's own.
std::string translate(const std::string& host, const AddressSpace::Layout& layout, const CallSites& sites, MappedNames& names) {
  std::string result;
  result.reserve(host.size());
  bool hidden = false;
  for (size_t at = 0; at < host.size();) {
    const size_t end = std::min(host.find('\n', at), host.size());
    const std::string_view line(host.data() + at, end - at);
    at = end + 1;
    Range range;
    if (!parse_range(line, range)) {
      if (!hidden) result.append(line).push_back('\n');
      continue;
    }
    hidden = is_kernels_own(range, sites);
    if (hidden) continue;
    result.append(names.of_line(line));
    // "start-end perms offset dev inode" and, after blanks, a name where there is one.
    const size_t last = line.find_last_not_of(' ');
    const bool anonymous = last != line.npos && line.substr(0, last + 1).ends_with(" 00:00 0");
    const char* name = anonymous ? name_of(range, layout) : nullptr;
    if (name != nullptr) {
      result.erase(result.find_last_not_of(' ') + 1);
      const size_t begin = result.rfind('\n') == result.npos ? 0 : result.rfind('\n') + 1;
      result.append(result.size() - begin < 73 ? 73 - (result.size() - begin) : 1, ' ');
      result += name;
    }
    result.push_back('\n');
  }
  return result;
}

Result<std::string> host_text(Task& reader, const ProcSubject& subject, const char* name) {
  const ProcFacts facts = TRY(gather_private(reader, subject));
  if (facts.host_pid == 0 || !facts.memory) return std::string();
  const std::string host = TRY(read_host_proc((std::to_string(facts.host_pid) + "/" + name).c_str(), 64 << 20));
  AddressSpace::Layout layout;
  {
    std::lock_guard guard(facts.memory->lock);
    layout = facts.memory->layout;
  }
  MappedNames names(reader, facts);
  return translate(host, layout, facts.memory->call_sites(), names);
}

// Bytes [start, end) of the process's memory, as far as they can be had.
std::string guest_text(const ProcFacts& facts, uint64_t start, uint64_t end) {
  std::string text;
  if (facts.host_tid == 0 || end <= start) return text;
  text.resize(std::min<uint64_t>(end - start, kMostText));
  const Result<size_t> got = read_guest_partly(facts.host_tid, start, text.data(), text.size());
  text.resize(got ? *got : 0);
  return text;
}

AddressSpace::Layout copy_layout(const ProcFacts& facts) {
  if (!facts.memory) return {};
  std::lock_guard guard(facts.memory->lock);
  return facts.memory->layout;
}

}  // namespace

Result<bool> is_mapped(const Task& task, uint64_t start, uint64_t end) {
  const std::string host = TRY(read_host_proc((std::to_string(task.stub->process()->pid()) + "/maps").c_str(), 64 << 20));
  for (size_t at = 0; at < host.size() && start < end;) {
    const size_t line_end = std::min(host.find('\n', at), host.size());
    Range range;
    if (parse_range(std::string_view(host).substr(at, line_end - at), range) && range.start <= start && start < range.end)
      start = range.end;
    at = line_end + 1;
  }
  return start >= end;
}

Result<std::string> proc_maps(Task& reader, const ProcSubject& subject) { return join_text(TRY(host_text(reader, subject, "maps"))); }
Result<std::string> proc_smaps(Task& reader, const ProcSubject& subject) { return host_text(reader, subject, "smaps"); }

Result<std::string> proc_smaps_rollup(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather_private(reader, subject));
  if (facts.host_pid == 0) return std::string();
  return read_host_proc((std::to_string(facts.host_pid) + "/smaps_rollup").c_str());
}

Result<std::string> proc_command_line(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  const AddressSpace::Layout layout = copy_layout(facts);
  std::string text = guest_text(facts, layout.arg_start, layout.arg_end);
  if (text.empty() || text.back() == '\0') return text;
  // A program that writes a title over its arguments may go on into its environment (setproctitle).
  text += guest_text(facts, layout.arg_end, layout.env_end);
  text.resize(std::min(text.size(), text.find('\0')));
  return text;
}

Result<std::string> proc_environment(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather_private(reader, subject));
  const AddressSpace::Layout layout = copy_layout(facts);
  return guest_text(facts, layout.env_start, layout.env_end);
}

Result<std::string> proc_auxiliary_vector(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather_private(reader, subject));
  const AddressSpace::Layout layout = copy_layout(facts);
  return std::string(reinterpret_cast<const char*>(layout.auxv.data()), layout.auxv.size() * sizeof(uint64_t));
}

}  // namespace caisson::kernel
