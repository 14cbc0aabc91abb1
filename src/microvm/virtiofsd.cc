#include "microvm/virtiofsd.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "microvm/share_layout.h"

namespace caisson::microvm {
namespace {

// For how long the guest may trust a name or an attribute without asking: how old what it sees of the node's changes can be. Long enough
// for the many look-ups of one path walk, or of a compiler's, which without it are several times slower (1 s, virtiofsd's own, gains little
// more).
constexpr const char* kCacheSeconds = "0.05";

// A socket that listens and one that is connected to it. virtiofsd wants to accept(2); a name is there for that moment only, in a folder
// that nobody else may enter.
struct ListeningPair {
  UniqueFd listener, connection;
};
Result<ListeningPair> make_listening_pair(const std::string& folder) {
  UniqueFd place(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place) return errno_error("cannot open {}", folder);
  // By way of the descriptor: a socket's path has only 108 bytes.
  const std::string path = fmt::format("/proc/self/fd/{}/virtiofsd.sock", place.get());
  ListeningPair pair{UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  if (!pair.listener || !pair.connection) return errno_error("cannot make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  unlink(path.c_str());
  if (bind(pair.listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return errno_error("cannot bind a socket in {}", folder);
  Result<void> outcome;
  if (listen(pair.listener.get(), 1) != 0 || connect(pair.connection.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    outcome = errno_error("cannot connect a socket in {}", folder);
  unlink(path.c_str());
  TRY(std::move(outcome));
  return pair;
}

}  // namespace

Result<std::string> find_virtiofsd(const sandbox::MicrovmConfig& settings) {
  if (!settings.virtiofsd_path.empty()) {
    if (access(settings.virtiofsd_path.c_str(), X_OK) == 0) return settings.virtiofsd_path;
    return errno_error("cannot find virtiofsd at {} (microvm.virtiofsd_path)", settings.virtiofsd_path);
  }
  for (const char* path :
       {"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/bin/virtiofsd", "/usr/local/bin/virtiofsd"})
    if (access(path, X_OK) == 0) return std::string(path);
  return make_error(ENOENT, "virtiofsd is not there: install Debian's package qemu-system-common, or set microvm.virtiofsd_path");
}

Result<Virtiofsd> prepare_virtiofsd(host::EventLoop& loop, const VmConfig& config, int share_namespace, const std::string& folder,
                                    JailedProcess::Events events) {
  ListeningPair pair = TRY(make_listening_pair(folder));
  const std::string program = TRY(find_virtiofsd(config.settings));
  const bool jail = config.settings.jail;
  JailSpec spec;
  spec.what = "virtiofsd";
  // sandbox=chroot: the other way ("namespace") needs CAP_SYS_ADMIN, and we have made the namespaces already. Locks are the guest kernel's
  // business: it is the only one that uses the files through us, and virtiofsd's locks cannot wait.
  spec.arguments = {
      program,
      "-f",
      fmt::format("--fd={}", pair.listener.get()),
      "--rlimit-nofile=0",
      "-o",
      fmt::format("source={},sandbox=chroot,cache=auto,timeout={},xattr,announce_submounts,no_posix_lock,no_flock,log_level=warn",
                  jail ? kJailShare : kUnconfinedShare, kCacheSeconds)};
  spec.descriptors = {pair.listener.get()};
  spec.jail_namespace = share_namespace;
  spec.share = spec.proc = true;
  // Root, but with these only, and with nothing of root's in its jail: it becomes a guest's user for a moment to create a file, and only
  // uid 0 has its capabilities back after that. To create files with any owner and mode is its work; SYS_CHROOT and SETPCAP it uses and
  // gives up at its start.
  spec.capabilities = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,  CAP_FSETID,     CAP_SETGID,
                       CAP_SETUID, CAP_MKNOD,        CAP_SETFCAP, CAP_SYS_CHROOT, CAP_SETPCAP};
  spec.syscalls = virtiofsd_syscalls();
  spec.confined = jail;
  auto process = JailedProcess::create(loop, std::move(spec), std::move(events));
  if (!process) return std::move(process).error();
  return Virtiofsd{std::move(*process), std::move(pair.connection)};
}

}  // namespace caisson::microvm
