// The annotations that Caisson itself obeys: one row each.
#pragma once

#include <span>
#include <string_view>

namespace caisson::oci {

inline constexpr std::string_view kAnnotationPrefix = "io.caisson.";
inline constexpr std::string_view kIsolationAnnotation = "io.caisson.isolation";
inline constexpr std::string_view kStraceAnnotation = "io.caisson.appkernel.strace";
inline constexpr std::string_view kPatchAnnotation = "io.caisson.appkernel.patch";

struct Annotation {
  std::string_view name;
  std::span<const std::string_view> values;  // empty: any
  std::string_view meaning;
};

inline constexpr std::string_view kIsolationValues[] = {"auto", "microvm", "appkernel", "namespace"};

inline constexpr std::string_view kFlagValues[] = {"true", "false"};

inline constexpr Annotation kAnnotations[] = {
    {kIsolationAnnotation, kIsolationValues,
     "the isolation of this container, in place of the configuration's; --isolation goes before it"},
    {kStraceAnnotation, kFlagValues, "with isolation appkernel: every system call of the container is logged to its sandbox.log"},
    {kPatchAnnotation, kFlagValues,
     "with isolation appkernel: whether system calls that are made often become jumps in the program's memory (default false)"},
};

constexpr const Annotation* find_annotation(std::string_view name) {
  for (const Annotation& row : kAnnotations)
    if (row.name == name) return &row;
  return nullptr;
}

}  // namespace caisson::oci
