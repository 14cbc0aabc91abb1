"""Hostile containers in pods: what they use up is their own, the node and other pods go on, and the pod can be removed."""

import os
import time

import pytest
from hostile import MIB, NodeTables, private_bytes, remove_within, still_serves


@pytest.mark.runtimes("microvm")
def test_memory_that_a_machine_uses_up_is_its_own(network, make_pod, runtime_name):
    """Without any limit of the container's: the machine is the limit."""
    victim, offender = make_pod(), make_pod()
    answering = victim.start(["sleep", "1000"])
    node = NodeTables()
    offender.start(["sh", "-c", "dd if=/dev/zero of=/dev/shm/large bs=1M; exec /testinit allocate 4096"])
    still_serves(victim, answering, 3)
    node.have_not_grown()
    remove_within(offender, 60)
    still_serves(victim, answering, 0)


@pytest.mark.runtimes("runc", "namespace")  # a micro-VM's: test_a_pod_that_floods_events
def test_a_flood_of_events(network, make_pod, clean, runtime_name):
    """A container whose processes are killed for want of memory again and again: each is an event, and the shim neither grows nor stops answering."""
    before = set(clean.shims())
    pod = make_pod()
    pod.start(["sh", "-c", "while true; do /testinit allocate 64; done"], resources={"memory_limit_in_bytes": 16 * MIB})
    steady = pod.start(["sleep", "1000"])
    (shim,) = set(clean.shims()) - before
    still_serves(pod, steady, 3)
    if runtime_name != "runc":
        assert private_bytes(shim) < 4 * MIB
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
        if runtime_name != "runc":
            assert private_bytes(shim) < 4 * MIB
    finally:
        os.kill(clean.process.pid, 18)
    remove_within(pod, 60)
