#include "oci/names.h"

namespace caisson::oci {

std::vector<std::string_view> names_of(std::span<const NamedValue> table) {
  std::vector<std::string_view> names;
  names.reserve(table.size());
  for (const NamedValue& row : table) names.push_back(row.name);
  return names;
}

}  // namespace caisson::oci
