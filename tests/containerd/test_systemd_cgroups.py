"""Pods as a kubelet with systemd's cgroup driver has them: each in a slice that the kubelet has made, their containers in scopes that the shim has systemd make.
Needs systemd as init and cgroups of version 2: tests/node_vm runs these on a node that has both."""

import json
import os
import pathlib
import subprocess

import pytest
from harness.waiting import wait_for

pytestmark = pytest.mark.skipif(not os.path.exists("/run/systemd/system"), reason="systemd is not this machine's init")
OURS = pytest.mark.runtimes("namespace", "appkernel")  # runc's shim is told of systemd by a setting of its own; a virtual machine has no part in the node's network
CGROUPS = pathlib.Path("/sys/fs/cgroup")
MIB = 1 << 20
SLEEP = ["sleep", "1000"]
NODE_NETWORK = {"network": 2, "pid": 1}  # needs no network plug-in


def systemctl(*words):
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout.strip()


def units(pattern, *flags):
    return sorted(line.split()[0] for line in systemctl("list-units", "--all", "--plain", "--no-legend", *flags, pattern).splitlines())


def read(folder, name):
    return (folder / name).read_text().strip()


def names_in(folder):
    return {pathlib.Path(f"/proc/{pid}/comm").read_text().strip() for pid in read(folder, "cgroup.procs").split()}


@pytest.fixture
def pod_slice(marker):
    """A pod's slice below that of its class, with the pod's limits: (name, folder)."""
    parent = f"{marker}pods.slice"
    name = f"{marker}pods-pod1.slice"
    systemctl("start", name)
    systemctl("set-property", "--runtime", name, f"MemoryMax={512 * MIB}", "TasksMax=400")
    yield name, CGROUPS / parent / name
    systemctl("stop", name, parent)
    systemctl("revert", name)


@pytest.fixture
def pod(pod_slice, make_pod):
    return make_pod(namespaces=NODE_NETWORK, cgroup_parent=f"/{pod_slice[1].relative_to(CGROUPS)}")


LIMITS = {"memory_limit_in_bytes": 96 * MIB, "cpu_quota": 50000, "cpu_period": 100000, "cpu_shares": 512}


def scope_of(container):
    return f"cri-containerd-{container}.scope"


@OURS
def test_a_pod_is_a_slice_of_scopes(pod, pod_slice, node, runtime_name):
    """Each container is a scope of systemd's in the pod's slice, with its limits; a pod of an application kernel has one more, that process's."""
    name, folder = pod_slice
    containers = [pod.start(SLEEP, resources=LIMITS) for _ in range(2)]
    expected = {scope_of(id_) for id_ in [pod.id, *containers]}
    wait_for(lambda: expected <= set(units("cri-containerd-*.scope")), lambda: f"the scopes: {units('cri-containerd-*.scope')}")
    if runtime_name == "appkernel":
        kernel = f"cri-containerd-{pod.id[:32]}-{pod.id[32:]}.kernel.scope"
        expected.add(kernel)
        wait_for(lambda: (folder / kernel).exists() and "caisson-kernel" in names_in(folder / kernel), "the kernel process to have moved")
    assert set(units("cri-containerd-*.scope", "--state=active")) == expected
    assert {path.name for path in folder.iterdir() if path.is_dir()} == expected
    assert all(systemctl("show", "--value", "--property=Slice", unit) == name for unit in expected)

    for container in containers:
        own = folder / scope_of(container)
        assert read(own, "memory.max") == str(96 * MIB)
        assert read(own, "cpu.max") == "50000 100000"
        assert names_in(own)
    figures = lambda: {unit: (read(folder / unit, "memory.max"), read(folder / unit, "cpu.max"), names_in(folder / unit)) for unit in expected}
    before = figures()
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", name, f"MemoryMax={400 * MIB}")  # systemd writes all that is below anew
    assert figures() == before
    assert read(folder, "memory.max") == str(400 * MIB)
    stats = json.loads(pod.crictl.call("stats", "-o", "json", containers[0]).stdout)["stats"]
    assert int(stats[0]["memory"]["workingSetBytes"]["value"]) > 0

    pod.crictl.call("rm", "-f", containers[0])
    wait_for(lambda: not (folder / scope_of(containers[0])).exists(), "the container's scope to go")
    assert pod.exec(containers[1], "echo", "alive").stdout == "alive\n"
    pod.remove()
    wait_for(lambda: not units("cri-containerd-*.scope"), lambda: f"systemd to forget the scopes: {units('cri-containerd-*.scope')}")
    wait_for(lambda: not [path for path in folder.iterdir() if path.is_dir()], "the folders to go")


@OURS
def test_limits_hold(pod, pod_slice, runtime_name):
    """A container that takes more memory than it may is killed, its neighbour is not; an update is in the cgroup and known to systemd."""
    _, folder = pod_slice
    steady, greedy = pod.start(SLEEP, resources=LIMITS), pod.start(["/testinit", "allocate", "256"], resources=LIMITS)
    status = lambda: pod.crictl.json("inspect", greedy)["status"]
    wait_for(lambda: status()["state"] == "CONTAINER_EXITED", "the container to be killed", deadline=60)
    assert (status()["exitCode"], status()["reason"]) == (137, "OOMKilled")
    assert pod.exec(steady, "echo", "alive").stdout == "alive\n"
    pod.crictl.call("update", "--memory", 128 * MIB, steady)
    assert read(folder / scope_of(steady), "memory.max") == str(128 * MIB)
    assert systemctl("show", "--value", "--property=MemoryMax", scope_of(steady)) == str(128 * MIB)


@OURS
def test_the_stop_of_the_slice_ends_the_pod(pod, pod_slice, runtime_name):
    """An operator, or the node's shutdown: nothing is left of the pod, and containerd is told."""
    name, folder = pod_slice
    container = pod.start(SLEEP)
    systemctl("stop", name)
    wait_for(lambda: pod.crictl.json("inspect", container)["status"]["state"] == "CONTAINER_EXITED", "containerd to know")
    wait_for(lambda: not folder.exists() or not read(folder, "cgroup.events").startswith("populated 1"), "all processes of the pod to be gone")
    pod.remove()
    wait_for(lambda: not units("cri-containerd-*.scope"), "systemd to forget the scopes")
    assert not folder.exists()
