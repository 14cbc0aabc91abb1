// What options hold: signals, sizes, durations, users, ps tables, and the documents made of them.
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "cli/do_spec.h"
#include "cli/exec.h"
#include "cli/host_ps.h"
#include "cli/signal_names.h"
#include "cli/stats.h"
#include "cli/update_flags.h"
#include "oci/parse.h"

namespace caisson::cli {
namespace {

using Json = nlohmann::json;

TEST(Signal, Table) {
  struct {
    const char* text;
    int number;
  } rows[] = {{"9", 9},     {"KILL", 9},   {"SIGKILL", 9},  {"sigterm", 15},    {"0", 0},      {"64", 64},       {"HUP", 1},
              {"USR2", 12}, {"RTMIN", 34}, {"RTMIN+1", 35}, {"SIGRTMAX-2", 62}, {"IO", SIGIO}, {"CLD", SIGCHLD}, {"WINCH", 28}};
  for (const auto& row : rows) {
    Result<int> signal = parse_signal(row.text);
    ASSERT_TRUE(signal.ok()) << row.text;
    EXPECT_EQ(*signal, row.number) << row.text;
  }
  for (const char* bad : {"", "FOO", "SIG", "65", "-1", "9x", "RTMIN-1", "RTMAX+1", "RTMIN+31", "RTMIN+", "SIGSIGKILL"})
    EXPECT_FALSE(parse_signal(bad).ok()) << bad;
}

TEST(Bytes, Table) {
  struct {
    const char* text;
    int64_t bytes;
  } rows[] = {{"0", 0}, {"1024", 1024}, {"64m", 64 << 20}, {"64MiB", 64 << 20}, {"1.5g", 3LL << 29}, {"2kb", 2048}, {"-1", -1}, {"7b", 7}};
  for (const auto& row : rows) {
    Result<int64_t> bytes = parse_bytes(row.text);
    ASSERT_TRUE(bytes.ok()) << row.text;
    EXPECT_EQ(*bytes, row.bytes) << row.text;
  }
  for (const char* bad : {"", "m", "-2", "1x", "1mm", "99999999t", "nan", "inf", "1 m"}) EXPECT_FALSE(parse_bytes(bad).ok()) << bad;
}

TEST(UpdateFlags, OnlyWhatIsGiven) {
  EXPECT_EQ(*resources_from_flags({}), "{}");
  UpdateFlags flags{.blkio_weight = "500",
                    .cpu_quota = "-1",
                    .cpu_share = "512",
                    .cpuset_cpus = "0-1",
                    .memory = "64m",
                    .memory_swap = "-1",
                    .pids_limit = "10"};
  Result<std::string> text = resources_from_flags(flags);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(
      Json::parse(*text),
      Json::parse(
          R"({"blockIO":{"weight":500},"cpu":{"quota":-1,"shares":512,"cpus":"0-1"},"memory":{"limit":67108864,"swap":-1},"pids":{"limit":10}})"));
  EXPECT_TRUE(oci::parse_resources(*text).ok());
  Result<std::string> bad = resources_from_flags({.cpu_share = "-5"});
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().message().find("--cpu-share"), std::string::npos);
}

TEST(Duration, Table) {
  EXPECT_EQ(parse_duration("5s")->count(), 5000);
  EXPECT_EQ(parse_duration("500ms")->count(), 500);
  EXPECT_EQ(parse_duration("1m30s")->count(), 90'000);
  EXPECT_EQ(parse_duration("1.5s")->count(), 1500);
  for (const char* bad : {"", "0", "5", "-1s", "s", "5x", "0s", "5s5"}) EXPECT_FALSE(parse_duration(bad).ok()) << bad;
}

TEST(Ps, KeepsTheContainersLines) {
  Result<std::string> table = filter_ps("USER  PID CMD\nroot    1 init\nroot   42 sleep 42\nroot  420 sh\n", {42, 7});
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(*table, "USER  PID CMD\nroot   42 sleep 42\n");
  EXPECT_FALSE(filter_ps("USER CMD\nroot init\n", {1}).ok());
}

TEST(Exec, OptionsChangeTheContainersProcess) {
  oci::Process container;
  container.env = {"A=1"};
  container.cwd = "/x";
  container.user = {.uid = 5, .gid = 6};
  container.terminal = true;
  ExecOptions options{.env = {"B=2"}, .user = "7", .additional_gids = {"8"}, .caps = {"net_admin"}, .args = {"ls", "-l"}};
  Result<oci::Process> process = exec_process(container, options);
  ASSERT_TRUE(process.ok()) << process.error().message();
  EXPECT_EQ(process->env, (std::vector<std::string>{"A=1", "B=2"}));
  EXPECT_EQ(process->user.uid, 7u);
  EXPECT_EQ(process->user.gid, 6u);
  EXPECT_EQ(process->user.additional_gids, std::vector<uint32_t>{8});
  EXPECT_FALSE(process->terminal);
  EXPECT_EQ(process->cwd, "/x");
  ASSERT_TRUE(process->capabilities);
  EXPECT_EQ(process->capabilities->effective, std::vector<std::string>{"CAP_NET_ADMIN"});
  EXPECT_FALSE(exec_process(container, {.user = "nobody"}).ok());
  EXPECT_FALSE(exec_process(container, {.user = "1:"}).ok());
}

TEST(DoSpec, IsAValidConfig) {
  DoOptions options{.rw = {"/usr"}, .volumes = {"/etc:/mnt/etc:ro"}, .env = {"X=1"}, .args = {"ls"}};
  Result<std::string> text = do_spec_json(options);
  ASSERT_TRUE(text.ok()) << text.error().message();
  Result<oci::Spec> spec = oci::parse_spec(*text);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  ASSERT_GE(spec->mounts.size(), 2u);
  EXPECT_EQ(spec->mounts.back().destination, "/mnt/etc");
  EXPECT_NE(spec->find_namespace("network"), nullptr);
  options.network = "host";
  EXPECT_EQ(oci::parse_spec(*do_spec_json(options))->find_namespace("network"), nullptr);
}

TEST(DoSpec, RefusesByName) {
  struct {
    DoOptions options;
    const char* names;
  } rows[] = {{{.rw = {"/"}}, "--rw"},
              {{.rw = {"/does/not/exist"}}, "--rw"},
              {{.volumes = {"/etc"}}, "--volume"},
              {{.volumes = {"/etc:relative"}}, "--volume"},
              {{.volumes = {"/etc:/mnt:rx"}}, "--volume"},
              {{.cwd = "here"}, "--cwd"},
              {{.network = "bridge"}, "--network"}};
  for (auto& row : rows) {
    row.options.args = {"true"};
    Result<std::string> text = do_spec_json(row.options);
    ASSERT_FALSE(text.ok()) << row.names;
    EXPECT_NE(text.error().message().find(row.names), std::string::npos) << text.error().message();
  }
}

TEST(Stats, HaveRuncsShape) {
  sandbox::v1::StatsResponse stats;
  stats.set_cpu_usage_nanos(7);
  stats.add_cpu_per_cpu_nanos(7);
  stats.set_memory_usage_bytes(4096);
  stats.set_pids_current(2);
  (*stats.mutable_memory_raw())["anon"] = 1;
  auto* io = stats.add_io_service_bytes();
  io->set_major(8);
  io->set_op("Read");
  io->set_value(9);
  Json event = Json::parse(stats_event("a", stats));
  EXPECT_EQ(event["type"], "stats");
  EXPECT_EQ(event["id"], "a");
  EXPECT_EQ(event["data"]["cpu"]["usage"]["total"], 7);
  EXPECT_EQ(event["data"]["memory"]["usage"]["usage"], 4096);
  EXPECT_EQ(event["data"]["memory"]["usage"]["limit"], 9223372036854771712U);
  EXPECT_EQ(event["data"]["memory"]["raw"]["anon"], 1);
  EXPECT_EQ(event["data"]["pids"]["current"], 2);
  EXPECT_EQ(event["data"]["blkio"]["ioServiceBytesRecursive"][0]["value"], 9);
  EXPECT_TRUE(event["data"]["hugetlb"].is_object());
  EXPECT_EQ(Json::parse(oom_event("a")), (Json{{"type", "oom"}, {"id", "a"}}));
}

}  // namespace
}  // namespace caisson::cli
