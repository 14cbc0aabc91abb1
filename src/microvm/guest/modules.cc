#include "microvm/guest/modules.h"

#include <fts.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "host/files.h"
#include "microvm/guest/elf_image.h"
#include "microvm/guest/program.h"

namespace caisson::microvm {
namespace {

// As the kernel compares them.
std::string normalized(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

struct FtsCloser {
  void operator()(FTS* fts) const { fts_close(fts); }
};

// Every module file below a folder, by its normalized name.
Result<std::map<std::string, std::string>> find_modules(const std::string& folder) {
  char* roots[] = {const_cast<char*>(folder.c_str()), nullptr};
  std::unique_ptr<FTS, FtsCloser> walk(fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, nullptr));
  if (!walk) return errno_error("cannot search {}", folder);
  std::map<std::string, std::string> found;
  while (const FTSENT* entry = fts_read(walk.get())) {
    const std::string_view name(entry->fts_name, entry->fts_namelen);
    const size_t suffix = name.find(".ko");
    if (entry->fts_info != FTS_F || suffix == std::string_view::npos) continue;
    const std::string_view compression = name.substr(suffix + 3);
    if (compression.empty() || compression == ".xz" || compression == ".zst" || compression == ".gz")
      found.emplace(normalized(std::string(name.substr(0, suffix))), entry->fts_path);
  }
  return found;
}

// The module's bytes, in the file `to`.
Result<std::string> unpack_module(const std::string& file, const std::string& to) {
  const char *program = nullptr, *package = nullptr;
  if (file.ends_with(".xz")) program = "xz", package = "xz-utils";
  if (file.ends_with(".zst")) program = "zstd", package = "zstd";
  if (file.ends_with(".gz")) program = "gzip", package = "gzip";
  if (program != nullptr) {
    TRY(run_program({.arguments = {program, "-dc"}, .input = file, .output = to, .package = package}));
    return host::read_file(to, 64 << 20);
  }
  std::string bytes = TRY(host::read_file(file, 64 << 20));
  TRY(host::write_file_atomic(to, bytes, 0644));
  return bytes;
}

class Collector {
 public:
  Collector(std::map<std::string, std::string> available, std::string to) : available_(std::move(available)), to_(std::move(to)) {}

  // Depth first: what it depends on goes before it.
  Result<void> add(const std::string& wanted, bool required) {
    const std::string name = normalized(wanted);
    if (seen_.contains(name)) return {};
    auto file = available_.find(name);
    if (file == available_.end()) {
      if (!required) return {};
      return make_error(ENOENT, "the kernel has no module {}", name);
    }
    seen_.insert(name);
    const std::string bytes = TRY(unpack_module(file->second, to_ + "/" + name + ".ko"));
    auto depends = modinfo_values(bytes, "depends");
    if (!depends) return std::move(depends).error().within(file->second);
    for (const std::string& list : *depends)
      for (size_t at = 0; at < list.size();) {
        const size_t end = std::min(list.find(',', at), list.size());
        if (end > at) TRY(add(list.substr(at, end - at), true));
        at = end + 1;
      }
    order_.push_back(name + ".ko");
    return {};
  }

  std::vector<std::string> order() && { return std::move(order_); }

 private:
  std::map<std::string, std::string> available_;
  std::string to_;
  std::set<std::string> seen_;
  std::vector<std::string> order_;
};

}  // namespace

Result<std::vector<std::string>> collect_modules(const std::string& lib_modules, const std::vector<WantedModule>& wanted,
                                                 const std::string& to) {
  TRY(host::mkdir_p(to));
  Collector collector(TRY(find_modules(lib_modules)), to);
  for (const WantedModule& module : wanted) TRY(collector.add(module.name, module.required));
  return std::move(collector).order();
}

}  // namespace caisson::microvm
