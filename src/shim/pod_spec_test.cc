#include "shim/pod_spec.h"

#include <gtest/gtest.h>

#include "oci/parse.h"
#include "oci/pod.h"

namespace caisson::shim {
namespace {

containerd::CreateSandboxRequest request_of(const containerd::PodSandboxConfig& pod) {
  containerd::CreateSandboxRequest request;
  request.set_sandbox_id("p1");
  request.set_netns_path("/run/netns/p1");
  (*request.mutable_annotations())["from"] = "containerd";
  request.mutable_options()->set_type_url("runtime.v1.PodSandboxConfig");
  request.mutable_options()->set_value(pod.SerializeAsString());
  return request;
}

oci::Spec spec_of(const containerd::CreateSandboxRequest& request) {
  auto text = make_pod_spec(request, "/usr/bin/shim");
  EXPECT_TRUE(text.ok()) << text.error().message();
  auto spec = oci::parse_spec(*text);
  EXPECT_TRUE(spec.ok()) << spec.error().message() << *text;
  return std::move(spec).value();
}

TEST(PodSpec, SaysWhatTheKubeletSays) {
  containerd::PodSandboxConfig pod;
  pod.set_hostname("web-0");
  pod.mutable_linux_config()->set_cgroup_parent("/kubepods/pod1");
  (*pod.mutable_linux_config()->mutable_sysctls())["net.ipv4.ip_unprivileged_port_start"] = "80";
  pod.mutable_linux_config()->mutable_resources()->set_memory_limit_in_bytes(300 << 20);
  pod.mutable_linux_config()->mutable_overhead()->set_memory_limit_in_bytes(20 << 20);
  pod.mutable_linux_config()->mutable_resources()->set_cpu_quota(150000);
  oci::Spec spec = spec_of(request_of(pod));
  EXPECT_EQ(spec.hostname, "web-0");
  EXPECT_EQ(spec.linux_.cgroups_path, "/kubepods/pod1/p1");
  EXPECT_EQ(oci::pod_role(spec), oci::PodRole::Sandbox);
  EXPECT_EQ(spec.annotations["io.kubernetes.cri.sandbox-memory"], std::to_string(320 << 20));
  EXPECT_EQ(spec.annotations["io.kubernetes.cri.sandbox-cpu-quota"], "150000");
  EXPECT_EQ(spec.annotations["from"], "containerd");
  ASSERT_NE(spec.find_namespace("network"), nullptr);
  EXPECT_EQ(spec.find_namespace("network")->path, "/run/netns/p1");
  EXPECT_NE(spec.find_namespace("uts"), nullptr);
  ASSERT_EQ(spec.mounts.size(), 1U);
  EXPECT_EQ(spec.mounts[0].source, "/usr/bin/shim");
}

TEST(PodSpec, NodeNamespacesAreLeftOut) {
  containerd::PodSandboxConfig pod;
  pod.set_hostname("ignored");
  auto* modes = pod.mutable_linux_config()->mutable_security_context()->mutable_namespace_options();
  modes->set_network(containerd::NODE);
  modes->set_ipc(containerd::NODE);
  oci::Spec spec = spec_of(request_of(pod));
  EXPECT_EQ(spec.find_namespace("network"), nullptr);
  EXPECT_EQ(spec.find_namespace("uts"), nullptr);
  EXPECT_EQ(spec.find_namespace("ipc"), nullptr);
  EXPECT_NE(spec.find_namespace("pid"), nullptr);
  EXPECT_EQ(spec.hostname, "");
}

TEST(PodSpec, WithoutAKubeletsWordsAPodStillHasItsOwnNamespaces) {
  containerd::CreateSandboxRequest request;
  request.set_sandbox_id("p2");
  oci::Spec spec = spec_of(request);
  ASSERT_NE(spec.find_namespace("network"), nullptr);
  EXPECT_EQ(spec.find_namespace("network")->path, "");
  request.mutable_options()->set_type_url("runtime.v1.PodSandboxConfig");
  request.mutable_options()->set_value("\xff\xff\xff");
  EXPECT_FALSE(make_pod_spec(request, "/x").ok());
}

TEST(PodSpec, ACgroupInASliceIsSystemds) {
  auto systemds = [](const std::string& spec) {
    sandbox::v1::CreateContainerRequest create;
    set_spec(create, spec);
    EXPECT_EQ(create.spec(), spec);
    return create.systemd_cgroup();
  };
  auto with_path = [](const std::string& path) {
    return R"({"process": {"cgroupsPath": "x.slice:a:b"}, "linux": {"cgroupsPath": ")" + path + R"(", "resources": {"cgroupsPath": "y"}}})";
  };
  EXPECT_TRUE(systemds(with_path("kubepods-besteffort-pod1.slice:cri-containerd:4f")));
  for (const char* path :
       {"", "/k8s.io/4f", "kubepods/pod1:cri-containerd:4f", "/a/x.slice:cri:4f", "x.slice", "x.slice:cri", "x.slice:a:b:c"})
    EXPECT_FALSE(systemds(with_path(path))) << path;
  for (const char* text :
       {"", "{", "[]", "{}", R"({"linux": 5})", R"({"linux": {"cgroupsPath": 5}})", R"({"linux": {"cgroupsPath": ["x.slice:a:b"]}})"})
    EXPECT_FALSE(systemds(text)) << text;
}

}  // namespace
}  // namespace caisson::shim
