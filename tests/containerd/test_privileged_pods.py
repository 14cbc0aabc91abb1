"""A privileged pod, as CRI has it (every capability, no seccomp filter, all devices of the node in its specification), in a sandbox: what it must not reach."""

import os
import subprocess

import pytest

from test_block_devices import loop  # noqa: F401

PRIVILEGED = {"security_context": {"privileged": True, "namespace_options": {"pid": 1}}}

SCRIPT = """mkdir -p /m
for tag in caisson share shared root; do mount -t virtiofs $tag /m 2>/dev/null && break; mount -t 9p -o trans=virtio $tag /m 2>/dev/null && break; done
for place in /m /data /proc/1/root /run/caisson; do find $place -xdev -type f -size -64k 2>/dev/null | head -n 20000; done | xargs -r grep -l 90211 2>/dev/null
for up in /m/.. /m/../.. /data/../../../../../etc/shadow /proc/1/root/../..; do ls -d $up/theirs 2>/dev/null; done
mknod /tmp/disk b NODE_NUMBERS 2>/dev/null
for device in $(find /dev -type b) /tmp/disk /dev/mem /dev/kmem /dev/port; do
  [ -e $device ] && dd if=$device of=/tmp/read bs=4096 count=1 2>/dev/null && [ -s /tmp/read ] || continue
  grep -q -a 90213 /tmp/read && echo $device-is-the-nodes
done
echo NODE > /proc/sys/kernel/core_pattern 2>/dev/null; echo 90212 > /proc/sys/kernel/printk_ratelimit 2>/dev/null
echo searched"""


@pytest.fixture
def nodes_disk(loop, folder):
    """A disk on which the node has a file system: (its path, "major minor"). Its first sector, which ext4 leaves alone, has a mark."""
    _, path = loop("disk.img", b"\0" * (16 << 20))
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
    with open(path, "r+b") as disk:
        disk.write(b"the node's disk 90213")
    place = folder / "mounted"
    place.mkdir()
    subprocess.run(["mount", path, place], check=True)
    number = os.stat(path).st_rdev
    yield path, f"{os.major(number)} {os.minor(number)}"
    subprocess.run(["umount", place], check=True)


@pytest.mark.runtimes("appkernel", "microvm")
def test_what_a_privileged_pod_does_not_reach(network, make_pod, clean, folder, nodes_disk, runtime_name):
    """Another pod's volume, the node's settings, and a disk that the node uses."""
    theirs, mine = folder / "theirs", folder / "mine"
    for place in (theirs, mine):
        place.mkdir()
    (theirs / "secret").write_text("other pod's secret 90211")
    settings = {path: open(path).read() for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/printk_ratelimit")}
    victim, offender = make_pod(), make_pod(**PRIVILEGED)
    victim.start(["sleep", "1000"], mounts=[{"host_path": str(theirs), "container_path": "/data"}])
    container = offender.start(["sleep", "1000"], mounts=[{"host_path": str(mine), "container_path": "/data"}], linux={"security_context": PRIVILEGED["security_context"]})
    capabilities = int(offender.exec(container, "grep", "CapEff", "/proc/self/status").stdout.split()[1], 16)
    assert all(capabilities >> number & 1 for number in (17, 21, 27)), "it is privileged: SYS_RAWIO, SYS_ADMIN, MKNOD"
    said = offender.exec(container, "sh", "-c", SCRIPT.replace("NODE_NUMBERS", nodes_disk[1]), check=False)
    assert said.stdout.split() == ["searched"], said
    assert {path: open(path).read() for path in settings} == settings
    assert (theirs / "secret").read_text() == "other pod's secret 90211"
