"""Hostile containers: whatever one does, the node is unharmed and the front answers. tests/guest/offender is the program that tries."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import threading
import time
import uuid

import pytest

from harness import leftovers as leftovers_module
from harness import runtime as runtime_module
from harness.waiting import wait_for

MIB = 1 << 20
BOTH = pytest.mark.runtimes("namespace", "appkernel", "microvm")
GUEST = pytest.mark.runtimes("microvm")
# What a command may take while an offender is at work.
PATIENCE = 60


def offender_binary():
    return pathlib.Path(runtime_module.testinit_binary()).parent / "offender"


@pytest.fixture
def offend(container):
    """offend("flood") -> the container with that for its process, not yet created."""
    shutil.copy(offender_binary(), container.bundle.rootfs / "offender")

    def prepare(*args, privileged=False, share_pids=False):
        container.bundle.process["args"] = ["/offender", *args]
        if privileged:
            container.bundle.privileged()
        if share_pids:
            container.bundle.without_namespace("pid")
        return container

    return prepare


def node_state():
    """What a container must not be able to change on the node. Scratch folders are other people's, too: they come and go."""
    temporary = ("/tmp", "/run", "/var")
    mounts = [line.split() for line in open("/proc/self/mountinfo")]
    state = {"mounts": [(fields[4], fields[5]) for fields in mounts if not fields[4].startswith(temporary)]}
    for name in ("core_pattern", "hostname", "domainname", "modprobe", "randomize_va_space", "panic", "sysrq"):
        file = pathlib.Path(f"/proc/sys/kernel/{name}")
        state[name] = file.read_text() if file.exists() else None
    state["subtree"] = [path.read_text() for path in [pathlib.Path("/sys/fs/cgroup/cgroup.subtree_control")] if path.exists()]
    state["dev"] = sorted(entry.name for entry in os.scandir("/dev") if not entry.name.startswith(("pts", "shm", "tty")))
    return state


@pytest.fixture(autouse=True)
def unharmed_node(scratch, request):
    """Fails the test where the node is not as it was; gives the name of a file that only somebody who has broken out can see."""
    canary = scratch / f"canary-{uuid.uuid4().hex}"
    canary.write_text("untouched")
    before = node_state()
    yield canary
    assert canary.read_text() == "untouched"
    marks = [str(path) for path in scratch.rglob("offender-was-here") if "rootfs" not in path.parts]
    assert not marks, "the offender has written outside of its root file system"
    assert node_state() == before
    canary.unlink()


def assert_front_answers(runtime, *containers):
    for container in containers:
        start = time.monotonic()
        runtime.call("state", container.id, check=False, timeout=PATIENCE)
        assert time.monotonic() - start < 10, "state took too long"
    runtime.call("list", timeout=PATIENCE)


def end(container):
    """Killed and deleted, whatever it is in the middle of."""
    container.runtime.call("delete", "--force", container.id, timeout=PATIENCE)
    assert container.state() is None


def alive(container):
    """The sandbox lives: it runs another process."""
    return container.exec("/testinit", "echo", "alive", timeout=PATIENCE).stdout == "alive\n"


def memory_of_descendants():
    """Kilobytes, shared pages counted in proportion."""
    total = 0
    for pid, _, command in leftovers_module.descendants(os.getpid()):
        if "offender" in command:
            continue
        try:
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


@BOTH
def test_flood_of_output(offend, runtime):
    """Nobody reads: the container waits, nothing grows. Then somebody reads a little, and then nobody at all again."""
    container = offend("flood")
    container.bundle.write()
    reader, writer = os.pipe()
    try:
        runtime.call("create", "--bundle", container.bundle.path, container.id, stdout=writer, stderr=writer)
        os.close(writer)
        writer = -1
        container.start()
        wait_for(lambda: os.read(reader, 65536), "output")
        assert alive(container)
        before = memory_of_descendants()
        end_of_reading = time.monotonic() + 2
        total = 0
        while time.monotonic() < end_of_reading:
            total += len(os.read(reader, 1 << 20))
        assert total > MIB
        assert_front_answers(runtime, container)
        assert alive(container)
        assert memory_of_descendants() < before + 64 * 1024
        container.kill("KILL")  # with all its pipes full
        if runtime.is_vm:  # the end is told when everything that had left the container has been read
            while os.read(reader, 1 << 20):
                pass
        container.wait_status("stopped", deadline=10)
    finally:
        for fd in (reader, writer):
            if fd >= 0:
                os.close(fd)
        end(container)


