// Devices that the host has plugged into the running machine.
#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "agent/agent_sandbox.h"
#include "agent/device_events.h"
#include "base/log.h"
#include "host/files.h"
#include "host/worker.h"
#include "sandbox/network_message.h"

namespace caisson::agent {
namespace {

constexpr std::chrono::seconds kPatience{15};
constexpr const char* kBlockDevices = "/sys/class/block";
constexpr const char* kInterfaces = "/sys/class/net";

std::vector<std::string> entries_of(const std::string& folder) {
  std::unique_ptr<DIR, int (*)(DIR*)> opened(opendir(folder.c_str()), closedir);
  std::vector<std::string> names;
  while (const dirent* entry = opened ? readdir(opened.get()) : nullptr)
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  return names;
}

// A file of sysfs without its line feed; "" where it is not there.
std::string attribute(const std::string& path) {
  auto text = host::read_file(path, 4096);
  if (!text.ok()) return "";
  while (text->ends_with('\n')) text->pop_back();
  return std::move(text).value();
}

// The folder of the kernel's devices whose attribute has this value; "" none yet.
std::string find_by(const std::string& folder, const char* name, const std::string& value) {
  for (const std::string& entry : entries_of(folder))
    if (attribute(folder + "/" + entry + "/" + name) == value) return folder + "/" + entry;
  return "";
}

// PCI Express waits five seconds after a card has been put in, in case somebody's finger was on the button; who switches the slot on by
// hand need not. Where a slot is on, or is another kind's, this does nothing.
void switch_on(uint32_t slot) {
  const std::string power = fmt::format("/sys/bus/pci/slots/{}/power", slot);
  if (attribute(power) != "0") return;
  if (auto on = host::write_file(power, "1"); !on.ok()) log::debug("{}", on.error().message());
}

// "" when everything is there; else what is not.
std::string missing(const v1::AttachDevicesRequest& request) {
  for (const std::string& serial : request.disks())
    if (find_by(kBlockDevices, "serial", serial).empty()) return fmt::format("disk {}", serial);
  for (const auto& interface : request.network().interfaces())
    if (find_by(kInterfaces, "address", interface.mac()).empty())
      return fmt::format("network interface {} ({})", interface.name(), interface.mac());
  return "";
}

Result<host::WorkerOutput> attach(const v1::AttachDevicesRequest& request) {
  UniqueFd events = TRY(watch_devices());
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (uint32_t slot : request.slots()) switch_on(slot);
  for (std::string awaited = missing(request); !awaited.empty(); awaited = missing(request)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd ready{events.get(), POLLIN, 0};
    if (left.count() <= 0 || poll(&ready, 1, static_cast<int>(left.count())) == 0)
      return make_error(ETIMEDOUT, "{} has not appeared in the guest within {} s", awaited, kPatience.count());
    char event[8192];
    while (recv(events.get(), event, sizeof event, MSG_DONTWAIT) > 0) {
    }
  }
  v1::AttachDevicesResponse response;
  for (const std::string& serial : request.disks()) {
    const std::string number = attribute(find_by(kBlockDevices, "serial", serial) + "/dev");
    unsigned major = 0, minor = 0;
    if (sscanf(number.c_str(), "%u:%u", &major, &minor) != 2) return make_error(EIO, "disk {} has the number \"{}\"", serial, number);
    auto* disk = response.add_disks();
    disk->set_major(major);
    disk->set_minor(minor);
  }
  if (request.has_network()) TRY(host::apply_network(TRY(sandbox::network_from_message(request.network()))));
  host::WorkerOutput output;
  output.payload = response.SerializeAsString();
  return output;
}

}  // namespace

void AgentSandbox::AttachDevices(v1::AttachDevicesRequest request, rpc::Descriptors, Reply<v1::AttachDevicesResponse> reply) {
  host::run_worker(
      loop_, {.deadline = kPatience * 2, .keep_fds = std::vector<int>{}}, [request] { return attach(request); },
      [reply](Result<host::WorkerOutput> output) {
        if (!output.ok()) return reply(std::move(output).error());
        v1::AttachDevicesResponse response;
        if (!response.ParseFromString(output->payload))
          return reply(make_error(EPROTO, "the numbers of the guest's disks got lost on their way"));
        reply(std::move(response));
      });
}

}  // namespace caisson::agent
