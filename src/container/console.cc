#include "container/console.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host/files.h"
#include "host/mount.h"
#include "host/rooted_path.h"

namespace caisson::container {
namespace {

Result<bool> is_multiplexer(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) return errno_error("cannot stat /dev/pts/ptmx");
  return S_ISCHR(info.st_mode) && info.st_rdev == makedev(5, 2) && TRY(host::filesystem_magic(fd)) == DEVPTS_SUPER_MAGIC;
}

// The container's files may be anything, and may change meanwhile: looked at before the open, which could block or have effects, and after
// it.
Result<UniqueFd> open_container_multiplexer(int root) {
  const host::RootedPath folder = TRY(host::open_in_root(root, "/dev/pts"));
  const UniqueFd path(openat(folder.fd.get(), "ptmx", O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!path) return errno_error("cannot open /dev/pts/ptmx");
  UniqueFd master;
  if (TRY(is_multiplexer(path.get()))) {
    master.reset(openat(folder.fd.get(), "ptmx", O_RDWR | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    if (!master) return errno_error("cannot open /dev/pts/ptmx");
  }
  if (!master || !TRY(is_multiplexer(master.get())))
    return make_error(ENODEV, "/dev/pts/ptmx is not a pty multiplexer; is there a devpts mount for /dev/pts?");
  if (fcntl(master.get(), F_SETFL, O_RDWR) != 0) return errno_error("cannot make the terminal blocking");
  return master;
}

Result<UniqueFd> open_master(int root, bool host_fallback) {
  auto master = open_container_multiplexer(root);
  if (master || !host_fallback) return master;
  UniqueFd fd(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!fd) return errno_error("cannot open /dev/ptmx");
  return fd;
}

}  // namespace

Result<Console> open_console(const oci::Process& process, int root, bool host_fallback) {
  Console console;
  auto master = open_master(root, host_fallback);
  if (!master) return std::move(master).error().within("process.terminal");
  console.master = std::move(*master);
  int number = 0, unlocked = 0;
  if (ioctl(console.master.get(), TIOCGPTN, &number) != 0 || ioctl(console.master.get(), TIOCSPTLCK, &unlocked) != 0)
    return errno_error("process.terminal: cannot set the pty up");
  console.name = fmt::format("/dev/pts/{}", number);
  // The slave by its master, not by a path.
  console.slave.reset(ioctl(console.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!console.slave) return errno_error("process.terminal: cannot open the pty's other side");
  if (process.console_size) {
    winsize size{};
    size.ws_row = static_cast<unsigned short>(process.console_size->height);
    size.ws_col = static_cast<unsigned short>(process.console_size->width);
    if (ioctl(console.master.get(), TIOCSWINSZ, &size) != 0) return errno_error("process.consoleSize: cannot set the terminal's size");
  }
  return console;
}

Result<void> mount_console(const Console& console, int root) {
  const host::RootedPath target = TRY(host::open_in_root(root, "/dev/console", host::Missing::MakeFile));
  const UniqueFd tree = TRY(host::clone_mount(console.slave.get(), "", false));
  return host::attach_mount(tree.get(), target.fd.get());
}

Result<void> use_console(Console console, int console_socket) {
  auto sent = host::send_with_fds(console_socket, console.name, {console.master.get()});
  if (!sent) return std::move(sent).error().within("cannot send the terminal over the console socket");
  for (int fd = 0; fd < 3; ++fd)
    if (dup2(console.slave.get(), fd) < 0) return errno_error("cannot use the terminal as standard stream {}", fd);
  if (ioctl(0, TIOCSCTTY, 0) != 0) return errno_error("cannot take the terminal as controlling terminal");
  return {};
}

}  // namespace caisson::container
