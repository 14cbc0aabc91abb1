#include "sandbox/config.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_WINDOWS_COMPAT 0
#include <toml++/toml.h>

#include <algorithm>
#include <concepts>
#include <numeric>

#include "host/files.h"
#include "oci/reader.h"
#include "sandbox/config_keys.h"

namespace caisson::sandbox {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;

template <typename T>
T& member_of(RuntimeConfig& config, T RuntimeConfig::*member) {
  return config.*member;
}
template <typename T>
T& member_of(RuntimeConfig& config, T MicrovmConfig::*member) {
  return config.microvm.*member;
}

// f(the key's place in the configuration): std::string&, bool&, uint32_t& or uint64_t&.
template <typename F>
auto visit_key(const ConfigKey& key, RuntimeConfig& config, F&& f) {
  return std::visit([&](auto member) { return f(member_of(config, member)); }, key.member);
}

std::string full_name(std::string_view section, std::string_view name) {
  return section.empty() ? std::string(name) : fmt::format("{}.{}", section, name);
}

// What is wrong with a value of the right type; "" if nothing is.
std::string problem_of(const ConfigKey& key, const std::string& value) {
  if (value.find('\0') != std::string::npos) return "must not have a NUL character";
  if (!key.values.empty() && !std::count(key.values.begin(), key.values.end(), value))
    return fmt::format("must be {}", oci::list_names(key.values));
  if (key.path && !value.empty() && !value.starts_with('/')) return "must be an absolute path";
  return "";
}
template <std::same_as<bool> T>
std::string problem_of(const ConfigKey&, T) {
  return "";
}
std::string problem_of(const ConfigKey& key, uint64_t value) {
  return value >= key.min && value <= key.max ? "" : fmt::format("must be a number from {} to {}", key.min, key.max);
}

// What keys require of each other.
Result<void> check_config(const RuntimeConfig& config, std::string_view origin) {
  const MicrovmConfig& vm = config.microvm;
  if (!vm.initrd.empty() && vm.kernel.empty()) return make_error(EINVAL, "{}: microvm.initrd: goes with microvm.kernel only", origin);
  if (vm.max_vcpus != 0 && vm.max_vcpus < vm.default_vcpus)
    return make_error(EINVAL, "{}: microvm.max_vcpus: must be 0 or at least microvm.default_vcpus, {}, is {}", origin, vm.default_vcpus,
                      vm.max_vcpus);
  return {};
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row.back();
}

// " (did you mean ...?)", from all keys and sections; "" where none is near.
std::string suggestion(std::string_view section, std::string_view name) {
  std::string wanted = full_name(section, name), best;
  size_t distance = std::max<size_t>(wanted.size() / 3, 2) + 1;
  auto consider = [&](const std::string& candidate, std::string_view compared) {
    size_t d = wanted.size() > 200 ? wanted.size() : edit_distance(wanted, compared);
    if (d < distance) distance = d, best = candidate;
  };
  for (const ConfigKey& key : kConfigKeys) {
    std::string full = full_name(key.section, key.name);
    consider(full, full);
    if (section.empty()) consider(full, key.name);  // the right key in the wrong place
    if (!key.section.empty()) consider(fmt::format("[{}]", key.section), key.section);
  }
  return best.empty() ? "" : fmt::format("; did you mean {}?", best);
}

class TomlReader {
 public:
  TomlReader(const std::string& origin, RuntimeConfig& config) : origin_(origin), config_(config) {}

  Result<void> read(const toml::table& table, std::string_view section) {
    for (const auto& [toml_key, node] : table) {
      std::string_view name = toml_key.str();
      auto key = std::find_if(std::begin(kConfigKeys), std::end(kConfigKeys),
                              [&](const ConfigKey& row) { return row.section == section && row.name == name; });
      if (key != std::end(kConfigKeys)) {
        TRY(read_key(*key, node));
      } else if (section.empty() && is_section(name)) {
        if (!node.is_table()) return wrong(node.source(), name, "must be a table, is " + show(node));
        TRY(read(*node.as_table(), name));
      } else {
        return wrong(toml_key.source(), oci::excerpt(full_name(section, name)), "unknown key" + suggestion(section, name));
      }
    }
    return {};
  }

 private:
  static bool is_section(std::string_view name) {
    return std::any_of(std::begin(kConfigKeys), std::end(kConfigKeys),
                       [&](const ConfigKey& row) { return !name.empty() && row.section == name; });
  }

  Error wrong(const toml::source_region& where, std::string_view key, std::string_view problem) const {
    return make_error(EINVAL, "{}:{}: {}: {}", origin_, where.begin.line, key, problem);
  }

