// The annotations that Caisson itself obeys: one row each.
#pragma once

#include <span>
#include <string_view>

namespace caisson::oci {

inline constexpr std::string_view kAnnotationPrefix = "io.caisson.";
inline constexpr std::string_view kIsolationAnnotation = "io.caisson.isolation";

struct Annotation {
  std::string_view name;
  std::span<const std::string_view> values;  // empty: any
  std::string_view meaning;
};

inline constexpr std::string_view kIsolationValues[] = {"auto", "microvm", "appkernel", "namespace"};

inline constexpr Annotation kAnnotations[] = {
    {kIsolationAnnotation, kIsolationValues,
     "the isolation of this container, in place of the configuration's; --isolation goes before it"},
};

constexpr const Annotation* find_annotation(std::string_view name) {
  for (const Annotation& row : kAnnotations)
    if (row.name == name) return &row;
  return nullptr;
}

}  // namespace caisson::oci
