#include <nlohmann/json.hpp>

#include "container/container.h"

namespace caisson::container {

using nlohmann::json;

std::string record_to_json(const Record& record) {
  const json document = {{"id", record.id},
                         {"bundle", record.bundle},
                         {"pid", record.pid},
                         {"pidStartTime", record.pid_start_time},
                         {"cgroup",
                          {{"version", record.cgroup.version == host::CgroupVersion::V2 ? 2 : 1},
                           {"path", record.cgroup.path},
                           {"folders", record.cgroup.folders}}},
                         {"rootfs", record.rootfs},
                         {"ownsPidNamespace", record.owns_pid_namespace},
                         {"noNewKeyring", record.no_new_keyring}};
  // Paths may be any bytes.
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<Record> record_from_json(std::string_view text) {
  try {
    const json document = json::parse(text);
    Record record;
    document.at("id").get_to(record.id);
    document.at("bundle").get_to(record.bundle);
    document.at("pid").get_to(record.pid);
    document.at("pidStartTime").get_to(record.pid_start_time);
    const json& cgroup = document.at("cgroup");
    record.cgroup.version = cgroup.at("version").get<int>() == 2 ? host::CgroupVersion::V2 : host::CgroupVersion::V1;
    cgroup.at("path").get_to(record.cgroup.path);
    cgroup.at("folders").get_to(record.cgroup.folders);
    document.at("rootfs").get_to(record.rootfs);
    document.at("ownsPidNamespace").get_to(record.owns_pid_namespace);
    document.at("noNewKeyring").get_to(record.no_new_keyring);
    return record;
  } catch (const json::exception& error) {
    return make_error(EINVAL, "a container's record is damaged: {}", error.what());
  }
}

}  // namespace caisson::container
