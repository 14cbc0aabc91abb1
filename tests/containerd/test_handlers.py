"""Runtime handlers of one containerd with different settings, and what a pod may choose itself."""

import os
import re

import pytest

MICROVM = pytest.mark.runtimes("microvm")


def kernel(pod, container):
    return pod.exec(container, "uname", "-r").stdout.strip()


def memory_kib(pod, container):
    return int(re.search(r"MemTotal:\s+(\d+)", pod.exec(container, "cat", "/proc/meminfo").stdout).group(1))


@MICROVM
def test_handlers_have_their_own_configuration(network, make_pod, runtime_name):
    machine, shared = make_pod(handler="configured-vm"), make_pod(handler="configured-namespace")
    inside, beside = machine.start(["sleep", "1000"]), shared.start(["sleep", "1000"])
    assert kernel(machine, inside) != os.uname().release
    assert 300 << 10 < memory_kib(machine, inside) < 410 << 10
    assert kernel(shared, beside) == os.uname().release


@MICROVM
def test_annotation_chooses_the_isolation(network, make_pod, runtime_name):
    pod = make_pod(handler="configured-vm", annotations={"io.caisson.isolation": "namespace"})
    assert kernel(pod, pod.start(["sleep", "1000"])) == os.uname().release


@MICROVM
def test_host_network(network, make_pod, runtime_name):
    """A virtual machine has no part in the node's network: refused with words that help, or another isolation where that is configured."""
    with pytest.raises(AssertionError) as refused:
        make_pod(namespaces={"network": 2})
    assert "hostNetwork" in str(refused.value) and "RuntimeClass" in str(refused.value)
    pod = make_pod(handler="configured-either", namespaces={"network": 2})
    container = pod.start(["sleep", "1000"])
    assert kernel(pod, container) == os.uname().release
    assert pod.exec(container, "cat", "/proc/net/dev").stdout.count(":") >= 2
    other = make_pod(handler="configured-either")
    assert kernel(other, other.start(["sleep", "1000"])) != os.uname().release


@MICROVM
def test_pod_has_the_size_that_its_annotations_say(network, make_pod, runtime_name):
    """containerd writes the kubelet's figures for the pod into the sandbox's annotations."""
    pod = make_pod(resources={"memory_limit_in_bytes": 500 << 20, "cpu_period": 100000, "cpu_quota": 150000})
    container = pod.start(["sleep", "1000"], resources={"memory_limit_in_bytes": 64 << 20, "cpu_period": 100000, "cpu_quota": 50000})
    assert 480 << 10 < memory_kib(pod, container) < 600 << 10
    assert pod.exec(container, "nproc").stdout.strip() == "2"
    limit = pod.exec(container, "sh", "-c", "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max").stdout.split()
    assert limit == [str(64 << 20)]
