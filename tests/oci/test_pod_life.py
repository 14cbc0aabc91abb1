"""Containers that share namespaces of a first one, each with a life of its own: as Linux has it, and with one application kernel for all of them."""

import json
import os
import pathlib

import pytest
from harness.waiting import wait_for, wait_for_exit

ALL = pytest.mark.runtimes("runc", "namespace", "appkernel")


@pytest.fixture
def joined(container, make_container):
    """A sleeping container, and another that shares its namespaces but the PID namespace (or that too)."""

    def join(*kinds, prepare=None):
        container.bundle.add_busybox()
        container.spawn_sleeping()
        second = make_container()
        second.bundle.add_busybox()
        for kind in kinds or ("network", "ipc", "uts"):
            second.bundle.namespace(kind, f"/proc/{container.pid}/ns/{'net' if kind == 'network' else kind}")
        del second.bundle.spec["hostname"]
        if prepare:
            prepare(second.bundle)
        second.spawn_sleeping()
        return container, second

    return join


def kernel_of(container):
    """The pid of the application kernel that it lives in: the first process of its first process's PID namespace."""
    namespace = os.readlink(f"/proc/{container.pid}/ns/pid")
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            (numbers,) = (line.split()[1:] for line in status.read_text().splitlines() if line.startswith("NSpid:"))
            if numbers[-1] == "1" and os.readlink(status.parent / "ns/pid") == namespace:
                return int(status.parent.name)
        except OSError:
            pass
    return None


def cgroup_of(pid):
    """Of the controllers: what has none is for finding processes only."""
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return "\n".join(line for line in lines if "::" not in line or len(lines) == 1)


def stopped(container):
    """Waits for its end, and reaps its first process as an engine does: Linux holds the end of a PID namespace back until then."""
    wait_for_exit(container.pid)
    try:
        os.waitpid(container.pid, 0)
    except ChildProcessError:
        pass
    container.wait_status()


@ALL
def test_the_end_of_the_first_leaves_the_others(joined, runtime):
    first, second = joined()
    first.exec("/testinit", "ask", "shm", "4711", "create")
    first.kill("KILL")
    first.wait_stopped()
    assert second.status() == "running"
    first.delete()
    second.exec("/testinit", "ask", "shm", "4711")  # the IPC namespace lives on with it
    second.kill("KILL")
    second.wait_stopped()


@ALL
def test_the_first_processs_end_ends_who_shares_its_processes(joined, runtime):
    first, second = joined("pid", "network", "ipc", "uts")
    first.kill("KILL")
    stopped(second)
    stopped(first)


@ALL
def test_pausing_the_first_does_not_stop_the_others(joined, runtime):
    first, second = joined()
    runtime.call("pause", first.id)
    assert json.loads(second.exec("/testinit", "ask", "pids").stdout)
    runtime.call("resume", first.id)
    assert json.loads(first.exec("/testinit", "ask", "pids").stdout)
    runtime.call("pause", second.id)
    assert json.loads(first.exec("/testinit", "ask", "pids").stdout)
    runtime.call("resume", second.id)


@pytest.mark.runtimes("appkernel")
def test_the_kernel_ends_with_its_last_container(joined, runtime):
    first, second = joined()
    kernel = kernel_of(first)
    assert kernel == kernel_of(second)
    assert len({cgroup_of(kernel), cgroup_of(first.pid), cgroup_of(second.pid)}) == 3
    for each in (first, second):
        each.exec("/testinit", "ask", "pids")
        each.kill("KILL")
        stopped(each)
        each.delete()
    wait_for_exit(kernel)


@pytest.mark.runtimes("appkernel")
def test_a_kernel_with_one_container_is_in_that_ones_cgroup(container, runtime):
    """So that its limits hold for what the kernel does on its behalf."""
    container.spawn_sleeping()
    kernel = kernel_of(container)
    assert cgroup_of(kernel) == cgroup_of(container.pid)
    mounts = pathlib.Path(f"/proc/{kernel}/mountinfo").read_text().splitlines()
    assert len(mounts) <= 1, "it keeps no mount of the node's or of the container's"
    container.kill("KILL")
    stopped(container)
    wait_for_exit(kernel)


@ALL
@pytest.mark.parametrize("kinds", [("network", "ipc", "uts"), ("pid", "network", "ipc", "uts")])
def test_a_further_container_may_have_more_capabilities(joined, runtime, kinds):
    """Each container's capabilities are decided apart: one of them may configure the network of all."""
    more = lambda bundle: [each.append("CAP_NET_ADMIN") for each in bundle.process["capabilities"].values() if "CAP_NET_ADMIN" not in each]
    first, second = joined(*kinds, prepare=more)
    shrink = lambda container: container.exec("/bin/busybox", "ip", "link", "set", "lo", "mtu", "1400", check=False)
    assert not shrink(first).ok
    assert shrink(second).ok, shrink(second)
    second.kill("KILL")
    stopped(second)


@pytest.mark.runtimes("appkernel")
def test_what_the_kernel_holds_is_limited_for_each_container(joined, runtime):
    """A container's files in memory are in the kernel process, whose cgroup is the pod's: its own memory limit holds nevertheless."""
    mib = 1 << 20

    def prepare(bundle):
        bundle.linux["resources"]["memory"] = {"limit": 32 * mib}
        bundle.set_capabilities(["CAP_SYS_ADMIN"])
        bundle.mount("/given", "tmpfs", "memory", ["size=200m"])

    first, second = joined(prepare=prepare)

    def shell(container, script):
        return runtime.call("exec", container.id, "/bin/busybox", "sh", "-c", script, check=False)

    def used():
        return json.loads(runtime.call("events", "--stats", second.id).stdout)["data"]["memory"]["usage"]["usage"]

    assert shell(second, "busybox mkdir /made && busybox mount -t tmpfs -o size=200m scratch /made").ok
    for folder in ("/made", "/given"):  # by the guest itself; by the container's configuration
        before = used()
        filled = shell(second, f"busybox dd if=/dev/zero of={folder}/full bs=1M count=100")
        assert filled.status != 0 and "Cannot allocate memory" in filled.stderr, filled
        size = int(shell(second, f"busybox stat -c %s {folder}/full").stdout)
        assert 20 * mib < size <= 27 * mib
        assert used() - before >= 20 * mib  # its statistics have it
        # What is there can be written over.
        over = shell(second, f"busybox dd if=/dev/zero of={folder}/full bs=1M count=10 conv=notrunc")
        assert over.status == 0, over
        # It hurts nobody else, and is free again when the file has gone.
        others = shell(first, "busybox dd if=/dev/zero of=/dev/shm/fine bs=1M count=40 && busybox rm /dev/shm/fine")
        assert others.status == 0, others
        again = shell(second, f"busybox rm {folder}/full && busybox dd if=/dev/zero of={folder}/some bs=1M count=18 && busybox rm {folder}/some")
        assert again.status == 0, again
    mounts = shell(second, "busybox cat /proc/mounts").stdout
    assert "\nmemory /given tmpfs rw,relatime,size=204800k" in mounts, mounts
    assert "\nscratch /made tmpfs rw,relatime,size=200m" in mounts, mounts
