// A container's config.json as the guest's agent gets it: the host's paths become paths of the shared tree, what belongs to the host stays
// there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace caisson::microvm {

// Where the agent mounts the shared tree (src/agent/guest_init.h).
inline constexpr std::string_view kGuestShareFolder = "/run/caisson/share";
// And where it has copies of small volumes.
inline constexpr std::string_view kGuestMirrorFolder = "/run/caisson/mirror";

// Something of the host that the guest must see.
struct Exposure {
  std::string field;  // of config.json, for messages: "root.path"
  std::string host_path;
  std::string name;  // below the shared tree
  bool readonly = false;
  bool recursive = true;
  bool follows = false;  // mounts made on the host later are to be seen (rslave; rshared, as far as it goes)
};

// An exposed volume of which the guest has a copy in its memory, under the same name (mirrored_volumes.h).
struct Mirror {
  std::string host_path;
  std::string name;
};

struct GuestSpec {
  std::string json;
  std::vector<Exposure> exposures;
  std::vector<Mirror> mirrors;
  std::vector<std::string> warnings;  // sentences about what is not honoured
};

// config_json: valid and without what the isolation ignores (oci::adapt_config). bundle: absolute; paths of the document that are not
// absolute are below it. folder: the container's own folder in the shared tree ("c1"). Changed are: root.path and the sources of bind
// mounts (to the shared tree; to the guest's own files where they are of /proc, /sys or /dev; a shared-memory tmpfs of the host becomes one
// of the guest), linux.cgroupsPath (to /<id>), hooks (only startContainer stays). Everything else, known or not, is kept as it is.
// Namespaces: a network namespace with a path becomes the guest's first one, which has its interfaces (pod_network.h); other paths
// lead to the namespaces of pod_init, the process of the pod's first container in the guest, or, where that is 0, are left out.
// has_first_network: a network namespace of the container's own is the guest's first one too, where interfaces that come late appear.
// in_pod: /dev/shm is the one that the guest has for all of the pod.
Result<GuestSpec> translate_spec(std::string_view config_json, const std::string& bundle, const std::string& id, const std::string& folder,
                                 bool in_pod = false, int pod_init = 0, bool has_first_network = false);

// The linux.resources of update, without what the isolation ignores.
Result<std::string> translate_resources(std::string_view resources_json, std::vector<std::string>& warnings);

}  // namespace caisson::microvm
