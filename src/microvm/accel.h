// What `caisson check` remembers of this machine: has a guest booted under KVM?
#pragma once

namespace caisson::microvm {

// True only where this version of Caisson has booted a guest under KVM on this boot of this host's kernel. Microseconds; proves nothing
// itself.
bool remembered_kvm();

}  // namespace caisson::microvm
