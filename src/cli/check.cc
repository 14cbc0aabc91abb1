// check and guest.
#include "microvm/check.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/utf8.h"
#include "cli/appkernel_proof.h"
#include "cli/command.h"
#include "microvm/hypervisor.h"

namespace caisson::cli {
namespace {

void print_report(const microvm::CheckReport& report) {
  size_t width = 0;
  for (const microvm::CheckRow& row : report.rows) width = std::max(width, row.what.size());
  for (const microvm::CheckRow& row : report.rows) {
    std::puts(fmt::format("{:<5} {:<{}}  {}",
                          row.ok         ? "ok"
                          : row.required ? "FAIL"
                                         : "no",
                          row.what, width, printable(row.detail))
                  .c_str());
    if (!row.ok && !row.remedy.empty()) std::puts(fmt::format("{:<5} {:<{}}  -> {}", "", "", width, row.remedy).c_str());
  }
  std::puts(
      fmt::format("\n--isolation auto takes: {}", report.auto_isolation.empty() ? "nothing, and says why" : report.auto_isolation).c_str());
}

microvm::ProveAppkernel appkernel_proof() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return {};  // not static: it cannot be executed inside a container's root
#else
  return prove_appkernel;
#endif
}

}  // namespace

Result<int> check_command(Context& context) {
  bool json = false;
  context.arguments.flag("--json", json, "Print the report as JSON");
  context.arguments.footer(
      "Boots guests, so it takes some seconds. The report is remembered for --isolation auto. Exit status 1: a required row failed.");
  TRY(context.parse());
  sandbox::RuntimeConfig config = TRY(sandbox::load_config(context.globals.config));
  microvm::CheckReport report = TRY(microvm::run_check(config, isatty(STDERR_FILENO), appkernel_proof()));
  if (json) {
    std::puts(microvm::report_to_json(report).c_str());
  } else {
    print_report(report);
  }
  bool failed = std::any_of(report.rows.begin(), report.rows.end(), [](const microvm::CheckRow& row) { return row.required && !row.ok; });
  return failed ? 1 : 0;
}

Result<int> guest_command(Context& context) {
  std::string what;
  microvm::BuildOptions options;
  uint32_t jobs = 0;
  context.arguments.flag("--tuned", options.tuned,
                         "The tuned kernel, built from source (about 10 minutes); default: the distribution's kernel, in seconds");
  context.arguments.flag("--force", options.force, "Build it again though it is there");
  context.arguments.flag("--quiet,-q", options.quiet, "No progress");
  context.arguments.option("--jobs,-j", jobs, "N", "Compilers at a time (default: as many as CPUs)");
  context.arguments.positional("build", what, "build: make a guest image in the cache");
  TRY(context.parse());
  if (what != "build") return make_error(EINVAL, "caisson guest {}: only \"build\" is known", what);
  options.jobs = static_cast<int>(jobs);
  sandbox::RuntimeConfig config = TRY(sandbox::load_config(context.globals.config));
  microvm::GuestImage image = TRY(microvm::build_guest_image(config.microvm, options));
  std::puts(fmt::format("guest image {}: kernel {}, initrd {}", image.name, image.kernel, image.initrd).c_str());
  return 0;
}

}  // namespace caisson::cli
