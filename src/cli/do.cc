// do: a command of this machine in a sandbox, whose root file system is a throw-away layer over this machine's.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/do_spec.h"
#include "cli/foreground.h"
#include "cli/lifecycle.h"
#include "host/files.h"
#include "sandbox/leftovers.h"

namespace caisson::cli {
namespace {

Result<void> mount_layers(const std::string& folder) {
  if (mount("tmpfs", folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0711") != 0)
    return errno_error("cannot mount a tmpfs for the upper layer at {}", folder);
  if (mount(nullptr, folder.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) return errno_error("{}", folder);
  for (const char* name : {"/upper", "/work", "/rootfs"})
    if (mkdir((folder + name).c_str(), 0755) != 0) return errno_error("{}{}", folder, name);
  // From inside the folder: names in overlay's options cannot hold every character that --root may.
  UniqueFd before(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (chdir(folder.c_str()) != 0) return errno_error("{}", folder);
  int mounted = mount("overlay", "rootfs", "overlay", 0, "lowerdir=/,upperdir=upper,workdir=work");
  Error failure = errno_error("cannot mount an overlay over this machine's root file system");
  if (before) (void)!fchdir(before.get());
  if (mounted != 0) return failure;
  return {};
}

// <dir>/do: a tmpfs with the bundle, its root file system an overlay of this machine's root over it.
Result<std::string> make_bundle(const std::string& dir, const std::string& spec) {
  std::string folder = dir + "/do";
  // Written down before it is there: whatever ends us, delete --force and our own end free it.
  sandbox::Leftovers leftovers;
  leftovers.mounts = {folder, folder + "/rootfs"};
  TRY(sandbox::save_leftovers(dir, "do", leftovers));
  if (mkdir(folder.c_str(), 0711) != 0) return errno_error("cannot make {}", folder);
  TRY(mount_layers(folder));
  TRY(host::write_file_atomic(folder + "/config.json", spec));
  return folder;
}

std::string new_id() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return fmt::format("do-{}-{:x}", getpid(), now.tv_sec * 1'000'000'000 + now.tv_nsec);
}

void declare(Arguments& arguments, DoOptions& options) {
  arguments.option("--rw", options.rw, "DIR", "Let the command write to this folder of the machine; may be given several times");
  arguments.option("--volume,-v", options.volumes, "SRC:DST[:ro]",
                   "Show a folder or file of the machine at another place; may be given several times");
  arguments.option("--env,-e", options.env, "NAME[=VALUE]", "Set a variable, or pass the caller's on; may be given several times");
  arguments.option("--cwd", options.cwd, "DIR", "Current folder (default: the caller's where it exists inside, else /)");
  arguments.option("--network", options.network, "KIND", "none or host (default none)");
  arguments.flag("--tty,-t", options.tty, "Give it a terminal (default: if standard input and output are terminals)");
  arguments.rest("[--] COMMAND [ARGUMENTS]", options.args, "", 1);
  arguments.footer(
      "The command sees this machine's root file system; what it changes is thrown away at its end, but below --rw and --volume.\n"
      "Other file systems mounted on this machine are not seen. /proc, /sys, /dev, /run and /tmp are the sandbox's own.\n"
      "Of the environment only PATH, HOME, USER, SHELL, TERM, LANG... are passed on.");
}

}  // namespace

Result<int> do_command(Context& context) {
  DoOptions options;
  declare(context.arguments, options);
  TRY(context.parse());
  if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) options.tty = true;
  std::string spec = TRY(do_spec_json(options));
  CreateRequest request;
  request.id = new_id();
  request.foreground = true;
  request.make_bundle = [&spec](const std::string& dir) { return make_bundle(dir, spec); };
  CreatedContainer created = TRY(create_container(context.globals, request));
  Store store = open_store(context.globals);
  Result<int> status = run_in_foreground(
      {.socket = sandbox_socket(store, request.id), .container_id = request.id, .start = true, .terminal = std::move(created.terminal)});
  if (Result<void> freed = free_container(store, request.id); !freed.ok()) log::warning("{}", freed.error().message());
  return status;
}

}  // namespace caisson::cli
