"""The kernel process of a container as if a guest had taken it. tests/guest/offender/taken_kernel.cc, a program of the host, stops the kernel process of a running
container and makes its calls: with exactly its privileges, namespaces, root directory, descriptors and filter it tries to leave, and must not get anywhere."""

import os
import pathlib
import shutil
import signal
import stat
import subprocess
import threading

import pytest

from harness import leftovers as leftovers_module
from harness import runtime as runtime_module
from harness.waiting import wait_for

pytestmark = pytest.mark.runtimes("appkernel")
PATIENCE = 60
ATTEMPTS = 18  # of attempts.cc
FATAL = "chroot mount fsopen open_tree setns unshare ptrace pidfd_getfd open_by_handle_at execveat bpf io_uring_setup keyctl userfaultfd 32-bit-gate"
DOCKER = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"


def program():
    return pathlib.Path(runtime_module.testinit_binary()).parent / "taken_kernel"


def take(*args, check=True):
    outcome = subprocess.run([program(), *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    assert not check or outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout.splitlines()


def kernel_process():
    named = [(pid, pathlib.Path(f"/proc/{pid}/comm")) for pid, *_ in leftovers_module.descendants(os.getpid())]
    [kernel] = [pid for pid, comm in named if comm.exists() and comm.read_text() == "caisson-kernel\n"]
    return kernel


@pytest.fixture
def canary(scratch):
    file = scratch / "canary"
    file.write_text("untouched")
    yield file
    assert file.read_text() == "untouched" and stat.S_IMODE(file.stat().st_mode) == 0o644
    file.unlink()


def furnish(container, canary, folder):
    """Links out of everything that the container has of the node, and a device node in it."""
    volume = folder / "volume"
    volume.mkdir()
    for place in (volume, container.bundle.rootfs):
        (place / "absolute").symlink_to(canary)
        (place / "up").symlink_to("../" * 12 + str(canary).lstrip("/"))
        os.mknod(place / "node", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    container.bundle.mount("/volume", "bind", str(volume), options=["bind", "rw"])
    return [volume, container.bundle.rootfs]


def assert_node_unharmed(runtime, container, folders):
    assert not [place for place in folders if (place / "taken-made").exists()]
    runtime.call("list", timeout=PATIENCE)
    runtime.call("delete", "--force", container.id, timeout=PATIENCE)
    assert container.state() is None


@pytest.mark.parametrize(
    "guest, own_network",
    [("CHOWN", True), (DOCKER, True), (DOCKER + " NET_ADMIN SYS_ADMIN SYS_PTRACE", True), (DOCKER, False)],
    ids=["few", "docker", "administrator", "docker-host-network"],
)
def test_who_takes_the_kernel_process_stays_inside(container, runtime, canary, folder, guest, own_network):
    container.bundle.set_capabilities(["CAP_" + name for name in guest.split()])
    if not own_network:
        container.bundle.without_namespace("network")
    folders = furnish(container, canary, folder)
    container.spawn_sleeping()
    # Another process that stands for one of the guest's, and was not made by the kernel process.
    standing = runtime.popen("exec", container.id, "/testinit", "sleep", stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: len(runtime.call("ps", "--format", "json", container.id).stdout.split(",")) > 1, "the exec")
        lines = take("walls", kernel_process(), canary, *folders)
        assert len(lines) == ATTEMPTS and all(line.startswith("ok ") for line in lines), lines
        # It goes on as if nothing had been.
        assert container.exec("/testinit", "echo", "alive", timeout=PATIENCE).stdout == "alive\n"
    finally:
        assert_node_unharmed(runtime, container, folders)
        standing.wait(timeout=PATIENCE)
        standing.stdout.close()


def test_the_attempts_work_outside(canary):
    """The same by a process that nothing confines, so that no attempt fails for a reason of its own."""
    lines = take("control", canary)
    assert take("names") == FATAL.split()
    assert len(lines) >= ATTEMPTS and all(line.startswith("ok ") for line in lines), lines


@pytest.mark.parametrize("name", FATAL.split())
def test_what_no_kernel_process_does_ends_it(container, runtime, name):
    container.spawn_sleeping()
    # The end of a PID namespace's first process waits for those of the others to be reaped: the one that stands for the container is ours.
    reaper = threading.Thread(target=os.waitpid, args=(container.pid, 0))
    reaper.start()
    assert take("fatal", kernel_process(), name) == [f"ok {name} killed, signal {signal.SIGSYS:d}"]
    reaper.join(PATIENCE)
    container.wait_status("stopped")
    container.delete()


def test_a_flood_of_descriptors_reaches_nobody(container, runtime):
    """Everything that the kernel process has, sent to everybody who listens to it: whoever gets it lets go of it."""
    container.spawn_sleeping()
    kernel = kernel_process()
    parents = [pid for pid, *_ in leftovers_module.descendants(os.getpid()) if os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")]
    before = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in parents}
    [line] = take("flood", kernel)
    assert int(line.split()[1]) > 0, line
    assert container.status() in ("running", "stopped")
    for pid, count in before.items():
        wait_for(lambda: not pathlib.Path(f"/proc/{pid}/fd").exists() or len(os.listdir(f"/proc/{pid}/fd")) <= count + 1, f"process {pid} to let go")
    runtime.call("delete", "--force", container.id, timeout=PATIENCE)
    assert container.state() is None
