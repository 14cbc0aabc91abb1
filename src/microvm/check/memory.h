// What is remembered of a check: kCheckCache.
#pragma once

#include <optional>

#include "microvm/check.h"

namespace caisson::microvm {

// The report made by this version of Caisson on this boot of this host's kernel; nothing where there is none.
std::optional<CheckReport> remembered_report(const std::string& file = kCheckCache);
// By rename, with the folders on the way.
Result<void> remember_report(const CheckReport& report, const std::string& file = kCheckCache);

}  // namespace caisson::microvm
