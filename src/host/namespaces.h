// Namespaces (namespaces(7)): the table of their types, joining by path, user namespaces' maps.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

struct NamespaceType {
  std::string_view name;  // runtime-spec's: "network"
  std::string_view file;  // below /proc/<pid>/ns: "net"
  int flag;               // CLONE_NEWNET
};
// In the order in which a process joins them: the user namespace last, since everything else may need the rights of the one that it leaves;
// mount before it, since paths are looked up until then.
const std::vector<NamespaceType>& namespace_types();
const NamespaceType* find_namespace_type(std::string_view name);

// Opens a namespace by its path; EINVAL naming the path when it is none, or one of another type.
Result<UniqueFd> open_namespace(const NamespaceType& type, const std::string& path);
Result<UniqueFd> own_namespace(const NamespaceType& type);
Result<bool> same_namespace(int left, int right);
// setns(2). ns may be a pidfd.
Result<void> join_namespace(int ns, int flags, std::string_view what);

struct IdRange {
  uint32_t inside = 0, outside = 0, count = 0;
};
// Writes /proc/<pid>/uid_map and gid_map. Needs CAP_SETUID and CAP_SETGID.
Result<void> write_id_maps(pid_t pid, const std::vector<IdRange>& uids, const std::vector<IdRange>& gids);
// A user namespace that no process is in: for an id-mapped mount.
Result<UniqueFd> make_user_namespace(const std::vector<IdRange>& uids, const std::vector<IdRange>& gids);

// Interface "lo" of the calling process's network namespace.
Result<void> bring_up_loopback();

}  // namespace caisson::host
