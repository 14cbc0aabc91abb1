// What execve(2) makes of an identity: set-user-ID and set-group-ID files, capabilities of root, capabilities of files (capabilities(7),
// "Transformation of capabilities during execve()").
#pragma once

#include <optional>
#include <string_view>

#include "kernel/errno.h"
#include "kernel/task/credentials.h"

namespace caisson::kernel {

class File;
class Task;

struct ExecCredentials {
  CredentialsRef creds;
  bool secure = false;  // AT_SECURE
};
// EPERM: the file asks for capabilities that the task cannot get, and would not notice.
Result<ExecCredentials> exec_credentials(Task& task, File& file);

// The value of the attribute security.capability (vfs_cap_data, linux/capability.h).
struct FileCapabilities {
  uint64_t permitted = 0, inheritable = 0;
  bool effective = false;
  uid_t root = 0;  // the user 0 for whom they are meant, as the file system counts
};
// none: not of version 1, 2 or 3, or of a wrong size.
std::optional<FileCapabilities> parse_file_capabilities(std::string_view value);

}  // namespace caisson::kernel
