"""containerd's devmapper snapshotter: root file systems on thin volumes, whose pool is in two files here. Most kernels of build machines have no device
mapper: tests/node_vm runs these on a node that has."""

import os
import re
import shutil
import subprocess

import images
import pytest
from node import RUNTIME_TYPES, Node

ALL = pytest.mark.runtimes("runc", "namespace", "appkernel", "microvm")
MIB = 1 << 20
SECTOR = 512


def command(*argv):
    return subprocess.run([*map(str, argv)], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def thin_pool(scratch, marker):
    """The name of a thin pool of 2 GiB (Documentation/admin-guide/device-mapper/thin-provisioning.rst)."""
    if shutil.which("modprobe"):  # a container's machine may have none
        subprocess.run(["modprobe", "dm_thin_pool"], capture_output=True, check=False)
    if not os.path.exists("/dev/mapper/control"):
        pytest.skip("this kernel has no device mapper (/dev/mapper/control)")
    for program, package in (("dmsetup", "dmsetup"), ("mkfs.ext4", "e2fsprogs"), ("containerd", "containerd")):
        if not shutil.which(program):
            pytest.skip(f"{program} is not here (Debian package {package})")
    pool, loops = f"{marker}pool", []
    try:
        for name, size in (("metadata", 16 * MIB), ("data", 2048 * MIB)):
            with open(scratch / name, "wb") as file:
                file.truncate(size)
            loops.append(command("losetup", "--find", "--show", scratch / name))
        command("dmsetup", "create", pool, "--table", f"0 {2048 * MIB // SECTOR} thin-pool {loops[0]} {loops[1]} 128 32768 1 skip_block_zeroing")
        yield pool
        # Snapshots first, the pool last.
        volumes = [line.split()[0] for line in command("dmsetup", "ls").splitlines() if line.startswith(f"{pool}-snap")]
        for volume in [*reversed(volumes), pool]:
            command("dmsetup", "remove", "--retry", volume)
    finally:
        for loop in loops:
            subprocess.run(["losetup", "--detach", loop], check=False)


@pytest.fixture(scope="module")
def thin_node(scratch, thin_pool):
    node = Node(scratch / "t", images.PAUSE, pool=thin_pool)
    node.start()
    archive = images.docker_archive(images.busybox_tree(scratch / "thin"), scratch / "thin.tar", images.BUSYBOX, ["/bin/sh"])
    node.ctr("images", "import", "--snapshotter", "devmapper", archive)
    yield node
    node.remove_everything()
    node.stop()


SCRIPT = """
if [ -e /kept ]; then cat /kept; cat /many | wc -c; else echo first; echo second > /kept; dd if=/dev/zero of=/many bs=1M count=8 2>/dev/null; sync; fi
df -k / | tail -n 1
"""


@ALL
def test_root_file_systems_are_thin_volumes(thin_node, thin_pool, leftovers, runtime_name, name):
    """What a container has written is there when it is started again; and it is on a volume of its own, of that volume's size."""
    try:
        first = thin_node.ctr("run", "--snapshotter", "devmapper", "--runtime", RUNTIME_TYPES[runtime_name], images.BUSYBOX, name, "sh", "-c", SCRIPT, timeout=240).stdout.split()
        mount = thin_node.ctr("snapshots", "--snapshotter", "devmapper", "mounts", "/nowhere", name).stdout
        volume = re.search(r"/dev/mapper/(\S+)", mount)
        assert mount.split()[:3] == ["mount", "-t", "ext4"] and volume and volume.group(1).startswith(f"{thin_pool}-snap"), mount
        again = thin_node.ctr("tasks", "start", name, timeout=240).stdout.split()
    finally:
        thin_node.remove_everything()
    assert first[0] == "first"
    assert again[:2] == ["second", str(8 * MIB)]
    for words in (first, again):
        size_kib = int(words[-5])
        assert 40 << 10 < size_kib < 65 << 10, f"the size of the volume, not of the node's disk: {words}"


@ALL
def test_a_full_volume_is_an_error_inside(thin_node, leftovers, runtime_name, name):
    """The container is told, and goes on when it has made room."""
    fill = "dd if=/dev/zero of=/fill bs=1M 2>&1 | grep -c 'No space left'; rm /fill; echo small > /after && cat /after"
    outcome = thin_node.ctr("run", "--rm", "--snapshotter", "devmapper", "--runtime", RUNTIME_TYPES[runtime_name], images.BUSYBOX, name, "sh", "-c", fill, timeout=240)
    assert outcome.stdout.split() == ["1", "small"]
