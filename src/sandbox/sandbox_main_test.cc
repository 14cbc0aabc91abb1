// The test program is also the sandbox process that it starts: spawn_sandbox_process executes /proc/self/exe.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "sandbox/process.h"

namespace caisson::sandbox {
namespace {

Result<std::unique_ptr<Sandbox>> make(host::EventLoop& loop, const SandboxContext& context, std::function<void()> ended) {
  if (context.isolation != "namespace") return make_error(EINVAL, "unknown isolation \"{}\"", context.isolation);
  return make_local_sandbox(loop, {.dir = context.dir, .keep = context.keep}, std::move(ended));
}

}  // namespace
}  // namespace caisson::sandbox

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], caisson::sandbox::kSandboxProcessCommand) == 0)
    return caisson::sandbox::sandbox_process_main(std::atoi(argv[2]), std::atoi(argv[3]), caisson::sandbox::make);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
