"""Block devices of the node: as raw volumes (volumeMode: Block), mounted ones left alone, and as root file systems."""

import os
import pathlib
import subprocess

import pytest
import ttrpc
from harness.waiting import wait_for
from images import BUSYBOX
from node import RUNTIME_TYPES
from shim import TASK, Shim
from test_lifecycle import below

ALL = pytest.mark.runtimes("runc", "namespace", "microvm")
OURS = pytest.mark.runtimes("namespace", "microvm")
MIB = 1 << 20
BLOCK = 4096


@pytest.fixture
def loop(folder):
    """loop(name, bytes or size): (image file, its loop device)."""
    made = []

    def make(name, contents):
        image = folder / name
        with open(image, "wb") as file:
            file.write(contents) if isinstance(contents, bytes) else file.truncate(contents)
        done = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no loop device can be had here: {done.stderr}")
        made.append(done.stdout.strip())
        return image, made[-1]

    yield make
    for device in made:
        subprocess.run(["losetup", "--detach", device], check=False)


def device(path, container_path="/dev/disk", permissions="rwm"):
    return {"host_path": path, "container_path": container_path, "permissions": permissions}


def on_the_node(loop_device, offset):
    """What the node itself reads there now, past its cache."""
    return subprocess.run(["dd", f"if={loop_device}", f"bs={BLOCK}", f"skip={offset // BLOCK}", "count=1", "iflag=direct", "status=none"], capture_output=True, check=True).stdout


