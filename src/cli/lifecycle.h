// Lifecycle: creating, finding and freeing containers, as create, run, do and delete share it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "cli/command.h"
#include "cli/state.h"
#include "oci/spec.h"
#include "sandbox/client.h"

namespace caisson::cli {

// For create and start, which run hooks that may have no timeout of their own.
inline constexpr std::chrono::minutes kHookTimeout{10};
// For a question that a sandbox answers from memory.
inline constexpr std::chrono::seconds kQuickTimeout{10};

struct CreateRequest {
  std::string id;
  std::string bundle;  // "": the current folder
  std::string pid_file;
  std::string console_socket;
  bool no_pivot = false;
  bool no_new_keyring = false;
  uint32_t preserve_fds = 0;
  bool foreground = false;  // the caller waits for the end itself, and relays a terminal
  // Makes the bundle inside the container's folder and returns its path; instead of `bundle`.
  std::function<Result<std::string>(const std::string& folder)> make_bundle;
};

struct CreatedContainer {
  ContainerState state;
  sandbox::SandboxClient client;
  UniqueFd terminal;  // foreground with a terminal: the pty's master
};

// Makes a container, up to where only start is missing. On failure nothing of it is left. Interruptible by SIGINT, SIGTERM, SIGHUP and
// SIGQUIT (EINTR).
Result<CreatedContainer> create_container(const Globals& globals, const CreateRequest& request);

// Frees everything of a container, whatever state it is in, however little is left of it. Idempotent.
Result<void> free_container(const Store& store, const std::string& id);

// What `state` and `list` say.
struct ContainerStatus {
  std::string status;   // "creating", "created", "running", "paused", "stopped"
  pid_t pid = 0;        // 0 when stopped
  int exit_status = 0;  // when stopped and known
};
// ETIMEDOUT where the sandbox process hangs.
Result<ContainerStatus> container_status(const Store& store, const ContainerState& state);

// The sandbox of a container; ECONNREFUSED-like errors where it has gone.
Result<sandbox::SandboxClient> connect_sandbox(const Store& store, const std::string& id);
std::string sandbox_socket(const Store& store, const std::string& id);

// The store of --root, made absolute: the sandbox process does not share our current folder.
Store open_store(const Globals& globals);

// A container's config.json as it was when the container was created.
inline constexpr const char* kSavedSpec = "config.json";

}  // namespace caisson::cli