@BOTH
def test_fork_bomb(offend, runtime):
    container = offend("fork-bomb")
    container.bundle.linux["resources"]["pids"] = {"limit": 60}
    container.spawn()
    container.wait_output("ready")
    assert "refused fork EAGAIN" in container.output()
    assert_front_answers(runtime, container)
    container.kill("KILL")
    container.wait_status("stopped")
    container.delete()


@BOTH
def test_descriptor_exhaustion(offend, runtime):
    container = offend("descriptors")
    container.bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}]
    container.spawn()
    wait_for(lambda: container.output().count("done descriptors") == 8, "eight processes with full tables")
    assert_front_answers(runtime, container)
    assert alive(container)
    end(container)


@BOTH
def test_memory_hog_is_reported_and_the_sandbox_lives(offend, runtime):
    container = offend()
    container.bundle.linux["resources"]["memory"] = {"limit": 64 * MIB, "swap": 64 * MIB}
    container.spawn_sleeping()
    events = runtime.popen("events", container.id, stdout=subprocess.PIPE, text=True)
    lines = []
    thread = threading.Thread(target=lambda: lines.extend(events.stdout), daemon=True)
    thread.start()
    try:
        # The largest process is the victim: the hog, not the container's first one.
        outcome = container.exec("/offender", "hog", check=False, timeout=PATIENCE)
        assert outcome.status == 137, outcome
        assert alive(container)
        stats = json.loads(runtime.call("events", "--stats", container.id).stdout)
        assert stats["data"]["memory"]["usage"]["limit"] == 64 * MIB
        assert stats["data"]["memory"]["usage"]["max"] > 32 * MIB
    finally:
        end(container)
        events.wait(timeout=PATIENCE)
        thread.join(PATIENCE)
    kinds = [json.loads(line)["type"] for line in lines if line.strip()]
    assert "oom" in kinds, kinds


@BOTH
def test_full_tmpfs(offend, runtime):
    container = offend("fill", "/dev/shm")
    container.spawn()
    container.wait_output("ready", deadline=PATIENCE)
    assert "done fill 64 MiB ENOSPC" in container.output()
    assert_front_answers(runtime, container)
    assert alive(container)
    end(container)


@GUEST
def test_full_guest_memory(offend, runtime):
    """A tmpfs without a size, in a container without a limit: the guest runs out of memory, the node does not notice."""
    container = offend("fill", "/data")
    container.bundle.mount("/data", "tmpfs", "tmpfs", options=["size=100%"])
    container.spawn()
    wait_for(lambda: "done fill" in container.output() or container.status() != "running", "a full file system or a dead guest", deadline=PATIENCE)
    assert_front_answers(runtime, container)
    end(container)


@BOTH
def test_nobody_ever_reads(offend, runtime):
    """`delete --force` waits for no reader."""
    container = offend("flood")
    container.bundle.write()
    reader, writer = os.pipe()
    try:
        runtime.call("create", "--bundle", container.bundle.path, container.id, stdout=writer, stderr=writer)
        container.start()
        assert os.read(reader, 4096)
        assert alive(container)
        start = time.monotonic()
        end(container)
        assert time.monotonic() - start < 15
    finally:
        os.close(reader)
        os.close(writer)


HOSTILE_LINKS = ["{victim}", "../../../../../../../../..{victim}", "/proc/self/root/{victim}", "/proc/1/root/{victim}"]


PLACES = ["data", "dev", "proc", "sys", "etc"]


def run_with_hostile_link(container, folder, place, target):
    victim = folder / "victim"
    victim.mkdir()
    (victim / "hostname").write_text("untouched")
    before = sorted(entry.name for entry in victim.iterdir())
    link = container.bundle.rootfs / place
    shutil.rmtree(link, ignore_errors=True)
    link.symlink_to(target.format(victim=victim))
    container.bundle.mount("/data/sub", "tmpfs", "tmpfs")
    container.bundle.mount("/etc/hostname", "bind", str(container.bundle.path / "config.json"), options=["bind", "ro"])
    container.bundle.process["args"] = ["/testinit", "exit", "0"]
    container.run(check=False)  # refused, or kept inside: both are right
    assert sorted(entry.name for entry in victim.iterdir()) == before
    assert (victim / "hostname").read_text() == "untouched"
    assert_front_answers(container.runtime)


