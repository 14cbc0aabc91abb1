// The shim's start: which form of bootstrap containerd speaks, where the pod's shim listens, and the answer on standard output.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace caisson::shim {

enum class BootstrapForm {
  Address,  // containerd 1.x: the bare address (the one form that all up to 2.2 understand)
  Binary,   // containerd 2.3 and later: BootstrapResult
};

struct BootstrapRequest {
  BootstrapForm form = BootstrapForm::Address;
  std::string ttrpc_address;  // where events go, when the request says; else the environment's TTRPC_ADDRESS
  bool debug = false;
  std::string runtime_options;  // the handler's, an encoded Any; "" none
};

// Tells from standard input's bytes which form it is: binary BootstrapParams have our own id and namespace in fields 1 and 2; a bare Any of
// options, or nothing, is the older one.
BootstrapRequest read_bootstrap(std::string_view input, const std::string& id, const std::string& namespace_);

// What goes to standard output. address: "unix:///run/containerd/s/...".
std::string bootstrap_answer(BootstrapForm form, const std::string& address);

// The name that the containers of one pod share: the group annotation of the bundle's config.json (containerd's, CRI's, CRI-O's), else id.
std::string group_of(std::string_view config_json, const std::string& id);

// Path of the socket for a group, short enough for sun_path: <folder>/<hash of containerd's address, namespace and group>.
std::string socket_path(const std::string& folder, const std::string& containerd_address, const std::string& namespace_,
                        const std::string& group);

inline constexpr const char* kSocketFolder = "/run/containerd/s";

}  // namespace caisson::shim
