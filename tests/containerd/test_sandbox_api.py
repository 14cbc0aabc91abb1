"""containerd's Sandbox API, spoken to the shim directly: a pod without a pause container, and containers in it by the task API."""

import os
import threading

import pytest
import ttrpc
from harness.waiting import wait_for
from shim import POD, Shim, container_bundle, pod_config

RUNTIMES = pytest.mark.runtimes("namespace", "appkernel", "microvm")
NOT_FOUND, UNIMPLEMENTED = 5, 12


@pytest.fixture
def shim(runtime_name, folder, marker, leftovers):
    made = Shim(folder, f"{marker}pod", runtime_name)
    yield made
    made.remove()


@RUNTIMES
def test_a_pod_from_creation_to_shutdown(shim, netns, folder, marker, runtime_name):
    shim.pod("CreateSandbox", {2: str(shim.bundle), 4: pod_config(f"{marker}host"), 5: f"/run/netns/{netns}"})
    with pytest.raises(ttrpc.TtrpcError) as twice:
        shim.pod("CreateSandbox", {2: str(shim.bundle)})
    assert "already exists" in str(twice.value)
    platform = ttrpc.parse(shim.pod("Platform")[1][0])
    assert (ttrpc.text(platform, 1), ttrpc.text(platform, 2)) == ("linux", "amd64")
    assert ttrpc.text(shim.pod("SandboxStatus"), 3) == "SANDBOX_NOTREADY"
    pid = shim.pod("StartSandbox")[1][0]
    assert os.path.exists(f"/proc/{pid}")
    status = shim.pod("SandboxStatus", {2: True})
    assert (ttrpc.text(status, 3), status[2][0]) == ("SANDBOX_READY", pid)
    info = {ttrpc.text(row, 1): ttrpc.text(row, 2) for row in map(ttrpc.parse, status[4])}
    assert info["isolation"] == runtime_name and info["kernel"]
    shim.pod("PingSandbox")
    assert 3 in ttrpc.parse(shim.pod("SandboxMetrics")[1][0])

    # A container with the pod's name, in the pod's network namespace, on the pod's kernel.
    output = folder / "out"
    output.touch()
    bundle = container_bundle(folder / "c1", shim.id, pid, netns, ["/bin/sh", "-c", "/bin/busybox hostname; /bin/busybox uname -r; exec sleep 1000"])
    created = shim.task("Create", {1: f"{marker}c1", 2: str(bundle.path), 6: f"file://{output}"})
    assert os.path.exists(f"/proc/{created[1][0]}"), "a task's pid is one of the node's"
    shim.task("Start", {1: f"{marker}c1"})
    lines = lambda: output.read_text().splitlines()
    wait_for(lambda: len(lines()) == 2, "the container's words")
    assert lines() == [f"{marker}host", info["kernel"]]
    shim.task("Shutdown", {1: f"{marker}c1"})
    shim.pod("PingSandbox")  # it is the pod's end that ends the shim

    waited = []
    waiter = threading.Thread(target=lambda: waited.append(shim.pod("WaitSandbox")))
    waiter.start()
    shim.pod("StopSandbox", {2: 20})
    waiter.join(20)
    assert waited[0][1][0] == 137 and 2 in waited[0]
    assert ttrpc.text(shim.pod("SandboxStatus"), 3) == "SANDBOX_NOTREADY"
    assert shim.task("Wait", {1: f"{marker}c1"})[1][0] == 137
    shim.task("Delete", {1: f"{marker}c1"})
    shim.pod("ShutdownSandbox")
    wait_for(lambda: not is_served(shim.socket), "the shim to end")


def is_served(path):
    try:
        ttrpc.Client(path).close()
        return True
    except OSError:
        return False


@RUNTIMES
def test_a_killed_machine_or_holder_ends_the_pod(shim, netns):
    shim.pod("CreateSandbox", {2: str(shim.bundle), 4: pod_config("x"), 5: f"/run/netns/{netns}"})
    pid = shim.pod("StartSandbox")[1][0]
    os.kill(pid, 9)
    assert shim.pod("WaitSandbox")[1][0] == 137
    assert ttrpc.text(shim.pod("SandboxStatus"), 3) == "SANDBOX_NOTREADY"
    shim.pod("StopSandbox")
    shim.pod("ShutdownSandbox")
    wait_for(lambda: not is_served(shim.socket), "the shim to end")


