// A Linux configuration (.config): did the kernel's build take what was asked?
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace caisson::microvm {

// The lines of `asked` that `made`, the configuration after `make olddefconfig`, does not have: "CONFIG_X=y" that is missing or another
// value, "CONFIG_X=n" or "# CONFIG_X is not set" that is set all the same. An option that both leave out is fine.
std::vector<std::string> dropped_options(std::string_view asked, std::string_view made);

}  // namespace caisson::microvm
