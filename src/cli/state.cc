#include "cli/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "host/files.h"

namespace caisson::cli {
namespace {

using Json = nlohmann::json;

constexpr const char* kStateFile = "/state.json";
constexpr size_t kMaxIdLength = 1024;
constexpr size_t kMaxStateBytes = 8 << 20;

Result<ContainerState> read_state(const Json& json) {
  ContainerState state;
  state.id = json.at("id").get<std::string>();
  state.bundle = json.at("bundle").get<std::string>();
  state.rootfs = json.at("rootfs").get<std::string>();
  state.isolation = json.at("isolation").get<std::string>();
  state.created = json.at("created").get<std::string>();
  state.owner = json.at("owner").get<uint32_t>();
  state.terminal = json.at("terminal").get<bool>();
  state.complete = json.at("complete").get<bool>();
  state.annotations = json.at("annotations").get<std::map<std::string, std::string>>();
  state.process.pid = json.at("pid").get<pid_t>();
  state.process.start_time = json.at("pidStartTime").get<uint64_t>();
  state.holder = json.at("holder").get<bool>();
  if (state.process.pid < 0) return Error(EINVAL, "pid is negative");
  return state;
}

bool is_id_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '.' || c == '-';
}

}  // namespace

std::string state_to_text(const ContainerState& state) {
  Json json = {{"id", state.id},
               {"bundle", state.bundle},
               {"rootfs", state.rootfs},
               {"isolation", state.isolation},
               {"created", state.created},
               {"owner", state.owner},
               {"terminal", state.terminal},
               {"complete", state.complete},
               {"annotations", state.annotations},
               {"pid", state.process.pid},
               {"pidStartTime", state.process.start_time},
               {"holder", state.holder}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<ContainerState> state_from_text(const std::string& text) {
  try {
    return read_state(Json::parse(text));
  } catch (const std::exception& error) {
    return Error(EINVAL, error.what());
  }
}

Result<void> check_container_id(const std::string& id) {
  if (id.empty()) return Error(EINVAL, "container id cannot be empty");
  if (id.size() > kMaxIdLength) return make_error(EINVAL, "invalid container ID format: longer than {} characters", kMaxIdLength);
  if (id == "." || id == "..") return make_error(EINVAL, "invalid container ID format: \"{}\"", id);
  if (!std::all_of(id.begin(), id.end(), is_id_character))
    return make_error(EINVAL, "invalid container ID format: \"{}\" (letters, digits and _ + . - are possible)", id);
  return {};
}

Result<std::string> Store::make_folder(const std::string& id) const {
  TRY(check_container_id(id));
  if (Result<void> made = host::mkdir_p(root_, 0711); !made.ok()) return std::move(made).error().within("--root");
  std::string dir = folder(id);
  // 0711: a micro-VM's unprivileged VMM and its helpers pass through, nobody else can look.
  if (mkdir(dir.c_str(), 0711) != 0) {
    if (errno == EEXIST) return make_error(EEXIST, "container with given ID already exists: {}", id);
    return errno_error("cannot make {}", dir);
  }
  return dir;
}

Result<void> Store::save(const ContainerState& state) const {
  return host::write_file_atomic(folder(state.id) + kStateFile, state_to_text(state));
}

bool Store::exists(const std::string& id) const {
  struct stat status {};
  return check_container_id(id).ok() && lstat(folder(id).c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

Result<ContainerState> Store::load(const std::string& id) const {
  TRY(check_container_id(id));
  if (!exists(id)) return make_error(ENOENT, "container does not exist: {}", id);
  std::string file = folder(id) + kStateFile;
  Result<std::string> text = host::read_file(file, kMaxStateBytes);
  if (!text.ok())
    return make_error(EIO, "container {} was not made completely ({}); free it with: caisson delete --force {}", id, text.error().message(),
                      id);
  Result<ContainerState> state = state_from_text(*text);
  if (!state.ok())
    return make_error(EIO, "{} is damaged ({}); free the container with: caisson delete --force {}", file, state.error().message(), id);
  return state;
}

Result<std::vector<std::string>> Store::ids() const {
  std::vector<std::string> found;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(root_.c_str()), closedir);
  if (!dir) {
    if (errno == ENOENT) return found;
    return errno_error("cannot read {}", root_);
  }
  while (const dirent* entry = readdir(dir.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != ".." && exists(name)) found.push_back(std::move(name));
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string timestamp_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                     parts.tm_min, parts.tm_sec, now.tv_nsec);
}

std::string user_name(uint32_t uid) {
  // Not getpwuid(3): a static program has no NSS.
  std::string number = std::to_string(uid);
  Result<std::string> text = host::read_file("/etc/passwd", 1 << 20);
  if (!text.ok()) return number;
  size_t start = 0;
  while (start < text->size()) {
    size_t end = std::min(text->find('\n', start), text->size());
    std::string line = text->substr(start, end - start);
    start = end + 1;
    size_t name_end = line.find(':');
    size_t uid_start = name_end == std::string::npos ? name_end : line.find(':', name_end + 1);
    if (uid_start == std::string::npos) continue;
    if (line.compare(uid_start + 1, number.size() + 1, number + ":") == 0) return line.substr(0, name_end);
  }
  return number;
}

}  // namespace caisson::cli