@pytest.mark.runtimes("microvm")
def test_bad_requests_are_refused_and_leave_the_shim_alive(shim, netns):
    for method, fields, words in [
        ("StartSandbox", {}, "not found"),
        ("CreateSandbox", {1: ""}, "sandbox_id"),
        ("CreateSandbox", {4: {1: "runtime.v1.PodSandboxConfig", 2: b"\xff\xff\xff\xff"}}, "PodSandboxConfig"),
        ("NoSuchMethod", {}, "not supported"),
    ]:
        with pytest.raises(ttrpc.TtrpcError) as refused:
            shim.pod(method, fields)
        assert words in str(refused.value)
    shim.pod("CreateSandbox", {2: str(shim.bundle), 4: pod_config("x")})
    with pytest.raises(ttrpc.TtrpcError) as other:
        shim.client.call(POD, "StartSandbox", {1: "another"})
    assert other.value.code == NOT_FOUND
    shim.pod("StopSandbox")
    with pytest.raises(ttrpc.TtrpcError):
        shim.pod("StartSandbox")
    shim.pod("ShutdownSandbox")


@pytest.mark.runtimes("microvm")
def test_host_network_is_refused_unless_configured(folder, marker, leftovers, runtime_name):
    on_the_node = {8: {2: {1: {1: 2}}}}  # linux.security_context.namespace_options.network: NODE
    for body, allowed in (("", False), ('host_network = "namespace"\n', True)):
        place = folder / str(allowed)
        place.mkdir()
        shim = Shim(place, f"{marker}{allowed}", "microvm", body)
        try:
            shim.pod("CreateSandbox", {2: str(shim.bundle), 4: {1: "runtime.v1.PodSandboxConfig", 2: ttrpc.message(on_the_node)}})
            if allowed:
                pid = shim.pod("StartSandbox")[1][0]
                assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
                shim.pod("StopSandbox")
            else:
                with pytest.raises(ttrpc.TtrpcError) as refused:
                    shim.pod("StartSandbox")
                assert "hostNetwork" in str(refused.value) and refused.value.code == UNIMPLEMENTED
            shim.pod("ShutdownSandbox")
        finally:
            shim.remove()


@pytest.mark.runtimes("namespace", "appkernel")
def test_containers_of_a_pod_come_and_go_in_any_order(shim, netns, folder, marker):
    """Created and never started, started in another order, killed, failed: each is its own, whatever they share."""
    created, running, stopped = 1, 2, 3
    shim.pod("CreateSandbox", {2: str(shim.bundle), 4: pod_config("x"), 5: f"/run/netns/{netns}"})
    pid = shim.pod("StartSandbox")[1][0]

    def create(name, command=("/bin/sh", "-c", "exec sleep 1000")):
        container = f"{marker}{name}"
        bundle = container_bundle(folder / name, shim.id, pid, netns, list(command))
        shim.task("Create", {1: container, 2: str(bundle.path)})
        return container

    start = lambda container: shim.task("Start", {1: container})
    kill = lambda container: shim.task("Kill", {1: container, 3: 9})
    delete = lambda container: shim.task("Delete", {1: container})
    status = lambda container: shim.task("State", {1: container})[4][0]
    first, second, third = create("a"), create("b"), create("c")
    assert [status(each) for each in (first, second, third)] == [created] * 3
    start(third)
    start(first)
    kill(third)
    assert shim.task("Wait", {1: third})[1][0] == 137
    delete(third)
    assert [status(first), status(second)] == [running, created]
    kill(second)  # never started
    wait_for(lambda: status(second) == stopped, "the one that was never started to end")
    delete(second)
    with pytest.raises(ttrpc.TtrpcError):
        start(create("d", ["/no/such/program"]))
    fourth = create("e")
    start(fourth)
    assert [status(first), status(fourth)] == [running, running]
    kill(first)
    assert shim.task("Wait", {1: first})[1][0] == 137
    delete(first)
    assert status(fourth) == running
    shim.pod("StopSandbox", {2: 20})
    assert shim.task("Wait", {1: fourth})[1][0] == 137
    delete(fourth)
    shim.pod("ShutdownSandbox")
    wait_for(lambda: not is_served(shim.socket), "the shim to end")
