"""Pods in numbers, processes that die or hang, and what a shim costs."""

import concurrent.futures
import os
import pathlib
import signal
import subprocess
import time

import pytest
from harness.runtime import REPOSITORY
from harness.waiting import wait_for, wait_for_exit
from hostile import MIB, private_bytes
from images import BUSYBOX
from node import RUNTIME_TYPES

ALL = pytest.mark.runtimes("runc", "namespace", "microvm")
OURS = pytest.mark.runtimes("namespace", "microvm")


def status_of(node, name):
    for line in node.ctr("tasks", "ls").stdout.splitlines():
        if line.split()[:1] == [name]:
            return line.split()[2], int(line.split()[1])
    return None, 0


def start(node, runtime, name, *command, options=()):
    node.ctr("run", "--runtime", RUNTIME_TYPES[runtime], "--detach", *options, BUSYBOX, name, *command)
    state, pid = status_of(node, name)
    assert state == "RUNNING"
    return pid


def remove(node, name, limit):
    """Removes a task within limit seconds, whatever has become of it."""
    begin = time.monotonic()
    node.ctr("tasks", "rm", "-f", name, check=False)
    wait_for(lambda: node.ctr("containers", "rm", name, check=False).ok, f"container {name} to be removed", deadline=limit, interval=0.2)
    assert time.monotonic() - begin < limit


def children(pid):
    return [int(entry) for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for entry in path.read_text().split()]


def below(pid):
    found = []
    for child in children(pid):
        found += [child, *below(child)]
    return found


def virtual_machine(node):
    """The VMM of the node's only shim."""
    (shim,) = node.shims()
    for pid in below(shim):
        if "qemu" in pathlib.Path(f"/proc/{pid}/comm").read_text():
            return pid
    raise AssertionError(f"shim {shim} has no virtual machine below it: {below(shim)}")


@ALL
def test_many_pods_in_batches_leave_nothing(network, crictl, clean, runtime_name, name, folder):
    """Pods with a container each, started and removed side by side. A micro-VM boots in seconds here, so fewer of them."""
    from pods import Pod
    count = 6 if runtime_name == "microvm" else 50 if runtime_name == "namespace" else 10
    interfaces = set(os.listdir("/sys/class/net"))
    shims = set(clean.shims())
    sandbox_folders = lambda: {path for place in ("caisson/shim", "caisson-shim") for path in pathlib.Path("/run", place).glob("k8s.io/*")}
    folders = sandbox_folders()

    def whole_life(number):
        pod = Pod(crictl, runtime_name, f"{name}n{number}", folder)
        try:
            container = pod.start(["sh", "-c", f"echo I am {number}; sleep 1000"])
            log = pod.logs / "c1.log"
            wait_for(lambda: f"I am {number}" in log.read_text(), f"pod {number} to speak")
            return container
        finally:
            pod.remove()

    with concurrent.futures.ThreadPoolExecutor(2 if runtime_name == "microvm" else 5) as pool:
        assert len(set(pool.map(whole_life, range(count)))) == count
    wait_for(lambda: set(clean.shims()) == shims, "all shims to end")
    left = lambda: sorted(entry for entry in set(os.listdir("/sys/class/net")) - interfaces if not entry.startswith("caissonct"))
    wait_for(lambda: not left(), "the interfaces of all pods to go", deadline=10)
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo") if str(clean.folder / "state") in line]
    assert not mounts
    assert sandbox_folders() <= folders
    assert "Ready" not in crictl.call("pods").stdout


@ALL
def test_a_shim_is_small(clean, runtime_name, name, record_property):
    """At most 2 MiB of private memory, idle, beside another shim (whose program's pages it shares). runc's own is measured beside it and not judged."""
    for number in range(2):
        start(clean, runtime_name, f"{name}{number}", "sleep", "1000")
    private = [private_bytes(pid, ("Private_Clean", "Private_Dirty")) for pid in clean.shims()]
    print(f"{runtime_name}: private memory of the shims: {[f'{size / MIB:.2f} MiB' for size in private]}")
    record_property("shim_private_bytes", max(private))
    assert len(private) == 2
    if runtime_name != "runc":
        assert max(private) <= 2 * MIB, private
    for number in range(2):
        remove(clean, f"{name}{number}", 30)


@pytest.mark.runtimes("namespace", "appkernel", "microvm")
def test_the_pid_of_a_task_is_the_nodes(clean, runtime_name, name):
    pid = start(clean, runtime_name, name, "sleep", "1000")
    (shim,) = clean.shims()
    # A machine's is that of its monitor, with an application kernel one that stands for the program; with isolation namespace it is the program itself.
    assert pid in below(shim), (pid, below(shim))
    comm = pathlib.Path(f"/proc/{pid}/comm").read_text()
    assert {"microvm": "qemu", "appkernel": "caisson-init"}.get(runtime_name, "sleep") in comm
    remove(clean, name, 30)


