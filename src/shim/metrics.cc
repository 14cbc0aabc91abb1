#include "shim/metrics.h"

#include <limits>

namespace caisson::shim {
namespace {

using sandbox::v1::StatsResponse;

constexpr uint64_t kNanosPerMicro = 1000;

uint64_t raw(const StatsResponse& stats, const char* name, uint64_t otherwise = 0) {
  auto row = stats.memory_raw().find(name);
  return row == stats.memory_raw().end() ? otherwise : row->second;
}

// The kernel's "no limit" as containerd's consumers expect it.
uint64_t limit_or_max(uint64_t limit) { return limit == 0 ? std::numeric_limits<uint64_t>::max() : limit; }

containerd::CgroupV1Metrics v1_metrics(const StatsResponse& stats) {
  containerd::CgroupV1Metrics metrics;
  metrics.mutable_pids()->set_current(stats.pids_current());
  metrics.mutable_pids()->set_limit(stats.pids_limit());
  auto* usage = metrics.mutable_cpu()->mutable_usage();
  usage->set_total(stats.cpu_usage_nanos());
  usage->set_kernel(stats.cpu_system_nanos());
  usage->set_user(stats.cpu_user_nanos());
  *usage->mutable_per_cpu() = stats.cpu_per_cpu_nanos();
  auto* throttling = metrics.mutable_cpu()->mutable_throttling();
  throttling->set_periods(stats.cpu_periods());
  throttling->set_throttled_periods(stats.cpu_throttled_periods());
  throttling->set_throttled_time(stats.cpu_throttled_nanos());

  auto* memory = metrics.mutable_memory();
  memory->set_cache(stats.memory_cache_bytes());
  memory->set_rss(stats.memory_rss_bytes());
  memory->set_rss_huge(raw(stats, "rss_huge", raw(stats, "anon_thp")));
  memory->set_mapped_file(raw(stats, "mapped_file", raw(stats, "file_mapped")));
  memory->set_pg_fault(raw(stats, "pgfault"));
  memory->set_pg_maj_fault(raw(stats, "pgmajfault"));
  memory->set_inactive_anon(raw(stats, "inactive_anon"));
  memory->set_active_anon(raw(stats, "active_anon"));
  memory->set_inactive_file(raw(stats, "inactive_file", stats.memory_inactive_file_bytes()));
  memory->set_active_file(raw(stats, "active_file"));
  memory->set_unevictable(raw(stats, "unevictable"));
  memory->set_hierarchical_memory_limit(raw(stats, "hierarchical_memory_limit", limit_or_max(stats.memory_limit_bytes())));
  memory->set_total_cache(raw(stats, "total_cache", stats.memory_cache_bytes()));
  memory->set_total_rss(raw(stats, "total_rss", stats.memory_rss_bytes()));
  memory->set_total_rss_huge(raw(stats, "total_rss_huge", memory->rss_huge()));
  memory->set_total_mapped_file(raw(stats, "total_mapped_file", memory->mapped_file()));
  memory->set_total_pg_fault(raw(stats, "total_pgfault", memory->pg_fault()));
  memory->set_total_pg_maj_fault(raw(stats, "total_pgmajfault", memory->pg_maj_fault()));
  memory->set_total_inactive_anon(raw(stats, "total_inactive_anon", memory->inactive_anon()));
  memory->set_total_active_anon(raw(stats, "total_active_anon", memory->active_anon()));
  // The kubelet takes usage less this one as the working set.
  memory->set_total_inactive_file(raw(stats, "total_inactive_file", stats.memory_inactive_file_bytes()));
  memory->set_total_active_file(raw(stats, "total_active_file", memory->active_file()));
  memory->set_total_unevictable(raw(stats, "total_unevictable", memory->unevictable()));
  memory->mutable_usage()->set_usage(stats.memory_usage_bytes());
  memory->mutable_usage()->set_max(stats.memory_max_usage_bytes());
  memory->mutable_usage()->set_limit(limit_or_max(stats.memory_limit_bytes()));
  memory->mutable_usage()->set_failcnt(stats.memory_failcnt());
  memory->mutable_swap()->set_usage(stats.memory_swap_usage_bytes());
  memory->mutable_swap()->set_limit(limit_or_max(stats.memory_swap_limit_bytes()));
  metrics.mutable_memory_oom_control()->set_oom_kill(stats.oom_kills());

  for (const auto& row : stats.io_service_bytes()) {
    auto* entry = metrics.mutable_blkio()->add_io_service_bytes_recursive();
    entry->set_op(row.op());
    entry->set_major(row.major());
    entry->set_minor(row.minor());
    entry->set_value(row.value());
  }
  for (const auto& row : stats.io_serviced()) {
    auto* entry = metrics.mutable_blkio()->add_io_serviced_recursive();
    entry->set_op(row.op());
    entry->set_major(row.major());
    entry->set_minor(row.minor());
    entry->set_value(row.value());
  }
  for (const auto& row : stats.hugetlb()) {
    auto* entry = metrics.add_hugetlb();
    entry->set_pagesize(row.page_size());
    entry->set_usage(row.usage());
    entry->set_max(row.max());
    entry->set_failcnt(row.failcnt());
  }
  return metrics;
}

// One row per device of v2's io statistics.
containerd::CgroupV2Metrics::IoEntry* io_row(containerd::CgroupV2Metrics& metrics, uint64_t major, uint64_t minor) {
  for (auto& row : *metrics.mutable_io()->mutable_usage())
    if (row.major() == major && row.minor() == minor) return &row;
  auto* row = metrics.mutable_io()->add_usage();
  row->set_major(major);
  row->set_minor(minor);
  return row;
}

containerd::CgroupV2Metrics v2_metrics(const StatsResponse& stats) {
  containerd::CgroupV2Metrics metrics;
  metrics.mutable_pids()->set_current(stats.pids_current());
  metrics.mutable_pids()->set_limit(stats.pids_limit());
  auto* cpu = metrics.mutable_cpu();
  cpu->set_usage_usec(stats.cpu_usage_nanos() / kNanosPerMicro);
  cpu->set_user_usec(stats.cpu_user_nanos() / kNanosPerMicro);
  cpu->set_system_usec(stats.cpu_system_nanos() / kNanosPerMicro);
  cpu->set_nr_periods(stats.cpu_periods());
  cpu->set_nr_throttled(stats.cpu_throttled_periods());
  cpu->set_throttled_usec(stats.cpu_throttled_nanos() / kNanosPerMicro);

  auto* memory = metrics.mutable_memory();
  memory->set_anon(raw(stats, "anon", stats.memory_rss_bytes()));
  memory->set_file(raw(stats, "file", stats.memory_cache_bytes()));
  memory->set_kernel_stack(raw(stats, "kernel_stack"));
  memory->set_slab(raw(stats, "slab"));
  memory->set_sock(raw(stats, "sock"));
  memory->set_shmem(raw(stats, "shmem"));
  memory->set_file_mapped(raw(stats, "file_mapped"));
  memory->set_file_dirty(raw(stats, "file_dirty"));
  memory->set_file_writeback(raw(stats, "file_writeback"));
  memory->set_anon_thp(raw(stats, "anon_thp"));
  memory->set_inactive_anon(raw(stats, "inactive_anon"));
  memory->set_active_anon(raw(stats, "active_anon"));
  memory->set_inactive_file(raw(stats, "inactive_file", stats.memory_inactive_file_bytes()));
  memory->set_active_file(raw(stats, "active_file"));
  memory->set_unevictable(raw(stats, "unevictable"));
  memory->set_slab_reclaimable(raw(stats, "slab_reclaimable"));
  memory->set_slab_unreclaimable(raw(stats, "slab_unreclaimable"));
  memory->set_pgfault(raw(stats, "pgfault"));
  memory->set_pgmajfault(raw(stats, "pgmajfault"));
  memory->set_usage(stats.memory_usage_bytes());
  memory->set_usage_limit(limit_or_max(stats.memory_limit_bytes()));
  memory->set_swap_usage(stats.memory_swap_usage_bytes());
  memory->set_swap_limit(limit_or_max(stats.memory_swap_limit_bytes()));
  memory->set_max_usage(stats.memory_max_usage_bytes());
  metrics.mutable_memory_events()->set_oom_kill(stats.oom_kills());

  for (const auto& row : stats.io_service_bytes()) {
    if (row.op() == "Read") io_row(metrics, row.major(), row.minor())->set_rbytes(row.value());
    if (row.op() == "Write") io_row(metrics, row.major(), row.minor())->set_wbytes(row.value());
  }
  for (const auto& row : stats.io_serviced()) {
    if (row.op() == "Read") io_row(metrics, row.major(), row.minor())->set_rios(row.value());
    if (row.op() == "Write") io_row(metrics, row.major(), row.minor())->set_wios(row.value());
  }
  for (const auto& row : stats.hugetlb()) {
    auto* entry = metrics.add_hugetlb();
    entry->set_pagesize(row.page_size());
    entry->set_current(row.usage());
    entry->set_max(row.max());
  }
  return metrics;
}

}  // namespace

containerd::Any metrics_of(const StatsResponse& stats, host::CgroupVersion version) {
  containerd::Any any;
  bool v1 = version == host::CgroupVersion::V1;
  any.set_type_url(v1 ? "io.containerd.cgroups.v1.Metrics" : "io.containerd.cgroups.v2.Metrics");
  any.set_value(v1 ? v1_metrics(stats).SerializeAsString() : v2_metrics(stats).SerializeAsString());
  return any;
}

}  // namespace caisson::shim
