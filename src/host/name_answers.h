// Answers of name servers to sockets of a network namespace whose frames go to a tap (redirect_between): docker's own name server, which
// lives there, asks others for the names that it does not know.
//
// A BPF program before the redirection (tc-bpf(8), direct action) looks at what comes from port 53 by UDP or TCP over IPv4: what belongs to
// a connected socket of the namespace stays there, everything else goes on to the tap. Answers to ARP requests, which both sides ask with
// the same addresses, go to both.
#pragma once

#include <string>

#include "base/result.h"

namespace caisson::host {

// For the calling process's network namespace. interface has been joined to tap by redirect_between; once for each interface. Needs CAP_BPF
// (or CAP_SYS_ADMIN) and CAP_NET_ADMIN. The program goes with the interface.
Result<void> keep_name_answers(const std::string& interface, const std::string& tap);

}  // namespace caisson::host
