#include "container/container.h"

#include <signal.h>
#include <sys/stat.h>

#include "container/container_fixture.h"
#include "host/files.h"

namespace caisson::container::testing {
namespace {

TEST_F(ContainerTest, RunsAProgram) {
  const oci::Spec spec = shell_spec("echo out; echo err >&2; exit 7");
  auto ended = run(spec);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->status, 7);
  EXPECT_EQ(ended->out, "out\n");
  EXPECT_EQ(ended->err, "err\n");
}

TEST_F(ContainerTest, CreateStartExecKillDestroy) {
  oci::Spec spec = shell_spec("echo started; sleep 100");
  spec.process.args = {"sleep", "100"};
  auto created = create(spec);
  ASSERT_TRUE(created.ok()) << created.error().message();
  auto started = start(spec);
  ASSERT_TRUE(started.ok()) << started.error().message();
  auto executed = exec(spec, shell_process(spec, "echo $$ $PPID; hostname; exit 3"));
  ASSERT_TRUE(executed.ok()) << executed.error().message();
  EXPECT_EQ(executed->status, 3);
  EXPECT_EQ(executed->out, "2 0\n" + spec.hostname + "\n");
  auto pids = processes(record());
  ASSERT_TRUE(pids.ok());
  EXPECT_EQ(*pids, std::vector<pid_t>{record().pid});
  ASSERT_TRUE(kill(record(), SIGKILL, false).ok());
  EXPECT_EQ(wait().status, 128 + SIGKILL);
  ASSERT_TRUE(destroy(&spec).ok());
  EXPECT_TRUE(destroy(&spec).ok()) << "is idempotent";
  for (const auto& [controller, folder] : record().cgroup.folders) EXPECT_NE(access(folder.c_str(), F_OK), 0) << folder;
}

TEST_F(ContainerTest, RecordSurvivesJson) {
  Record record{.id = "a",
                .bundle = "/b",
                .pid = 12,
                .pid_start_time = 99,
                .cgroup = {host::CgroupVersion::V1, "/x", {{"memory", "/m/x"}}},
                .rootfs = "/r",
                .owns_pid_namespace = false,
                .no_new_keyring = true};
  auto copy = record_from_json(record_to_json(record));
  ASSERT_TRUE(copy.ok()) << copy.error().message();
  EXPECT_EQ(record_to_json(*copy), record_to_json(record));
  EXPECT_EQ(copy->cgroup.folders.at("memory"), "/m/x");
  EXPECT_FALSE(copy->owns_pid_namespace);
  EXPECT_FALSE(record_from_json("{\"id\": 3}").ok());
  EXPECT_FALSE(record_from_json("not json").ok());
}

}  // namespace
}  // namespace caisson::container::testing
