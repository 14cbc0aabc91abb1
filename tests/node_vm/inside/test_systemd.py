"""Beside a real systemd, on a node with cgroups of version 2 only. Runs on the node, as it would on any Debian 12."""

import os
import pathlib
import subprocess

import pytest
from harness.waiting import wait_for

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not os.path.exists("/run/systemd/system"), reason="systemd is not this machine's init")


def systemctl(*words, check=True):
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=check).stdout.strip()


def shown(unit, *properties):
    """What systemd knows of a unit."""
    lines = systemctl("show", unit, *[f"--property={name}" for name in properties]).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def cgroup_of(pid):
    (line,) = [line for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")]
    return line[len("0::"):]


def folder_of(path):
    return pathlib.Path("/sys/fs/cgroup" + path)


def read(folder, name):
    return (folder / name).read_text().strip()


def test_the_node_is_what_these_tests_are_about():
    assert os.readlink("/proc/1/exe").endswith("systemd")
    assert "memory" in pathlib.Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert not any(line.split()[2] == "cgroup" for line in open("/proc/self/mounts"))


@pytest.fixture
def scope(container, runtime):
    """A running container in a scope that systemd has been asked for: (unit, folder)."""
    runtime.globals = ["--systemd-cgroup"]
    container.bundle.linux["cgroupsPath"] = f"ctest.slice:caisson:{container.id}"
    limit = 64 * MIB if not runtime.is_vm else 320 * MIB
    container.bundle.linux["resources"].update({"memory": {"limit": limit}, "pids": {"limit": 100}, "cpu": {"shares": 512, "quota": 50000, "period": 100000}})
    container.spawn_sleeping()
    unit = f"caisson-{container.id}.scope"
    return unit, folder_of(shown(unit, "ControlGroup")["ControlGroup"]), limit


@pytest.mark.runtimes("runc", "namespace", "appkernel", "microvm")
def test_a_container_is_a_scope_of_systemds(container, runtime, scope):
    """systemd has made it, knows its limits, and leaves them alone when it reloads; when the container is gone it forgets the scope."""
    unit, folder, limit = scope
    known = shown(unit, "ActiveState", "Slice", "Delegate", "ControlGroup", "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")
    assert known["ActiveState"] == "active"
    assert (known["Slice"], known["Delegate"]) == ("ctest.slice", "yes")
    assert known["ControlGroup"] == f"/ctest.slice/{unit}"
    assert known["CPUQuotaPerSecUSec"] == "500ms" or runtime.is_vm  # whose VMM is given more than its guest
    processes = {pid for path in [folder, *folder.rglob("*/")] for pid in read(path, "cgroup.procs").split()}
    assert str(container.pid) in processes or runtime.is_vm

    memory, pids = read(folder, "memory.max"), read(folder, "pids.max")
    assert known["MemoryMax"] == (memory if memory != "max" else "infinity")
    if not runtime.is_vm:
        assert memory == str(limit)
        assert known["TasksMax"] == pids and int(pids) >= 100  # the application kernel has threads of its own, too
    before = {name: read(folder, name) for name in ("memory.max", "pids.max", "cpu.max", "cpu.weight")}
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", "ctest.slice", "MemoryMax=2G")  # makes systemd write all limits below the slice again
    assert {name: read(folder, name) for name in before} == before
    assert container.status() == "running"

    container.kill("KILL")
    container.wait_stopped()
    container.delete()
    wait_for(lambda: shown(unit, "LoadState")["LoadState"] == "not-found", "systemd to forget the scope")
    assert not folder.exists()
    systemctl("stop", "ctest.slice")


@pytest.mark.runtimes("runc", "namespace", "appkernel")
def test_systemd_knows_an_update(container, runtime, scope):
    unit, folder, _ = scope
    runtime.call("update", "--memory", str(96 * MIB), "--pids-limit", "70", container.id)
    memory, pids = read(folder, "memory.max"), read(folder, "pids.max")
    assert memory == str(96 * MIB) and 70 <= int(pids) < 300
    assert shown(unit, "MemoryMax")["MemoryMax"] == str(96 * MIB)
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", unit, "CPUWeight=77")
    assert (read(folder, "memory.max"), read(folder, "pids.max"), read(folder, "cpu.weight")) == (memory, pids, "77")


@pytest.mark.runtimes("runc", "namespace", "appkernel", "microvm")
def test_systemd_stops_a_container(container, runtime, scope):
    """`systemctl stop` of the scope, as an operator or a shutdown does it, ends the container, and that is seen."""
    unit, _, _ = scope
    systemctl("stop", unit)
    container.wait_status()
    container.delete()


@pytest.mark.runtimes("namespace", "appkernel", "microvm")
def test_a_scope_that_systemd_refuses_is_the_error(container, runtime):
    runtime.globals = ["--systemd-cgroup"]
    container.bundle.linux["cgroupsPath"] = "ctest.slice:caisson:a b"
    outcome = container.create(check=False)
    if runtime.is_vm:  # the guest is the wall; the node is told
        assert outcome.ok or "a b.scope" in outcome.stderr
    else:
        assert not outcome.ok and "systemd does not make caisson-a b.scope" in outcome.stderr


@pytest.mark.runtimes("runc", "namespace", "appkernel")
def test_a_plain_cgroup_outlives_a_reload(container):
    """Without --systemd-cgroup, in a place of the tree that systemd knows nothing of."""
    container.bundle.linux["cgroupsPath"] = f"/ctest-{container.id}/inner"
    container.bundle.linux["resources"]["memory"] = {"limit": 64 * MIB}
    container.spawn_sleeping()
    folder = folder_of(f"/ctest-{container.id}/inner")
    assert read(folder, "memory.max") == str(64 * MIB)
    systemctl("daemon-reload")
    assert read(folder, "memory.max") == str(64 * MIB)
    assert cgroup_of(container.pid).startswith(f"/ctest-{container.id}/inner")
    container.kill("KILL")
    container.wait_stopped()
    container.delete()
    if folder.parent.exists():
        folder.parent.rmdir()
