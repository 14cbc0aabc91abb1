// SandboxContext as JSON in a descriptor.
#include "sandbox/context.h"

#include <sys/mman.h>

#include <nlohmann/json.hpp>

#include "host/files.h"

namespace caisson::sandbox {

using Json = nlohmann::json;

std::string context_to_json(const SandboxContext& context) {
  const Json json = {{"dir", context.dir},
                     {"id", context.id},
                     {"isolation", context.isolation},
                     {"config", config_to_json(context.config)},
                     {"logPath", context.log_path},
                     {"logJson", context.log_json},
                     {"debug", context.debug},
                     {"keep", context.keep}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<SandboxContext> context_from_json(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    SandboxContext context;
    context.dir = json.at("dir").get<std::string>();
    context.id = json.at("id").get<std::string>();
    context.isolation = json.at("isolation").get<std::string>();
    context.log_path = json.at("logPath").get<std::string>();
    context.log_json = json.at("logJson").get<bool>();
    context.debug = json.at("debug").get<bool>();
    context.keep = json.at("keep").get<bool>();
    context.config = TRY(config_from_json(json.at("config").get<std::string>()));
    return context;
  } catch (const Json::exception& error) {
    return make_error(EBADMSG, "a sandbox process was given a context that it cannot read: {}", error.what());
  }
}

Result<UniqueFd> context_descriptor(const SandboxContext& context) {
  UniqueFd fd(memfd_create("caisson-context", MFD_CLOEXEC));
  if (!fd) return errno_error("cannot make a file in memory");
  TRY(host::write_all(fd.get(), context_to_json(context)));
  if (lseek(fd.get(), 0, SEEK_SET) != 0) return errno_error("cannot rewind a file in memory");
  return fd;
}

}  // namespace caisson::sandbox
