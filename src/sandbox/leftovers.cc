#include "sandbox/leftovers.h"

#include <fcntl.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "host/files.h"
#include "host/process.h"

namespace caisson::sandbox {
namespace {

using Json = nlohmann::json;

constexpr const char* kLockName = "lock";

Json cgroup_to_json(const host::CgroupPaths& paths) {
  return {{"version", paths.version == host::CgroupVersion::V1 ? 1 : 2}, {"path", paths.path}, {"folders", paths.folders}};
}

host::CgroupPaths cgroup_from_json(const Json& json) {
  host::CgroupPaths paths;
  paths.version = json.at("version").get<int>() == 1 ? host::CgroupVersion::V1 : host::CgroupVersion::V2;
  paths.path = json.at("path").get<std::string>();
  paths.folders = json.at("folders").get<std::map<std::string, std::string>>();
  return paths;
}

}  // namespace

Result<uint64_t> process_start_time(pid_t pid) { return host::process_start_time(pid); }

bool is_alive(const ProcessIdentity& process) {
  if (process.pid <= 0) return false;
  auto start = host::process_start_time(process.pid);
  return start.ok() && *start == process.start_time;
}

Result<void> save_leftovers(const std::string& dir, const std::string& name, const Leftovers& leftovers) {
  Json processes = Json::array();
  for (const ProcessIdentity& process : leftovers.processes) processes.push_back({{"pid", process.pid}, {"startTime", process.start_time}});
  Json cgroups = Json::array();
  for (const host::CgroupPaths& paths : leftovers.cgroups) cgroups.push_back(cgroup_to_json(paths));
  const Json json = {{"processes", std::move(processes)},
                     {"cgroups", std::move(cgroups)},
                     {"mounts", leftovers.mounts},
                     {"folders", leftovers.folders},
                     {"interfaces", leftovers.interfaces}};
  // Paths may be any bytes; JSON may not. Such a path cannot be freed from here, which is better than no file at all.
  return host::write_file_atomic(leftovers_file(dir, name), json.dump(1, ' ', false, Json::error_handler_t::replace));
}

std::string leftovers_file(const std::string& dir, const std::string& name) { return fmt::format("{}/{}{}", dir, name, kLeftoversSuffix); }

Result<Leftovers> load_leftovers(const std::string& file) {
  const std::string text = TRY(host::read_file(file));
  try {
    const Json json = Json::parse(text);
    Leftovers leftovers;
    for (const Json& process : json.at("processes"))
      leftovers.processes.push_back({process.at("pid").get<pid_t>(), process.at("startTime").get<uint64_t>()});
    for (const Json& paths : json.at("cgroups")) leftovers.cgroups.push_back(cgroup_from_json(paths));
    leftovers.mounts = json.at("mounts").get<std::vector<std::string>>();
    leftovers.folders = json.at("folders").get<std::vector<std::string>>();
    leftovers.interfaces = json.at("interfaces").get<std::vector<std::string>>();
    return leftovers;
  } catch (const Json::exception& error) {
    return make_error(EBADMSG, "{} is not a file that Caisson wrote: {}", file, error.what());
  }
}

Result<pid_t> lock_holder(const std::string& dir) {
  UniqueFd fd(open((dir + "/" + kLockName).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return 0;
  if (!fd) return errno_error("cannot open {}/{}", dir, kLockName);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(fd.get(), F_GETLK, &lock) != 0) return errno_error("cannot ask for the lock of {}", dir);
  return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

Result<UniqueFd> take_lock(const std::string& dir) {
  UniqueFd fd(open((dir + "/" + kLockName).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return errno_error("cannot make {}/{}", dir, kLockName);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(fd.get(), F_SETLK, &lock) == 0) return fd;
  if (errno == EAGAIN || errno == EACCES) return make_error(EBUSY, "another sandbox process serves {}", dir);
  return errno_error("cannot lock {}/{}", dir, kLockName);
}

}  // namespace caisson::sandbox
