// libFuzzer target: config.json, and what is made from it. Beyond not crashing: what parses is understood the same way when it is written
// and read again, and adapting a document to an isolation leaves a valid one.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "oci/parse.h"
#include "oci/support.h"

using namespace caisson;  // NOLINT

namespace {

void expect(bool condition) {
  if (!condition) abort();
}

bool stays_below(const std::string& path) {
  std::string bounded = "/" + path + "/";
  return bounded.find("//") == std::string::npos && bounded.find("/./") == std::string::npos && bounded.find("/../") == std::string::npos;
}

void check_process(const oci::Process& process) {
  std::string json = oci::process_to_json(process);
  Result<oci::Process> again = oci::parse_process(json);
  expect(again.ok());
  expect(oci::process_to_json(*again) == json);
}

void check_adapted(std::string_view text, const char* isolation) {
  Result<oci::Adapted> adapted = oci::adapt_config(text, isolation);
  if (!adapted.ok()) return expect(adapted.error().code() == ENOTSUP);
  expect(oci::parse_spec(adapted->json).ok());
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  log::to_descriptor(-1);  // warnings about hostile documents are not what we want to read
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  Result<oci::Spec> spec = oci::parse_spec(text);
  if (spec.ok()) {
    if (spec->has_process) check_process(spec->process);
    for (const auto& [name, value] : spec->linux_.sysctl) expect(stays_below(oci::sysctl_path(name)));
    check_adapted(text, "namespace");
    check_adapted(text, "microvm");
  } else {
    expect(!spec.error().message().empty());
  }
  if (Result<oci::Process> process = oci::parse_process(text); process.ok()) check_process(*process);
  (void)oci::parse_resources(text).ok();
  return 0;
}
