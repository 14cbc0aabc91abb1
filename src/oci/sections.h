// The parsers of config.json's sections, one file each. Internal to src/oci.
#pragma once

#include "oci/reader.h"
#include "oci/spec.h"

namespace caisson::oci {

void parse_process(const Node& node, Process& process);
void parse_root(const Node& node, Root& root);
void parse_mount(const Node& node, Mount& mount);
void parse_hooks(const Node& node, Hooks& hooks);
void parse_linux(const Node& node, Linux& out);
void parse_resources(const Node& node, Resources& resources);
void parse_seccomp(const Node& node, Seccomp& seccomp);
void parse_id_mappings(const Node& node, std::vector<IdMapping>& mappings);

// What only the whole document can tell: a member that needs a namespace, an id that is not mapped.
void check_spec(const Node& root, const Spec& spec);
void check_sysctl(const Node& node, const Spec& spec);

// "0-3,7" as in cpuset(7), "List format". "" fails.
bool is_cpu_list(std::string_view text);

// Fails the node where the (given) name is not in the table: "must be a, b or c, is ...".
void check_name(const Node& node, const std::string& name, std::span<const std::string_view> names);

}  // namespace caisson::oci
