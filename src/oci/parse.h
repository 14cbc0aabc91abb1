// Reading and checking config.json. Bytes come from engines and, through them, from strangers: nothing here aborts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::oci {

inline constexpr const char* kSpecVersion = "1.3.0";

// Parses and validates a whole config.json. Errors (EINVAL) name the JSON path: "config.json: process.user.uid: must be a number from 0 to
// 4294967295, is \"root\"". Unknown members are ignored, as the specification asks; members of the wrong type or with impossible values are
// not.
Result<Spec> parse_spec(std::string_view json);

// Reads <bundle>/config.json and parses it; root.path is made absolute against the bundle. raw, where given, gets the file's text.
Result<Spec> load_bundle(const std::string& bundle, std::string* raw = nullptr);

// The "process" object alone (exec --process), and "linux.resources" alone (update --resources).
Result<Process> parse_process(std::string_view json);
Result<Resources> parse_resources(std::string_view json);

// The file below /proc/sys of a key of linux.sysctl: "net.ipv4.conf.eth0/1.rp_filter" is net/ipv4/conf/eth0.1/rp_filter. Parsing has made
// sure that it stays below /proc/sys.
std::string sysctl_path(const std::string& name);

// JSON of a process, the inverse of parse_process: what exec sends.
std::string process_to_json(const Process& process);

// The state document that `state` prints and hooks get on stdin (runtime.md, "State").
struct State {
  std::string id;
  std::string status;  // "creating", "created", "running", "paused" (runc's), "stopped"
  int pid = 0;
  std::string bundle;
  std::map<std::string, std::string> annotations;
};
std::string state_to_json(const State& state);

// A default config.json, as `caisson spec` writes it. rootless: with a user namespace mapping the caller's ids.
std::string default_spec_json(bool rootless, uint32_t uid, uint32_t gid);

// The features document (features.md) of this build, JSON.
std::string features_json();

}  // namespace caisson::oci
