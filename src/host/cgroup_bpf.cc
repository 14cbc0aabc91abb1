#include "host/cgroup_bpf.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "host/bpf.h"

namespace caisson::host {
namespace {

Result<UniqueFd> open_folder(const std::string& folder) {
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error("opening the cgroup {}", folder);
  return fd;
}

Result<std::vector<uint32_t>> query(int folder) {
  std::vector<uint32_t> ids(64);
  bpf_attr attributes{};
  attributes.query.target_fd = static_cast<uint32_t>(folder);
  attributes.query.attach_type = BPF_CGROUP_DEVICE;
  attributes.query.prog_ids = bpf_pointer(ids.data());
  attributes.query.prog_cnt = static_cast<uint32_t>(ids.size());
  if (bpf(BPF_PROG_QUERY, attributes) != 0) return errno_error("listing the device filters of a cgroup");
  ids.resize(attributes.query.prog_cnt);
  return ids;
}

Result<UniqueFd> open_program(uint32_t id) {
  bpf_attr attributes{};
  attributes.prog_id = id;
  UniqueFd fd(static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, attributes)));
  if (!fd) return errno_error("opening the BPF program {}", id);
  return fd;
}

Result<void> attach(int folder, int program, int replaced) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<uint32_t>(folder);
  attributes.attach_bpf_fd = static_cast<uint32_t>(program);
  attributes.attach_type = BPF_CGROUP_DEVICE;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (replaced >= 0) {
    attributes.attach_flags |= BPF_F_REPLACE;
    attributes.replace_bpf_fd = static_cast<uint32_t>(replaced);
  }
  if (bpf(BPF_PROG_ATTACH, attributes) != 0) return errno_error("attaching a device filter to a cgroup");
  return {};
}

Result<void> detach(int folder, int program) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<uint32_t>(folder);
  attributes.attach_bpf_fd = static_cast<uint32_t>(program);
  attributes.attach_type = BPF_CGROUP_DEVICE;
  if (bpf(BPF_PROG_DETACH, attributes) != 0) return errno_error("detaching a device filter from a cgroup");
  return {};
}

}  // namespace

Result<UniqueFd> load_device_program(const std::vector<bpf_insn>& program) {
  static const char license[] = "Apache-2.0";  // no GPL-only helper is called
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.insns = bpf_pointer(program.data());
  attributes.insn_cnt = static_cast<uint32_t>(program.size());
  attributes.license = bpf_pointer(license);
  strcpy(attributes.prog_name, "caisson_devices");
  UniqueFd fd(static_cast<int>(bpf(BPF_PROG_LOAD, attributes)));
  if (fd) return fd;
  Error failure = errno_error("loading a device filter of {} instructions", program.size());
  std::string verdict(16384, '\0');  // once more, to hear why
  attributes.log_level = 1;
  attributes.log_buf = bpf_pointer(verdict.data());
  attributes.log_size = static_cast<uint32_t>(verdict.size());
  fd.reset(static_cast<int>(bpf(BPF_PROG_LOAD, attributes)));
  if (fd) return fd;
  verdict.resize(strlen(verdict.c_str()));
  if (verdict.size() > 400) verdict.erase(0, verdict.size() - 400);
  if (verdict.empty()) return failure;
  return make_error(failure.code(), "{}; the kernel says: {}", failure.message(), verdict);
}

Result<void> set_device_program(const std::string& folder, int program) {
  UniqueFd target = TRY(open_folder(folder));
  std::vector<uint32_t> before = TRY(query(target.get()));
  std::vector<UniqueFd> old;
  for (uint32_t id : before) old.push_back(TRY(open_program(id)));
  if (old.size() == 1 && attach(target.get(), program, old[0].get()).ok()) return {};
  // Several, or a kernel without BPF_F_REPLACE (before 5.6): both apply for a moment, that is, what both allow.
  TRY(attach(target.get(), program, -1));
  for (const UniqueFd& each : old) TRY(detach(target.get(), each.get()));
  return {};
}

Result<std::vector<uint32_t>> device_programs(const std::string& folder) {
  UniqueFd target = TRY(open_folder(folder));
  return query(target.get());
}

}  // namespace caisson::host
