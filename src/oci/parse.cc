#include "oci/parse.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>

#include "base/log.h"
#include "base/unique_fd.h"
#include "oci/annotations.h"
#include "oci/sections.h"

namespace caisson::oci {
namespace {

// semver.org: MAJOR.MINOR.PATCH, perhaps -pre-release, perhaps +build. Returns MAJOR, -1 where it is no version.
int version_major(std::string_view text) {
  int major = -1;
  for (int part = 0; part < 3; ++part) {
    if (part > 0) {
      if (!text.starts_with('.')) return -1;
      text.remove_prefix(1);
    }
    size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    if (digits == 0 || digits > 6 || (digits > 1 && text[0] == '0')) return -1;
    if (part == 0) major = std::stoi(std::string(text.substr(0, digits)));
    text.remove_prefix(digits);
  }
  bool rest = text.empty() || ((text[0] == '-' || text[0] == '+') && text.size() > 1);
  for (size_t i = 1; rest && i < text.size(); ++i)
    rest = std::isalnum(static_cast<unsigned char>(text[i])) || text[i] == '.' || text[i] == '-' || text[i] == '+';
  return rest ? major : -1;
}

void parse_version(const Node& node, std::string& version) {
  node.required().read(version);
  int major = version_major(version);
  if (major < 0) node.fail_value("must be a version like \"1.0.2\"");
  if (major != 1) node.fail_value("must be a version 1.x of the runtime specification");
}

void parse_annotations(const Node& node, std::map<std::string, std::string>& annotations) {
  node.read(annotations);
  for (const auto& [key, value] : annotations) {
    if (key.empty()) node.fail("a key must not be empty");
    if (!std::string_view(key).starts_with(kAnnotationPrefix)) continue;
    const Annotation* row = find_annotation(key);
    if (!row) {
      log::warning("{}: {}[\"{}\"]: is no annotation of Caisson, ignored", node.reading().document(), node.path(), excerpt(key));
    } else if (row->values.size() > 0 && std::find(row->values.begin(), row->values.end(), value) == row->values.end()) {
      node[key].fail_value(fmt::format("must be {}", list_names(row->values)));
    }
  }
}

void parse_whole(const Node& root, Spec& spec) {
  parse_version(root["ociVersion"], spec.oci_version);
  if (Node process = root["process"]; process.present()) {
    spec.has_process = true;
    parse_process(process, spec.process);
  }
  parse_root(root["root"], spec.root);
  root["hostname"].read(spec.hostname);
  root["domainname"].read(spec.domainname);
  root["mounts"].read_list(spec.mounts, parse_mount);
  parse_hooks(root["hooks"], spec.hooks);
  parse_annotations(root["annotations"], spec.annotations);
  parse_linux(root["linux"], spec.linux_);
  if (root["vm"].present())
    log::warning("{}: vm: is ignored; the micro-VM is described by Caisson's own configuration file", root.reading().document());
  check_spec(root, spec);
}

// Parses a document whose root must be an object.
template <typename T, typename F>
Result<T> parse_object(std::string_view text, const char* name, F&& parse) {
  Json json = TRY(parse_document(text, name));
  Reading reading(name);
  T out;
  if (!json.is_object()) reading.fail("", "must be a JSON object");
  if (!reading.failed()) parse(Node(reading, json), out);
  if (reading.failed()) return reading.take_error();
  return out;
}

// O_NONBLOCK: a config.json that is a fifo must not hang us.
Result<std::string> read_regular_file(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return errno_error("cannot open {}", path);
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return errno_error("cannot stat {}", path);
  if (!S_ISREG(status.st_mode)) return make_error(EINVAL, "{} is not a regular file", path);
  std::string text;
  char chunk[64 << 10];
  while (text.size() <= kMaxDocumentBytes) {
    ssize_t got = read(fd.get(), chunk, sizeof chunk);
    if (got == 0) return text;
    if (got > 0) text.append(chunk, static_cast<size_t>(got));
    if (got < 0 && errno != EINTR) return errno_error("cannot read {}", path);
  }
  return make_error(EINVAL, "{} is longer than {} MiB", path, kMaxDocumentBytes >> 20);
}

// net.* of a network namespace that is this process's own would change the node. Only the node can tell.
Result<void> check_network_sysctl(const Spec& spec) {
  const Namespace* network = spec.find_namespace("network");
  if (!network || network->path.empty()) return {};
  auto set =
      std::find_if(spec.linux_.sysctl.begin(), spec.linux_.sysctl.end(), [](const auto& item) { return item.first.starts_with("net"); });
  if (set == spec.linux_.sysctl.end()) return {};
  struct stat own, theirs;
  if (stat("/proc/self/ns/net", &own) != 0) return errno_error("cannot stat /proc/self/ns/net");
  if (stat(network->path.c_str(), &theirs) != 0)
    return errno_error("config.json: linux.namespaces: cannot stat the network namespace {}", network->path);
  if (own.st_dev == theirs.st_dev && own.st_ino == theirs.st_ino)
    return make_error(
        EINVAL, "config.json: linux.sysctl[\"{}\"]: the network namespace {} is the node's own, whose parameters a container may not set",
        excerpt(set->first), network->path);
  return {};
}

std::string absolute(const std::string& path, const std::string& base) { return path.starts_with('/') ? path : base + "/" + path; }

}  // namespace

Result<Spec> parse_spec(std::string_view json) { return parse_object<Spec>(json, "config.json", parse_whole); }

Result<Process> parse_process(std::string_view json) {
  return parse_object<Process>(json, "process", [](const Node& node, Process& out) { parse_process(node, out); });
}

Result<Resources> parse_resources(std::string_view json) {
  return parse_object<Resources>(json, "resources", [](const Node& node, Resources& out) { parse_resources(node, out); });
}

Result<Spec> load_bundle(const std::string& bundle, std::string* raw) {
  std::string base = bundle;
  if (!base.starts_with('/')) {
    char* cwd = get_current_dir_name();
    if (!cwd) return errno_error("cannot tell the current directory");
    base = base.empty() ? std::string(cwd) : std::string(cwd) + "/" + base;
    free(cwd);
  }
  std::string text = TRY(read_regular_file(base + "/config.json"));
  Spec spec = TRY(parse_spec(text));
  TRY(check_network_sysctl(spec));
  spec.root.path = absolute(spec.root.path, base);
  for (Mount& mount : spec.mounts)  // config.md: a bind mount's source may be relative to the bundle
    if (mount.type == "bind" || std::find(mount.options.begin(), mount.options.end(), "bind") != mount.options.end() ||
        std::find(mount.options.begin(), mount.options.end(), "rbind") != mount.options.end())
      mount.source = absolute(mount.source, base);
  if (raw) *raw = std::move(text);
  return spec;
}

}  // namespace caisson::oci