  // toml++'s own words for a node's value, for messages.
  static std::string show(const toml::node& node) {
    if (node.is_table()) return "a table";
    if (node.is_array()) return "an array";
    if (auto text = node.value_exact<std::string>()) return fmt::format("\"{}\"", oci::excerpt(*text));
    if (auto number = node.value_exact<int64_t>()) return fmt::format("{}", *number);
    if (auto number = node.value_exact<double>()) return fmt::format("{}", *number);
    if (auto flag = node.value_exact<bool>()) return *flag ? "true" : "false";
    return "a date or time";
  }

  Result<void> read_key(const ConfigKey& key, const toml::node& node) {
    std::string problem = visit_key(key, config_, [&](auto& place) { return read_value(key, node, place); });
    if (problem.empty()) return {};
    return wrong(node.source(), full_name(key.section, key.name), fmt::format("{}, is {}", problem, show(node)));
  }

  static std::string read_value(const ConfigKey& key, const toml::node& node, std::string& place) {
    auto value = node.value_exact<std::string>();
    if (!value) return "must be a string";
    place = *value;
    return problem_of(key, place);
  }
  static std::string read_value(const ConfigKey&, const toml::node& node, bool& place) {
    auto value = node.value_exact<bool>();
    if (!value) return "must be true or false";
    place = *value;
    return "";
  }
  template <typename T>
  static std::string read_value(const ConfigKey& key, const toml::node& node, T& place) {
    auto value = node.value_exact<int64_t>();
    if (!value || *value < 0) return fmt::format("must be a number from {} to {}", key.min, key.max);
    place = static_cast<T>(*value);  // in range, or refused with what is returned
    return problem_of(key, static_cast<uint64_t>(*value));
  }

  const std::string& origin_;
  RuntimeConfig& config_;
};

}  // namespace

Result<RuntimeConfig> parse_config(std::string_view toml, const std::string& origin) {
  toml::parse_result parsed = toml::parse(toml, origin);
  if (!parsed)
    return make_error(EINVAL, "{}:{}: not valid TOML: {}", origin, parsed.error().source().begin.line,
                      oci::excerpt(parsed.error().description(), 300));
  RuntimeConfig config;
  TRY(TomlReader(origin, config).read(parsed.table(), ""));
  TRY(check_config(config, origin));
  return config;
}

Result<RuntimeConfig> load_config(const std::string& path) {
  const std::string file = path.empty() ? kDefaultConfigPath : path;
  Result<std::string> text = host::read_file(file, kMaxConfigBytes);
  if (!text.ok()) {
    if (path.empty() && text.error().code() == ENOENT) return RuntimeConfig{};
    return std::move(text).error().within("configuration");
  }
  return parse_config(*text, file);
}

std::string config_to_json(const RuntimeConfig& config) {
  oci::Json json = oci::Json::object();
  RuntimeConfig copy = config;
  for (const ConfigKey& key : kConfigKeys) {
    oci::Json& section = key.section.empty() ? json : json[std::string(key.section)];
    visit_key(key, copy, [&](const auto& place) { section[std::string(key.name)] = place; });
  }
  return json.dump(-1, ' ', false, oci::Json::error_handler_t::replace);
}

Result<RuntimeConfig> config_from_json(std::string_view json) {
  oci::Json document = TRY(oci::parse_document(json, "configuration"));
  oci::Reading reading("configuration");
  oci::Node root(reading, document);
  RuntimeConfig config;
  for (const ConfigKey& key : kConfigKeys) {
    oci::Node node = key.section.empty() ? root[key.name] : root[key.section][key.name];
    visit_key(key, config, [&](auto& place) {
      node.read(place);
      if (std::string problem = problem_of(key, place); !problem.empty()) node.fail_value(problem);
    });
  }
  if (reading.failed()) return reading.take_error();
  TRY(check_config(config, "configuration"));
  return config;
}

std::string config_markdown() {
  RuntimeConfig defaults;
  std::string text = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const ConfigKey& key : kConfigKeys) {
    struct Shown {
      std::string type, value;
    };
    Shown shown = visit_key(key, defaults, [&](auto& place) -> Shown {
      using T = std::remove_reference_t<decltype(place)>;
      if constexpr (std::is_same_v<T, std::string>) {
        std::string type = key.path ? "path" : "string";
        for (size_t i = 0; i < key.values.size(); ++i)
          type = fmt::format("{}{}`\"{}\"`", i == 0 ? "" : type, i == 0 ? "" : ", ", key.values[i]);
        return {type, fmt::format("`\"{}\"`", place)};
      } else if constexpr (std::is_same_v<T, bool>) {
        return {"`true`, `false`", place ? "`true`" : "`false`"};
      } else {
        return {fmt::format("{} to {}", key.min, key.max), fmt::format("`{}`", place)};
      }
    });
    text += fmt::format("| `{}` | {} | {} | {} |\n", full_name(key.section, key.name), shown.type, shown.value, key.meaning);
  }
  return text;
}

}  // namespace caisson::sandbox