@pytest.mark.runtimes("microvm")
def test_a_killed_machine_ends_its_task_with_an_event(clean, runtime_name, name):
    events = subprocess.Popen(clean.ctr_argv("events"), stdout=subprocess.PIPE, text=True)
    try:
        start(clean, runtime_name, name, "sleep", "1000")
        os.kill(virtual_machine(clean), signal.SIGKILL)
        seen = []
        def exited():
            seen.append(events.stdout.readline())
            return "/tasks/exit" in seen[-1] and name in seen[-1]
        wait_for(exited, "the exit event")
        assert '"exit_status":137' in seen[-1].replace(" ", ""), seen[-1]
        assert status_of(clean, name)[0] == "STOPPED"
        remove(clean, name, 10)
    finally:
        events.kill()
        events.wait()


@pytest.mark.runtimes("microvm")
def test_a_hung_guest_blocks_neither_kill_nor_delete(clean, runtime_name, name):
    """The machine is stopped, so that nothing inside answers any more: the calls come back all the same, and everything goes."""
    configuration = clean.folder / "hasty.toml"
    configuration.write_text("[microvm]\nagent_timeout_seconds = 3\nboot_timeout_seconds = 240\n")
    start(clean, runtime_name, name, "sleep", "1000", options=("--runtime-config-path", configuration))
    machine = virtual_machine(clean)
    os.kill(machine, signal.SIGSTOP)
    begin = time.monotonic()
    clean.ctr("tasks", "kill", "-s", "SIGKILL", name, check=False, timeout=90)
    remove(clean, name, 30)
    wait_for_exit(machine, deadline=10)
    assert time.monotonic() - begin < 30
    wait_for(lambda: not clean.shims(), "the shim to end")


@pytest.mark.runtimes("microvm")
def test_sigkill_does_not_wait_for_a_hung_guest(clean, runtime_name, name):
    """With the usual deadlines of calls (30 s): who kills wants it to be over."""
    start(clean, runtime_name, name, "sleep", "1000")
    machine = virtual_machine(clean)
    os.kill(machine, signal.SIGSTOP)
    begin = time.monotonic()
    clean.ctr("tasks", "kill", "-s", "SIGKILL", name, timeout=30)
    wait_for(lambda: status_of(clean, name)[0] == "STOPPED", "the end of the task", deadline=15, interval=0.1)
    assert time.monotonic() - begin < 10, "1.5 s for an answer, 3 s for a sign of life, and this machine's slowness"
    wait_for_exit(machine, deadline=10)
    remove(clean, name, 10)


@OURS
def test_shim_delete_of_what_is_not_there_leaves_the_pod_alone(network, make_pod, clean, runtime_name):
    """As containerd calls it after a create that failed: for an id that never became a task, from the folder of one that did."""
    pod = make_pod()
    first, second = pod.start(["sleep", "1000"]), pod.start(["sleep", "1000"])
    shim = clean.bin / pathlib.Path("containerd-shim-caisson-v2")
    bundle = clean.folder / "state/io.containerd.runtime.v2.task/k8s.io" / second
    # From a folder without config.json, as after a crash between the two.
    for place in (bundle, pod.folder):
        subprocess.run([shim, "-namespace", "k8s.io", "-address", clean.address, "-id", f"{second}x", "delete"], cwd=place, capture_output=True, check=True, timeout=30)
    assert pod.exec(first, "echo", "alive").stdout == "alive\n"
    assert pod.exec(pod.start(["sleep", "1000"]), "echo", "new").stdout == "new\n"


@pytest.mark.runtimes("namespace", "appkernel", "microvm")
def test_shim_delete_of_one_container_of_a_pod(network, make_pod, clean, runtime_name):
    """It is killed and freed by the pod's shim; the pod and its other containers live on."""
    pod = make_pod()
    first, second = pod.start(["sleep", "1000"]), pod.start(["sleep", "1000"])
    bundle = clean.folder / "state/io.containerd.runtime.v2.task/k8s.io" / second
    done = subprocess.run([clean.bin / "containerd-shim-caisson-v2", "-namespace", "k8s.io", "-address", clean.address, "-id", second, "delete"], cwd=bundle,
                          capture_output=True, check=True, timeout=60)
    assert done.stderr == b"" and b"\x10\x89\x01" in done.stdout, f"not exit status 137: {done.stdout}"
    assert pod.exec(first, "echo", "alive").stdout == "alive\n"
    assert not os.path.ismount(bundle / "rootfs")
    wait_for(lambda: pod.crictl.json("inspect", second)["status"]["state"] == "CONTAINER_EXITED", "containerd to hear of the end")


@pytest.mark.runtimes("microvm")
def test_example_compare_kernels(clean, runtime_name):
    done = subprocess.run([REPOSITORY / "examples/compare-kernels", "--address", clean.address], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("PASS") and os.uname().release in done.stdout
    same = subprocess.run([REPOSITORY / "examples/compare-kernels", "--address", clean.address, "--runtime", RUNTIME_TYPES["namespace"]], capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL)
    assert same.returncode == 1 and same.stdout.splitlines()[-1].startswith("FAIL"), same.stdout + same.stderr
