// The state store: one folder per container below --root, and the front's own record in it, state.json.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "sandbox/leftovers.h"

namespace caisson::cli {

// What the front remembers of a container. Written before anything is made, and again when it is there.
struct ContainerState {
  std::string id;
  std::string bundle;     // absolute
  std::string rootfs;     // absolute
  std::string isolation;  // resolved: "namespace", "microvm"
  std::string created;    // RFC 3339, UTC
  uint32_t owner = 0;     // uid of the caller
  bool terminal = false;
  bool complete = false;  // create has succeeded
  std::map<std::string, std::string> annotations;
  // The process that stands for the container on this host: its init, or the holder of a micro-VM's. pid 0: none yet.
  sandbox::ProcessIdentity process;
  bool holder = false;  // process is a holder
};

std::string state_to_text(const ContainerState& state);
Result<ContainerState> state_from_text(const std::string& text);

// Non-empty, at most 1024 characters of [A-Za-z0-9_+.-], and neither "." nor "..".
Result<void> check_container_id(const std::string& id);

class Store {
 public:
  explicit Store(std::string root) : root_(std::move(root)) {}

  const std::string& root() const { return root_; }
  std::string folder(const std::string& id) const { return root_ + "/" + id; }

  // Checks the id and makes its folder. EEXIST where there is one.
  Result<std::string> make_folder(const std::string& id) const;
  // By rename.
  Result<void> save(const ContainerState& state) const;
  // "container does not exist" (ENOENT) where there is no folder; EINVAL-like errors where its state cannot be read.
  Result<ContainerState> load(const std::string& id) const;
  bool exists(const std::string& id) const;
  // Ids of all folders, sorted. An absent root has none.
  Result<std::vector<std::string>> ids() const;

 private:
  std::string root_;
};

// Now as RFC 3339 with nanoseconds, as engines expect of "created".
std::string timestamp_now();
// The user's name from /etc/passwd, or the number.
std::string user_name(uint32_t uid);

}  // namespace caisson::cli