@pytest.mark.runtimes("namespace")
@pytest.mark.parametrize("target", range(len(HOSTILE_LINKS)))
@pytest.mark.parametrize("place", PLACES)
def test_hostile_links_in_the_root_file_system(container, folder, place, target):
    """Every place that the runtime mounts on, makes nodes in or writes to may be a link to the node."""
    run_with_hostile_link(container, folder, place, HOSTILE_LINKS[target])


@GUEST
@pytest.mark.parametrize("place", PLACES)
def test_hostile_links_seen_through_a_share(container, folder, place):
    """The same where the guest mounts and the host makes what it binds: fewer cases, as each boots a guest."""
    run_with_hostile_link(container, folder, place, HOSTILE_LINKS[PLACES.index(place) % 2])


@GUEST
def test_privileged_mounts_everything(offend, runtime, unharmed_node):
    container = offend("mount-everything", unharmed_node.name, privileged=True)
    container.spawn()
    wait_for(lambda: "ready" in container.output() or container.status() != "running", "the end of the attempts", deadline=PATIENCE)
    assert "FOUND" not in container.output(), container.output()
    assert_front_answers(runtime, container)
    end(container)


@GUEST
def test_killing_the_agent(offend, runtime):
    """With the guest's PID namespace, process 1 is the agent: without it the sandbox ends, and says so."""
    container = offend("kill-agent", privileged=True, share_pids=True)
    container.spawn()
    wait_for(lambda: "ready" in container.output() or container.status() != "running", "the end of the attempts", deadline=PATIENCE)
    assert_front_answers(runtime, container)
    end(container)


@GUEST
@pytest.mark.parametrize("door", ["sysrq", "reboot"])
def test_crash_of_the_guest_kernel(offend, runtime, door):
    container = offend("crash", door, privileged=True, share_pids=True)
    container.bundle.without_namespace("pid")
    container.spawn()
    wait_for(lambda: "refused" in container.output() or container.status() != "running", "the end of the guest", deadline=PATIENCE)
    assert_front_answers(runtime, container)
    end(container)


@GUEST
@pytest.mark.parametrize("kind", ["garbage", "frames"])
def test_forged_frames(offend, runtime, kind):
    """The agent's own port, written to by a container: at worst this sandbox is over."""
    container = offend("forge", kind, privileged=True, share_pids=True)
    container.spawn()
    wait_for(lambda: "ready" in container.output() or container.status() != "running", "the end of the forgery", deadline=PATIENCE)
    assert_front_answers(runtime, container)
    before = memory_of_descendants()
    assert before < 2 * 1024 * 1024
    end(container)


