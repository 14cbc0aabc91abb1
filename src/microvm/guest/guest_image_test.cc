// The parts of guest images: archives, manifests, modules, configurations, bzImages.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "host/files.h"
#include "microvm/guest/build.h"
#include "microvm/guest/bzimage.h"
#include "microvm/guest/cpio.h"
#include "microvm/guest/initrd.h"
#include "microvm/guest/kernel_config.h"
#include "microvm/guest/modules.h"
#include "microvm/guest/program.h"
#include "microvm/guest/store.h"
#include "microvm_guest_config.h"

namespace caisson::microvm {
namespace {

class GuestImageTest : public testing::Test {
 protected:
  GuestImageTest() {
    char name[] = "/tmp/caisson-image-XXXXXX";
    folder = mkdtemp(name);
  }
  ~GuestImageTest() override { (void)host::remove_tree(folder); }
  // Runs a shell command in the folder; what it prints.
  std::string shell(const std::string& command) {
    auto ran = run_program({.arguments = {"sh", "-c", command}, .folder = folder, .output = folder + "/.out", .log = folder + "/.log"});
    EXPECT_TRUE(ran.ok()) << ran.error().message();
    return *host::read_file(folder + "/.out");
  }
  std::string folder;
};

TEST_F(GuestImageTest, CpioIsOneForCpio) {
  if (access("/usr/bin/cpio", X_OK) != 0) GTEST_SKIP() << "cpio is not installed";
  Cpio archive;
  archive.add_folder("etc");
  archive.add_file("etc/odd", "12345", 0640);
  archive.add_file("init", "#!", 0755);
  archive.add_character_device("null", 1, 3, 0666);
  const std::string bytes = std::move(archive).finish();
  EXPECT_EQ(bytes.size() % 4, 0u);
  ASSERT_TRUE(host::write_file_atomic(folder + "/a.cpio", bytes).ok());
  const std::string list = shell("cpio -itv --quiet < a.cpio | awk '{print $1, $NF}'");
  EXPECT_EQ(list, "drwxr-xr-x etc\n-rw-r----- etc/odd\n-rwxr-xr-x init\ncrw-rw-rw- null\n");
  EXPECT_EQ(shell("cpio -i --quiet --to-stdout etc/odd < a.cpio"), "12345");
}

TEST_F(GuestImageTest, ImagesAreReplacedWhole) {
  const std::string cache = folder + "/cache";
  EXPECT_EQ(read_manifest(image_folder(cache, "stock")).error().code(), ENOENT);
  for (const char* release : {"1.0", "2.0"}) {
    auto build = ImageBuild::begin(cache, "stock", 1 << 20, [] { FAIL() << "nobody else builds"; });
    ASSERT_TRUE(build.ok()) << build.error().message();
    ASSERT_TRUE(host::write_file_atomic(build->result() + "/vmlinux", release).ok());
    ASSERT_TRUE(build
                    ->install({.name = "stock",
                               .kernel_release = release,
                               .source = "test",
                               .config_hash = "",
                               .made_at = timestamp(),
                               .modules = {"a.ko", "b.ko"},
                               .has_9p = true})
                    .ok());
  }
  auto manifest = read_manifest(image_folder(cache, "stock"));
  ASSERT_TRUE(manifest.ok());
  EXPECT_EQ(manifest->kernel_release, "2.0");
  EXPECT_EQ(manifest->modules, (std::vector<std::string>{"a.ko", "b.ko"}));
  EXPECT_TRUE(manifest->has_9p);
  EXPECT_FALSE(manifest->has_mmio);
  EXPECT_EQ(shell("ls -A cache"), ".stock.lock\nstock\n") << "no scratch is left";
}

TEST_F(GuestImageTest, AKilledBuildLeavesNothingForEver) {
  const std::string cache = folder + "/cache";
  const pid_t pid = fork();
  if (pid == 0) {
    auto build = ImageBuild::begin(cache, "stock", 0, [] {});
    (void)host::write_file_atomic(build->result() + "/half", "x");
    raise(SIGKILL);
  }
  waitpid(pid, nullptr, 0);
  EXPECT_EQ(shell("ls -A cache | wc -l"), "2\n");
  {
    auto build = ImageBuild::begin(cache, "stock", 0, [] {});
  }
  EXPECT_EQ(shell("ls -A cache"), ".stock.lock\n");
}

TEST_F(GuestImageTest, TooLittleSpaceIsSaidBeforeAnythingIsDone) {
  auto build = ImageBuild::begin(folder, "stock", uint64_t{1} << 60, [] {});
  ASSERT_FALSE(build.ok());
  EXPECT_EQ(build.error().code(), ENOSPC);
  EXPECT_NE(build.error().message().find("microvm.guest_cache"), std::string::npos);
}

TEST_F(GuestImageTest, BrokenManifestsAreErrors) {
  for (const char* text : {"", "{", "[]", "{\"format\":2}", "{\"format\":\"1\"}", "null"}) {
    ASSERT_TRUE(host::write_file_atomic(folder + "/manifest.json", text).ok());
    EXPECT_EQ(read_manifest(folder).error().code(), EINVAL) << text;
  }
}

TEST_F(GuestImageTest, InitrdIsMadeOncePerAgent) {
  const std::string agent = folder + "/agent";
  shell(fmt::format("cp {} agent; mkdir modules; printf module > modules/x.ko", CAISSON_TEST_INIT));
  const ImageManifest manifest{.name = "stock", .kernel_release = "1", .modules = {"x.ko"}};
  auto first = prepare_initrd(folder, manifest, agent);
  ASSERT_TRUE(first.ok()) << first.error().message();
  EXPECT_EQ(*prepare_initrd(folder, manifest, agent), *first);
  shell("printf x >> agent");
  auto second = prepare_initrd(folder, manifest, agent);
  EXPECT_NE(*second, *first);
  if (access("/usr/bin/cpio", X_OK) == 0) {
    EXPECT_EQ(shell("cpio -i --quiet --to-stdout etc/caisson/modules < " + *first), "/lib/modules/x.ko\n");
    EXPECT_EQ(shell("cpio -i --quiet --to-stdout lib/modules/x.ko < " + *first), "module");
  }
  // Old ones go when a new one is made.
  shell("touch -d '2 hours ago' " + *first + "; printf y >> agent");
  ASSERT_TRUE(prepare_initrd(folder, manifest, agent).ok());
  EXPECT_NE(access(first->c_str(), F_OK), 0);
  EXPECT_EQ(access(second->c_str(), F_OK), 0);

  ImageManifest wrong = manifest;
  wrong.modules = {"missing.ko"};
  EXPECT_NE(prepare_initrd(folder, wrong, CAISSON_TEST_INIT).error().message().find("caisson guest build --force"), std::string::npos);
  EXPECT_EQ(prepare_initrd(folder, manifest, folder + "/none").error().code(), ENOENT);
}

TEST_F(GuestImageTest, MissingImagesNameTheCommandThatMakesThem) {
  sandbox::MicrovmConfig config;
  config.guest_cache = folder;
  EXPECT_NE(find_guest_image(config).error().message().find("'caisson guest build'"), std::string::npos);
  config.guest = "tuned";
  EXPECT_NE(find_guest_image(config).error().message().find("'caisson guest build --tuned'"), std::string::npos);
  config.kernel = folder + "/none";
  EXPECT_NE(find_guest_image(config).error().message().find(config.kernel), std::string::npos);
}

TEST_F(GuestImageTest, ProgramsFailWithTheirOwnWords) {
  auto failed = run_program({.arguments = {"sh", "-c", "echo the reason >&2; exit 3"}, .log = folder + "/log"});
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message().find("the reason"), std::string::npos) << failed.error().message();
  EXPECT_NE(failed.error().message().find("status 3"), std::string::npos) << failed.error().message();
  auto missing = run_program({.arguments = {"no-such-program-here"}, .package = "some-package"});
  EXPECT_EQ(missing.error().code(), ENOENT);
  EXPECT_NE(missing.error().message().find("some-package"), std::string::npos);
}

TEST(KernelConfig, TellsWhatWasDropped) {
  const char* asked = "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=n\nCONFIG_E=64\n# a comment\nCONFIG_F=y\n";
  const char* made = "CONFIG_A=y\nCONFIG_C=y\nCONFIG_E=32\n# CONFIG_F is not set\nCONFIG_NEW=y";
  EXPECT_EQ(dropped_options(asked, made), (std::vector<std::string>{"CONFIG_B=y", "CONFIG_C=n", "CONFIG_E=64", "CONFIG_F=y"}));
  EXPECT_TRUE(dropped_options(made, made).empty());
}

TEST(KernelConfig, OursAsksForWhatAGuestNeeds) {
  const std::string_view config = kGuestKernelConfig;
  for (const char* option : {"CONFIG_VIRTIO_FS=y", "CONFIG_9P_FS=y", "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y", "CONFIG_PVH=y",
                             "CONFIG_VIRTIO_CONSOLE=y", "CONFIG_ACPI_HOTPLUG_MEMORY=y"})
    EXPECT_NE(config.find(option), std::string_view::npos) << option;
}

// A bzImage around a payload, with the size that the kernel's build appends.
std::string bzimage(std::string payload, uint32_t size) {
  payload.append(reinterpret_cast<const char*>(&size), 4);
  std::string image(512 * 3, '\0');
  memcpy(image.data() + 0x202, "HdrS", 4);
  image[0x206] = 15;
  image[0x207] = 2;
  image[0x1f1] = 2;
  const uint32_t offset = 0, length = static_cast<uint32_t>(payload.size());
  memcpy(image.data() + 0x248, &offset, 4);
  memcpy(image.data() + 0x24c, &length, 4);
  return image + payload;
}

TEST(BzImage, FindsThePayload) {
  const std::string payload = std::string("\x28\xb5\x2f\xfd", 4) + "0123456789abcdef";
  const std::string image = bzimage(payload, 777);
  auto found = find_payload(image);
  ASSERT_TRUE(found.ok()) << found.error().message();
  EXPECT_EQ(found->bytes, payload);
  EXPECT_EQ(found->program, "zstd");
  EXPECT_EQ(found->size, 777u);
}

TEST(BzImage, BrokenOnesAreErrors) {
  const std::string good = bzimage("\x28\xb5\x2f\xfd 0123456789abcdef", 1);
  for (size_t length = 0; length < good.size(); ++length) EXPECT_FALSE(find_payload(good.substr(0, length)).ok()) << length;
  EXPECT_NE(find_payload(bzimage("what is this, a payload?", 1)).error().message().find("unknown way"), std::string::npos);
  std::string huge = good;
  memset(huge.data() + 0x248, 0xff, 8);
  EXPECT_FALSE(find_payload(huge).ok());
}

TEST_F(GuestImageTest, ExtractsAKernelCompressedInAnyWay) {
  // Our own init has no PVH note, so the last step refuses it: by then it has been decompressed.
  const std::string program = *host::read_file(CAISSON_TEST_INIT);
  for (const char* compressor : {"gzip -c", "xz -c --check=crc32", "zstd -qc", "lz4 -lc"}) {
    shell(fmt::format("{} < {} > packed", compressor, CAISSON_TEST_INIT));
    std::string packed = *host::read_file(folder + "/packed");
    std::string image = bzimage(packed, static_cast<uint32_t>(program.size()));
    if (std::string_view(compressor).starts_with("gzip")) {
      const uint32_t length = static_cast<uint32_t>(packed.size());
      memcpy(image.data() + 0x24c, &length, 4);
    }
    ASSERT_TRUE(host::write_file_atomic(folder + "/bzImage", image).ok());
    auto extracted = extract_vmlinux(folder + "/bzImage", folder + "/vmlinux", folder);
    ASSERT_FALSE(extracted.ok());
    EXPECT_NE(extracted.error().message().find("PVH"), std::string::npos) << compressor << ": " << extracted.error().message();
    EXPECT_EQ(*host::read_file(folder + "/vmlinux"), program) << compressor;
  }
}

TEST_F(GuestImageTest, ModulesInTheOrderOfTheirDependencies) {
  // The stock image has been made from a real tree; its modules serve as one, compressed and not.
  const std::string image = image_folder("/var/cache/caisson/guest", "stock");
  auto manifest = read_manifest(image);
  if (!manifest) GTEST_SKIP() << "no stock image: " << manifest.error().message();
  shell(
      fmt::format("mkdir -p tree/kernel/a tree/kernel/b; cp {0}/modules/*.ko tree/kernel/a; mv tree/kernel/a/virtio*.ko tree/kernel/b; xz "
                  "tree/kernel/b/virtio.ko",
                  image));
  auto order = collect_modules(folder + "/tree", {{"virtiofs", true}, {"virtio-pci", true}, {"not_there"}}, folder + "/out");
  ASSERT_TRUE(order.ok()) << order.error().message();
  auto place = [&](const std::string& name) { return std::find(order->begin(), order->end(), name + ".ko") - order->begin(); };
  EXPECT_LT(place("virtio"), place("virtiofs"));
  EXPECT_LT(place("virtio_ring"), place("virtio_pci"));
  EXPECT_LT(place("fuse"), place("virtiofs"));
  EXPECT_EQ(place("overlay"), static_cast<ptrdiff_t>(order->size())) << "nobody asked for it";
  for (const std::string& name : *order)
    EXPECT_TRUE(host::read_file(folder + "/out/" + name)
                    ->starts_with("\x7f"
                                  "ELF"))
        << name;
  EXPECT_NE(collect_modules(folder + "/tree", {{"not_there", true}}, folder + "/out").error().message().find("not_there"),
            std::string::npos);
}

}  // namespace
}  // namespace caisson::microvm
