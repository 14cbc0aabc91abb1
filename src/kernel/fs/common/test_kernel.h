// For unit tests of file systems: a kernel with one empty container (a tmpfs as its root), and a task that acts in it as root.
#pragma once

#include <gtest/gtest.h>

#include "kernel/fs/registry.h"
#include "kernel/fs/tmpfs/tmpfs.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/file.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {

class TestKernel : public testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Kernel>> made = Kernel::create();
    ASSERT_TRUE(made);
    kernel = *std::move(made);
    container.id = "test";
    container.pids = std::make_shared<PidNamespace>();
    container.mounts = std::make_shared<MountTable>();
    container.uts = std::make_shared<UtsNames>();
    const auto fs = Tmpfs::create({.bytes = 64 << 20, .mode = 0755});
    const auto dentry = std::make_shared<Dentry>("", nullptr, *fs->root());
    container.root = {*container.mounts->add(fs, dentry, Path(), 0, "root", ""), dentry};
    task = make_setup_task(*kernel, container);
  }
  void TearDown() override {
    task.reset();
    container.root = {};
    container.mounts.reset();
    if (kernel) kernel->shutdown();
  }

  FileRef open(std::string_view path, int flags, mode_t mode = 0644) {
    Result<FileRef> file = open_path(*task, AT_FDCWD, path, flags, mode);
    EXPECT_TRUE(file) << path << ": " << (file ? "" : strerrordesc_np(file.error().value));
    return file ? *file : nullptr;
  }
  std::string read(const FileRef& file, size_t most = 1 << 20, off_t offset = 0) {
    std::string text(most, '\0');
    IoBuffer buffer(text.data(), text.size());
    Result<size_t> got = file->read(*task, buffer, offset);
    EXPECT_TRUE(got) << (got ? "" : strerrordesc_np(got.error().value));
    text.resize(got ? *got : 0);
    return text;
  }
  std::string content(std::string_view path) {
    const FileRef file = open(path, O_RDONLY);
    return file ? read(file) : "";
  }
  Result<size_t> write(const FileRef& file, std::string_view text, off_t offset = 0) {
    IoBuffer buffer(text.data(), text.size());
    return file->write(*task, buffer, offset);
  }
  std::vector<std::string> names(std::string_view path) {
    const FileRef folder = open(path, O_RDONLY | O_DIRECTORY);
    std::vector<std::string> result;
    int64_t position = 0;
    EXPECT_TRUE(folder->read_dir(*task, position, [&](const DirEntry& entry) {
      result.emplace_back(entry.name);
      return true;
    }));
    return result;
  }

  std::unique_ptr<Kernel> kernel;
  Container container;
  std::unique_ptr<Task> task;
};

}  // namespace caisson::kernel