@ALL
def test_raw_volumes(network, make_pod, loop, clean, runtime_name):
    """Read and written by one container, read only by another, and by a third that only knows the numbers not at all."""
    _, path = loop("disk.img", b"N" * BLOCK + b"\0" * (2 * MIB - BLOCK))
    shims = set(clean.shims())
    pod = make_pod()
    writer = pod.start(["sleep", "1000"], devices=[device(path)])
    reader = pod.start(["sleep", "1000"], devices=[device(path, "/dev/same", "r")])
    stranger = pod.start(["sleep", "1000"])
    run = lambda container, script: pod.exec(container, "sh", "-c", script, check=False)

    assert run(writer, "dd if=/dev/disk bs=4096 count=1 2>/dev/null").stdout == "N" * BLOCK
    assert run(writer, "dd if=/dev/disk bs=1M 2>/dev/null | wc -c").stdout.strip() == str(2 * MIB)
    assert run(writer, "yes W | dd of=/dev/disk bs=4096 count=1 seek=1 conv=fsync 2>&1").ok
    assert on_the_node(path, BLOCK) == b"W\n" * (BLOCK // 2)
    assert run(reader, "dd if=/dev/same bs=4096 count=1 2>/dev/null").stdout == "N" * BLOCK
    assert not run(reader, "yes X | dd of=/dev/same bs=4096 count=1 conv=fsync").ok
    assert on_the_node(path, 0) == b"N" * BLOCK

    # The device cgroup holds inside: to know the numbers is not enough.
    numbers = run(writer, "stat -c '%t %T' /dev/disk").stdout.split()
    major, minor = (int(number, 16) for number in numbers)
    assert run(stranger, f"mknod /tmp/d b {major} {minor}").ok
    assert "not permitted" in run(stranger, "dd if=/tmp/d bs=512 count=1 2>&1").stdout
    if runtime_name == "microvm":
        assert run(writer, f"cat /sys/dev/block/{major}:{minor}/serial").stdout.startswith("caisson"), "the guest's own number"
        (shim,) = set(clean.shims()) - shims
        (machine,) = [pid for pid in below(shim) if "qemu" in pathlib.Path(f"/proc/{pid}/comm").read_text()]
        assert disks_of(machine) == {os.stat(path).st_rdev}, "the machine has that device's descriptors and no other's"

    # A container that is made again gets the same disk again.
    again = pod.start(["sleep", "1000"], devices=[device(path)])
    assert run(again, "dd if=/dev/disk bs=4096 count=1 skip=1 2>/dev/null").stdout == "W\n" * (BLOCK // 2)


def disks_of(pid):
    """The block devices that a process has open."""
    found = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            info = os.stat(f"/proc/{pid}/fd/{entry}")
        except OSError:
            continue
        if info.st_mode & 0o170000 == 0o060000:
            found.add(info.st_rdev)
    return found


@pytest.mark.runtimes("microvm")
def test_a_device_that_the_node_uses_is_not_given(network, make_pod, loop, clean, folder, runtime_name):
    """Two kernels that write the same file system destroy it. The container is made without it, and the log says which and why."""
    _, path = loop("disk.img", 16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
    place = folder / "mounted"
    place.mkdir()
    subprocess.run(["mount", path, place], check=True)
    try:
        pod = make_pod()
        container = pod.start(["sleep", "1000"], devices=[device(path)])
        assert not pod.exec(container, "ls", "/dev/disk", check=False).ok
        wait_for(lambda: "the node itself uses it" in clean.log_path.read_text(errors="replace"), "the warning in containerd's log")
    finally:
        subprocess.run(["umount", place], check=True)


@ALL
def test_a_disk_that_is_there_at_the_start(clean, loop, runtime_name, name):
    """A container by itself: its machine starts with the disk."""
    _, path = loop("disk.img", b"D" * MIB)
    script = f"dd if={path} bs=4096 count=1 2>/dev/null | head -c 3; dd if=/dev/zero of={path} bs=4096 count=1 seek=2 conv=fsync 2>/dev/null && echo written"
    outcome = clean.ctr("run", "--rm", "--device", path, "--runtime", RUNTIME_TYPES[runtime_name], BUSYBOX, name, "sh", "-c", script)
    assert outcome.stdout == "DDDwritten\n"
    assert on_the_node(path, 2 * BLOCK) == bytes(BLOCK) and on_the_node(path, BLOCK) == b"D" * BLOCK


@OURS
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_root_file_system_on_a_block_device(folder, marker, leftovers, loop, runtime_name, kind):
    """What devmapper's snapshotter (and others of block devices) hands to a shim: a mount of type ext4 or xfs. A loop device is in its place, for kernels
    without device mapper; test_devmapper.py has the real one."""
    from harness.bundle import Bundle
    _, path = loop("root.img", 64 * MIB if kind == "ext4" else 320 * MIB)
    if subprocess.run(["sh", "-c", f"mkfs.{kind} -q {path}"], capture_output=True).returncode != 0:
        pytest.skip(f"mkfs.{kind} is not here")
    bundle = Bundle(folder / "b")
    bundle.add_busybox()
    place = folder / "filling"
    place.mkdir()
    mounted = subprocess.run(["mount", path, place], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"this kernel mounts no {kind}: {mounted.stderr}")
    subprocess.run(f"cp -a {bundle.path}/rootfs/. {place} && umount {place} && rm -r {bundle.path}/rootfs", shell=True, check=True)
    output = folder / "out"
    output.touch()
    bundle.process["args"] = ["/bin/sh", "-c", "echo changed > /file && /bin/busybox cat /file && /bin/busybox df -k / | /bin/busybox tail -n 1"]
    bundle.spec.pop("hostname")
    bundle.write()
    shim = Shim(folder, f"{marker}root", runtime_name)
    try:
        shim.task("Create", {1: f"{marker}root", 2: str(bundle.path), 3: [{1: kind, 2: path, 4: ["rw"]}], 6: f"file://{output}"})
        shim.task("Start", {1: f"{marker}root"})
        assert shim.task("Wait", {1: f"{marker}root"}).get(1, [0])[0] == 0, output.read_text()
        shim.task("Delete", {1: f"{marker}root"})
        shim.task("Shutdown", {1: f"{marker}root"})
    finally:
        shim.remove()
    words = output.read_text().split()
    assert words[0] == "changed"
    assert 40 << 10 < int(words[2]) < 321 << 10, "the size of the disk, not of the node's"
    subprocess.run(["mount", path, place], check=True)
    try:
        assert (place / "file").read_text() == "changed\n"
    finally:
        subprocess.run(["umount", place], check=True)
