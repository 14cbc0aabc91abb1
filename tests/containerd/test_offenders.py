"""Hostile containers in pods: what they use up is their own, the node and other pods go on, and the pod can be removed."""

import os
import pathlib
import time

import pytest

MIB = 1 << 20


def remove_within(pod, seconds):
    begin = time.monotonic()
    pod.remove()
    assert time.monotonic() - begin < seconds
    pod.remove = lambda: None


def node_counts():
    sockets = pathlib.Path("/proc/net/sockstat").read_text().split()
    return len([entry for entry in os.listdir("/proc") if entry.isdigit()]), int(sockets[sockets.index("used") + 1])


@pytest.mark.runtimes("microvm")
@pytest.mark.parametrize("what,script", [
    ("processes", "f() { f | f & }; while true; do f; done"),
    ("sockets and inodes", "mkdir /dev/shm/d; i=2000; while true; do nc -l -p $i & : > /dev/shm/d/$i; i=$((i + 1)); done"),
    ("memory", "dd if=/dev/zero of=/dev/shm/large bs=1M; exec /testinit allocate 4096"),
], ids=["processes", "sockets-and-inodes", "memory"])
def test_what_a_machine_uses_up_is_its_own(network, make_pod, runtime_name, what, script):
    """Without any limit of the container's: the machine is the limit."""
    victim, offender = make_pod(), make_pod()
    answering = victim.start(["sleep", "1000"])
    processes, sockets = node_counts()
    offender.start(["sh", "-c", script])
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert victim.exec(answering, "echo", "alive").stdout == "alive\n"
    now_processes, now_sockets = node_counts()
    assert now_processes < processes + 200 and now_sockets < sockets + 500, "the node's own tables have grown with the guest's"
    remove_within(offender, 60)
    assert victim.exec(answering, "echo", "alive").stdout == "alive\n"


@pytest.mark.runtimes("runc", "namespace", "microvm")
def test_a_flood_of_events(network, make_pod, clean, runtime_name):
    """A container whose processes are killed for want of memory again and again: each is an event, and the shim neither grows nor stops answering."""
    before = set(clean.shims())
    pod = make_pod()
    pod.start(["sh", "-c", "while true; do /testinit allocate 64; done"], resources={"memory_limit_in_bytes": 16 * MIB})
    steady = pod.start(["sleep", "1000"])
    (shim,) = set(clean.shims()) - before
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert pod.exec(steady, "echo", "alive").stdout == "alive\n"
    if runtime_name != "runc":
        rows = dict(line.split(":") for line in pathlib.Path(f"/proc/{shim}/smaps_rollup").read_text().splitlines()[1:])
        assert int(rows["Private_Dirty"].split()[0]) << 10 < 4 * MIB
    remove_within(pod, 60)


@pytest.mark.runtimes("runc", "namespace", "microvm")
def test_a_flood_of_output_fills_no_memory_of_the_node(network, make_pod, clean, runtime_name):
    """A container that writes without end to a reader that has stopped (containerd, halted) waits; the shim holds nothing of it."""
    before = set(clean.shims())
    pod = make_pod()
    pod.start(["sh", "-c", "exec yes"])
    (shim,) = set(clean.shims()) - before
    os.kill(clean.process.pid, 19)
    try:
        time.sleep(2)
        rows = dict(line.split(":") for line in pathlib.Path(f"/proc/{shim}/smaps_rollup").read_text().splitlines()[1:])
        if runtime_name != "runc":
            assert int(rows["Private_Dirty"].split()[0]) << 10 < 4 * MIB
    finally:
        os.kill(clean.process.pid, 18)
    remove_within(pod, 60)
