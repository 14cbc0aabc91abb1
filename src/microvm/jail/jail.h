// Jail: a program of ours (the VMM, virtiofsd) with nothing of the host but what it is given.
//   own PID, network, IPC and UTS namespaces; it is PID 1 of its PID namespace: it needs no second process, and nothing survives it
//   own mount namespace, derived from the Share's: root is a read-only tmpfs with the files that are named here, and the share
//   an unprivileged user, or root without any capability but the named ones; no new privileges; a list of allowed system calls
//   no descriptor but the named ones; it dies with the process that started it
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "microvm/jail/syscalls.h"

namespace caisson::microvm {

inline constexpr const char* kJailShare = "/share";  // where the share is in a jail

struct JailFile {
  std::string from;  // host path; symbolic links are followed
  std::string to;    // absolute, in the jail; read-only there
};

struct JailDevice {
  std::string path;  // "/dev/kvm"
  dev_t number = 0;
};

struct JailSpec {
  std::string what;                    // "QEMU", for errors
  std::vector<std::string> arguments;  // [0]: the program's absolute host path, also its path in the jail
  std::vector<int> descriptors;        // stay open under their numbers; borrowed
  int output = -1;                     // becomes standard output and error; borrowed
  std::vector<JailFile> files;         // besides the program and the system's libraries
  std::vector<JailDevice> devices;     // character devices that its user may open, besides null, zero and urandom
  int jail_namespace = -1;             // Share::namespace_fd(), borrowed
  bool share = false;                  // gets the share at kJailShare
  bool proc = false;                   // gets a /proc with its own processes only
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<int> capabilities;  // CAP_CHOWN...: all that it has
  SyscallTable syscalls;
  bool confined = true;  // false: only the mount namespace with the share, the descriptors and the death signal, for debugging
};

struct Jailed {
  pid_t pid = 0;  // a child of the calling process, which reaps it
  UniqueFd pidfd;
  // The program is executed when a byte has been sent here. Then: end of file when it runs, or the text of what failed.
  UniqueFd control;
};

// Forks and prepares the jail; the calling process must be single-threaded. What fails in the child comes over `control`.
Result<Jailed> start_jailed(const JailSpec& spec);

// The user that VMMs run as: `name` of /etc/passwd, or 64055 for both where there is no such user.
struct JailUser {
  uid_t uid = 64055;
  gid_t gid = 64055;
  bool exists = false;
};
JailUser find_jail_user(const std::string& name);

}  // namespace caisson::microvm
