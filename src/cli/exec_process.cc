#include <algorithm>
#include <charconv>

#include "cli/exec.h"

namespace caisson::cli {
namespace {

Result<uint32_t> parse_id(const std::string& text, const char* what) {
  uint32_t id = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (failed != std::errc() || end != text.data() + text.size() || text.empty())
    return make_error(EINVAL, "{}: \"{}\" is not a numeric id (names are not looked up)", what, text);
  return id;
}

void add_capability(oci::Capabilities& capabilities, std::string name) {
  for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  if (name.compare(0, 4, "CAP_") != 0) name.insert(0, "CAP_");
  // Every set: ambient, so that it outlasts the change to another user, and inheritable, without which it cannot be ambient
  // (capabilities(7)).
  for (auto* set :
       {&capabilities.bounding, &capabilities.effective, &capabilities.permitted, &capabilities.inheritable, &capabilities.ambient})
    if (std::find(set->begin(), set->end(), name) == set->end()) set->push_back(name);
}

}  // namespace

Result<void> parse_user(const std::string& text, oci::User& user) {
  size_t colon = text.find(':');
  user.uid = TRY(parse_id(text.substr(0, colon), "--user"));
  if (colon != std::string::npos) user.gid = TRY(parse_id(text.substr(colon + 1), "--user"));
  return {};
}

Result<oci::Process> exec_process(const oci::Process& container, const ExecOptions& options) {
  oci::Process process = container;
  process.terminal = options.tty;
  process.console_size.reset();
  process.args = options.args;
  if (!options.cwd.empty()) process.cwd = options.cwd;
  if (!options.apparmor.empty()) process.apparmor_profile = options.apparmor;
  if (!options.process_label.empty()) process.selinux_label = options.process_label;
  if (options.no_new_privs) process.no_new_privileges = true;
  process.env.insert(process.env.end(), options.env.begin(), options.env.end());
  if (!options.user.empty()) TRY(parse_user(options.user, process.user));
  for (const std::string& gid : options.additional_gids) process.user.additional_gids.push_back(TRY(parse_id(gid, "--additional-gids")));
  if (!options.caps.empty() && !process.capabilities) process.capabilities.emplace();
  for (const std::string& cap : options.caps) add_capability(*process.capabilities, cap);
  return process;
}

}  // namespace caisson::cli
