"""A kernel process that does not end with the last of its containers holds up nobody: the shim goes on, and somebody else cleans up."""

import os
import pathlib
import signal

import pytest
from harness import leftovers as leftovers_module
from harness.waiting import wait_for
from shim import Shim, container_bundle


@pytest.fixture
def shim(runtime_name, folder, marker, leftovers):
    made = Shim(folder, f"{marker}pod", runtime_name)
    yield made
    made.remove()


def named(name):
    files = [pathlib.Path(f"/proc/{pid}/comm") for pid, *_ in leftovers_module.descendants(os.getpid())]
    return [int(file.parent.name) for file in files if file.exists() and file.read_text() == f"{name}\n"]


def state(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2]


def pause_bundle(folder, pod_id, netns):
    """The pod's first container, as containerd describes a pause image's."""
    bundle = container_bundle(folder, pod_id, os.getpid(), netns, ["/bin/sh", "-c", "exec sleep 1000"])
    bundle.spec["annotations"]["io.kubernetes.cri.container-type"] = "sandbox"
    for space in bundle.linux["namespaces"]:
        if space["type"] != "network":
            space.pop("path", None)
    bundle.write()
    return bundle


@pytest.mark.runtimes("appkernel")
def test_a_kernel_process_that_does_not_end_holds_up_nobody(shim, netns, folder, marker):
    first, second = shim.id, f"{marker}c1"
    bundle = pause_bundle(folder / "c0", shim.id, netns)
    pid = shim.task("Create", {1: first, 2: str(bundle.path)})[1][0]
    shim.task("Start", {1: first})
    bundle = container_bundle(folder / "c1", shim.id, pid, netns, ["/bin/sh", "-c", "exec sleep 1000"])
    shim.task("Create", {1: second, 2: str(bundle.path)})
    shim.task("Start", {1: second})
    [kernel] = named("caisson-kernel")
    # With two containers it has a cgroup of its own.
    wait_for(lambda: ".kernel" in pathlib.Path(f"/proc/{kernel}/cgroup").read_text(), "the kernel process's own cgroup")
    os.kill(kernel, signal.SIGSTOP)
    wait_for(lambda: state(kernel) == "T", "the kernel process to stop")
    # The processes that stand for the containers end by the host's SIGKILL.
    for name in (second, first):
        shim.task("Kill", {1: name, 3: 9})
        shim.task("Wait", {1: name})
        shim.task("Delete", {1: name})
    # The last container has gone, the kernel process is still there, and the shim answers: it has left the rest to somebody else.
    shim.task("Connect", {1: first})
    assert state(kernel) == "T" and named("caisson-sweep"), "the shim has waited for the kernel process"
    wait_for(lambda: state(kernel) in (None, "Z") and not named("caisson-sweep"), "the kernel process to be killed")
    shim.task("Shutdown", {1: first})
