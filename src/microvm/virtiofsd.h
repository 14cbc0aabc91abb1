// virtiofsd: the process that serves the share to a guest over vhost-user.
#pragma once

#include <memory>
#include <string>

#include "microvm/hypervisor.h"
#include "microvm/jail/jailed_process.h"

namespace caisson::microvm {

// The program: settings.virtiofsd_path, or where distributions put it. ENOENT with the package.
Result<std::string> find_virtiofsd(const sandbox::MicrovmConfig& settings);

struct Virtiofsd {
  std::unique_ptr<JailedProcess> process;  // waits for go()
  UniqueFd connection;                     // for QEMU: connected, accepted as soon as the program runs
};
// Prepares it for the share. folder: where its socket is bound for the blink of an eye; no other user may enter it.
Result<Virtiofsd> prepare_virtiofsd(host::EventLoop& loop, const VmConfig& config, int share_namespace, const std::string& folder,
                                    JailedProcess::Events events);

}  // namespace caisson::microvm