@pytest.mark.runtimes("appkernel")
def test_network_namespaces(offend, runtime):
    """One after another, as many at once as there may be, and ways from one to the pod's network."""
    container = offend("networks")
    container.bundle.set_capabilities(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"])
    container.spawn()
    wait_for(lambda: "ready" in container.output() or container.status() != "running", "the last network namespace", deadline=PATIENCE * 2)
    wanted = ["refused connect ECONNREFUSED", "refused move ESRCH", "refused move EBADF", "refused another ENOSPC", "done 127 networks", "ready"]
    assert container.output().splitlines() == wanted
    assert len([pid for pid, comm in commands() if comm == "caisson-room\n"]) == 127
    assert_front_answers(runtime, container)
    assert alive(container)
    end(container)
    wait_for(lambda: not [pid for pid, comm in commands() if comm.startswith("caisson-room")], "the end of the rooms")


def commands():
    """What our descendants are called."""
    found = []
    for pid, *_ in leftovers_module.descendants(os.getpid()):
        try:
            found.append((pid, pathlib.Path(f"/proc/{pid}/comm").read_text()))
        except OSError:
            continue
    return found


@pytest.mark.runtimes("appkernel")
def test_attacks_from_inside_a_stub(container, runtime, unharmed_node):
    """tests/guest/offender/stub_offender.cc: the stub's code, thunks, the pages that it shares with the kernel process, races, device nodes. The worst result is a dead guest process."""
    shutil.copy(offender_binary().parent / "stub_offender", container.bundle.rootfs)
    os.mknod(container.bundle.rootfs / "node", 0o666 | stat.S_IFCHR, os.makedev(1, 11))
    container.bundle.process["args"] = ["/stub_offender", str(unharmed_node), "/node"]
    container.bundle.spec["annotations"] = {"io.caisson.appkernel.patch": "true"}
    outcome = container.run(check=False, timeout=PATIENCE * 2)
    lines = outcome.stdout.splitlines()
    assert len([line for line in lines if line.startswith("ok ")]) == 19 and outcome.status == 0, outcome
    assert_front_answers(runtime)


# CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID; SETFCAP, since a further container of a pod may need it.
FILE_CAPABILITIES = 0b1101_1111 | 1 << 31
NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_ADMIN, SETFCAP = (1 << number for number in (10, 12, 13, 21, 31))
DOCKER = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"


@pytest.mark.runtimes("appkernel")
@pytest.mark.parametrize(
    "guest, kept, own_network, own_user_namespace, broker",
    [
        ("CHOWN NET_BIND_SERVICE", FILE_CAPABILITIES | NET_BIND_SERVICE, True, True, 0),
        (DOCKER, FILE_CAPABILITIES | NET_BIND_SERVICE | SETFCAP, True, True, NET_RAW),
        (DOCKER, FILE_CAPABILITIES | NET_BIND_SERVICE | SETFCAP, False, True, NET_RAW | NET_BIND_SERVICE),
        ("NET_RAW NET_ADMIN", FILE_CAPABILITIES, True, True, NET_RAW | NET_ADMIN),
    ],
    ids=["few", "docker", "docker-host-network", "network"],
)
def test_the_kernel_process_is_walled_in(container, guest, kept, own_network, own_user_namespace, broker):
    """What the host shows of the kernel process, of its network broker and of a stub of a running container."""
    container.bundle.set_capabilities(["CAP_" + name for name in guest.split()])
    if not own_network:
        container.bundle.without_namespace("network")
    container.spawn_sleeping()
    # No container's process: the state names the one that stands for it.
    named = [pathlib.Path("/proc") / str(pid) for pid, *_ in leftovers_module.descendants(os.getpid())]
    [kernel] = [process for process in named if process.exists() and (process / "comm").read_text() == "caisson-kernel\n"]

    def field(process, name):
        return next(line.split()[1] for line in (process / "status").read_text().splitlines() if line.startswith(name + ":"))

    def children(name):
        numbers = " ".join(children.read_text() for children in kernel.glob("task/*/children")).split()
        return [process for process in (pathlib.Path("/proc") / number for number in numbers) if (process / "comm").read_text() == name + "\n"]

    assert field(kernel, "Seccomp") == "2" and field(kernel, "NoNewPrivs") == "1"
    assert int(field(kernel, "CapPrm"), 16) == kept == int(field(kernel, "CapBnd"), 16)
    assert (os.readlink(kernel / "ns/user") != os.readlink("/proc/self/ns/user")) == own_user_namespace
    assert os.listdir(kernel / "root") == []
    # Its working folder is its /proc: processes of its PID namespace, and nothing of the machine.
    assert all(name.isdigit() or name in ("self", "thread-self") for name in os.listdir(kernel / "cwd"))
    brokers = children("caisson-broker")
    assert len(brokers) == (1 if broker else 0)
    for process in brokers:
        assert os.readlink(process / "ns/user") == os.readlink("/proc/self/ns/user") and os.readlink(process / "ns/net") == os.readlink(kernel / "ns/net")
        assert int(field(process, "CapPrm"), 16) == broker and int(field(process, "CapBnd"), 16) == 0
        assert field(process, "NoNewPrivs") == "1" and field(process, "Seccomp") == "2"
        assert os.listdir(process / "root") == [] and os.listdir(process / "cwd") == [] and len(os.listdir(process / "fd")) == 1
    [rooms] = children("caisson-rooms")
    assert os.readlink(rooms / "ns/user") not in (os.readlink(kernel / "ns/user"), os.readlink("/proc/self/ns/user"))
    assert int(field(rooms, "CapPrm"), 16) == SYS_ADMIN | NET_ADMIN | NET_RAW | NET_BIND_SERVICE and int(field(rooms, "CapBnd"), 16) == 0
    assert field(rooms, "Uid") == "65534" and field(rooms, "NoNewPrivs") == "1" and field(rooms, "Seccomp") == "2"
    assert os.listdir(rooms / "root") == [] and os.listdir(rooms / "cwd") == [] and len(os.listdir(rooms / "fd")) == 2
    stubs = children("caisson-guest")
    assert stubs
    for stub in stubs:
        assert int(field(stub, "CapPrm"), 16) == 0 and field(stub, "NoNewPrivs") == "1" and field(stub, "Seccomp") == "2"
        assert os.listdir(stub / "root") == []
        assert len(os.listdir(stub / "fd")) <= 1
    container.kill("KILL")
    container.wait_status("stopped")
    container.delete()
