"""Volumes of pods as a kubelet prepares them: folders and files of the node, put in place by containerd."""

import os
import shutil
import subprocess
import time

import pytest
from harness.waiting import wait_for

ALL = pytest.mark.runtimes("runc", "namespace", "microvm")
NODES_MIB = 1 << 20


@pytest.fixture
def mounts():
    """mounts(argv...): mount(8) with these words; what was mounted is unmounted at the end."""
    made = []

    def mount(*words):
        subprocess.run(["mount", *map(str, words)], check=True)
        made.append(str(words[-1]))

    yield mount
    for target in reversed(made):
        subprocess.run(["umount", "-l", target], check=False)


def volume(host_path, container_path, **more):
    return {"host_path": str(host_path), "container_path": container_path, **more}


@ALL
def test_kinds_of_volumes(network, make_pod, folder, mounts, runtime_name):
    """One pod with every kind that is a folder or a file in the end."""
    empty, memory, sub, projected = (folder / name for name in ("empty", "memory", "sub", "projected"))
    for place in (empty, memory, sub / "a/b", projected / "token", projected / "ca"):
        place.mkdir(parents=True)
    mounts("-t", "tmpfs", "-o", "size=1m", "tmpfs", memory)
    (sub / "a/b/file").write_text("by subPath\n")
    mounts("-t", "tmpfs", "tmpfs", projected / "token")
    (projected / "token/token").write_text("secret\n")
    (projected / "token/token").chmod(0o400)
    (projected / "ca/ca.crt").write_text("certificate\n")
    pod = make_pod()
    container = pod.start(["sleep", "1000"], mounts=[
        volume(empty, "/empty"), volume(memory, "/memory"), volume(sub / "a/b/file", "/etc/one-file", readonly=True), volume(sub / "a", "/sub"),
        volume(projected, "/projected", readonly=True)])
    run = lambda script, check=True: pod.exec(container, "sh", "-c", script, check=check)

    run("mkdir -p /empty/x/y && echo from inside > /empty/x/y/z && ln -s z /empty/x/y/link && chmod 640 /empty/x/y/z && chown 1000:2000 /empty/x/y/z")
    made = empty / "x/y/z"
    assert made.read_text() == "from inside\n" and os.readlink(empty / "x/y/link") == "z"
    assert (made.stat().st_mode & 0o777, made.stat().st_uid, made.stat().st_gid) == (0o640, 1000, 2000)

    # sizeLimit of a medium in memory: the file system's own size.
    full = run("dd if=/dev/zero of=/memory/large bs=64k count=32 2>&1", check=False)
    assert not full.ok and "No space left" in full.stdout + full.stderr
    assert 0 < (memory / "large").stat().st_size <= NODES_MIB

    assert run("cat /etc/one-file").stdout == "by subPath\n"
    assert not run("echo x >> /etc/one-file", check=False).ok
    assert run("cat /sub/b/file").stdout == "by subPath\n"

    assert run("cat /projected/token/token /projected/ca/ca.crt").stdout == "secret\ncertificate\n"
    assert not run("touch /projected/new", check=False).ok


@ALL
def test_updates_on_the_node_are_seen_at_once(network, make_pod, folder, runtime_name):
    """A configMap's atomic swap, and files that grow, shrink, come and go: seen inside at once, which for a micro-VM is 50 ms."""
    data = folder / "data"
    for version in ("..1", "..2"):
        (data / version).mkdir(parents=True)
        (data / version / "key").write_text(version)
    (data / "..data").symlink_to("..1")
    (data / "key").symlink_to("..data/key")
    pod = make_pod()
    container = pod.start(["sleep", "1000"], mounts=[volume(data, "/config", readonly=True)])
    look = lambda path: pod.exec(container, "cat", path, check=False).stdout
    # A micro-VM's guest asks the node again after 50 ms (docs/containerd.md); that is all that it may take.
    settle = lambda: time.sleep(0.05 if runtime_name == "microvm" else 0)
    assert look("/config/key") == "..1"
    for round_number in range(4):
        wanted = f"..{2 - round_number % 2}"
        (data / "..tmp").symlink_to(wanted)
        os.rename(data / "..tmp", data / "..data")
        settle()
        assert look("/config/key") == wanted
    plain = data / "plain"
    for text in ("short", "much longer than before", "", "s"):
        plain.write_text(text)
        settle()
        assert look("/config/plain") == text
    plain.unlink()
    settle()
    assert not pod.exec(container, "cat", "/config/plain", check=False).ok
    (data / "..1/key").write_text("changed in place")
    (data / "..tmp").symlink_to("..1")
    os.rename(data / "..tmp", data / "..data")
    settle()
    assert look("/config/key") == "changed in place"


class AtomicWriter:
    """A folder written as kubelet writes configMaps, secrets and projected volumes (pkg/volume/util/atomic_writer.go)."""

    def __init__(self, folder):
        self.folder, self.number = folder, 0
        folder.mkdir()

    def write(self, **files):
        self.number += 1
        version = self.folder / f"..2026_11_21_13_05_59.{self.number:09}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
        old = os.readlink(self.folder / "..data") if self.number > 1 else None
        (self.folder / "..data_tmp").symlink_to(version.name)
        os.rename(self.folder / "..data_tmp", self.folder / "..data")
        for name in files:
            if not os.path.lexists(self.folder / name):
                (self.folder / name).symlink_to(f"..data/{name}")
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
        if old:
            shutil.rmtree(self.folder / old)


@ALL
def test_a_program_that_waits_for_its_configmap_is_told(network, make_pod, crictl, folder, runtime_name):
    """By inotify, and finds what is new: an update as kubelet makes it, several in a row, keys that come and go."""
    config = AtomicWriter(folder / "config")
    config.write(key="1", goes="x")
    os.chmod(folder / "config/..data/key", 0o640)
    pod = make_pod()
    container = pod.start(["/testinit", "notify", "/config"], mounts=[volume(folder / "config", "/config", readonly=True)])
    logged = lambda: crictl.call("logs", container).stdout.splitlines()
    wait_for(lambda: any("ready" in line for line in logged()), "the program to watch")
    read = lambda path: pod.exec(container, "cat", path, check=False).stdout
    assert read("/config/key") == "1" and read("/config/goes") == "x"
    assert pod.exec(container, "stat", "-L", "-c", "%a", "/config/key").stdout.strip() == "640"
    config.write(key="2", comes="y")
    wait_for(lambda: any(line.endswith("..data") for line in logged()), "the program to be told of the update", deadline=10)
    wait_for(lambda: read("/config/comes") == "y" and not pod.exec(container, "ls", "/config/goes", check=False).ok, "keys to come and go", deadline=10)
    assert read("/config/key") == "2"
    for number in range(3, 8):
        config.write(key=str(number), comes="y")
    wait_for(lambda: read("/config/key") == "7", "the last of several updates", deadline=10)
    names = pod.exec(container, "ls", "-A", "/config").stdout.split()
    assert sorted(names) == ["..2026_11_21_13_05_59.000000007", "..data", "comes", "key"]
    assert not pod.exec(container, "touch", "/config/new", check=False).ok, "still read-only"


@ALL
def test_a_mounted_block_device(network, make_pod, folder, mounts, runtime_name):
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"mkfs.ext4 fails: {made.stderr}")
    try:
        mounts("-o", "loop", image, place)
    except subprocess.CalledProcessError:
        pytest.skip("no loop device can be mounted here")
    pod = make_pod()
    container = pod.start(["sh", "-c", "cd /disk && echo data > file && sync && sleep 1000"], mounts=[volume(place, "/disk")])
    wait_for(lambda: (place / "file").exists() and (place / "file").read_text() == "data\n", "what is written inside to be on the disk")
    available = pod.exec(container, "df", "-k", "/disk").stdout.split()
    assert any(word.isdigit() and 8 << 10 < int(word) < 17 << 10 for word in available), "the size of the disk, not of the node's"


@ALL
def test_mounts_of_the_node_are_propagated_where_asked(network, make_pod, folder, mounts, runtime_name):
    """HostToContainer: what is mounted on the node later is seen; in a private volume it is not."""
    shared, private = folder / "shared", folder / "private"
    for place in (shared, private):
        place.mkdir()
        mounts("--bind", place, place)
        subprocess.run(["mount", "--make-shared", place], check=True)
        (place / "later").mkdir()
    pod = make_pod()
    container = pod.start(["sleep", "1000"], mounts=[volume(shared, "/shared", propagation=1), volume(private, "/private")])
    for place in (shared, private):
        mounts("-t", "tmpfs", "tmpfs", place / "later")
        (place / "later/file").write_text("in the new mount")
    look = lambda path: pod.exec(container, "cat", path, check=False).stdout
    wait_for(lambda: look("/shared/later/file") == "in the new mount", "the new mount to be seen", deadline=10)
    assert look("/private/later/file") == ""


@ALL
def test_one_pods_volume_is_not_anothers(network, make_pod, folder, runtime_name):
    """No path of the share, the node or the other container leads there; nor to what lies beside the volume on the node."""
    mine, others = folder / "v/mine", folder / "v/others"
    for place in (mine, others):
        place.mkdir(parents=True)
    (others / "secret").write_text("other pod's secret 5417")
    (folder / "v/beside").write_text("beside 5417")
    (mine / "out").symlink_to("../others/secret")
    (mine / "far").symlink_to(others / "secret")
    victim, offender = make_pod(), make_pod()
    victim.start(["sleep", "1000"], mounts=[volume(others, "/data")])
    container = offender.start(["sleep", "1000"], mounts=[volume(mine, "/data")])
    for path in ("/data/../others/secret", "/data/out", "/data/far", "/proc/1/root/data/../beside", str(others / "secret")):
        assert not offender.exec(container, "cat", path, check=False).ok, path
    found = offender.exec(container, "sh", "-c", "grep -rs 5417 /data /run /mnt /proc/1/root/data 2>/dev/null | grep -v 'grep' | head", check=False).stdout
    assert found == "", found


@ALL
def test_who_looks_sees_a_change_and_who_waits_for_events_is_told_where_the_transport_can(network, make_pod, folder, runtime_name):
    """inotify inside, for a change made on the node. virtio-fs and 9p carry no such events (docs/containerd.md): there a program that looks sees it, 100 ms
    after it was made at the latest."""
    data = folder / "data"
    data.mkdir()
    (data / "key").write_text("old")
    pod = make_pod()
    container = pod.start(["sh", "-c", "exec /testinit notify /config > /tmp/events"], mounts=[volume(data, "/config")])
    run = lambda *words: pod.exec(container, *words, check=False).stdout
    wait_for(lambda: "ready" in run("cat", "/tmp/events"), "the watch to be set")
    run("touch", "/config/from-inside")
    wait_for(lambda: "from-inside" in run("cat", "/tmp/events"), "the event of a change made inside")
    (data / "from-the-node").write_text("x")
    (data / "key").write_text("new")
    time.sleep(0.1 if runtime_name == "microvm" else 0)
    assert run("cat", "/config/key") == "new" and "from-the-node" in run("ls", "/config")
    if runtime_name == "microvm":
        assert "from-the-node" not in run("cat", "/tmp/events"), "events of the node arrive now: say so in docs/containerd.md"
    else:
        wait_for(lambda: "from-the-node" in run("cat", "/tmp/events"), "the event of a change made on the node")


@ALL
@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_root_file_systems(clean, runtime_name, name, snapshotter):
    """Layers that an overlay joins, and a plain folder: both written to, and gone with the container."""
    from images import BUSYBOX
    from node import RUNTIME_TYPES
    clean.ctr("images", "unpack", "--snapshotter", snapshotter, BUSYBOX, check=False)
    script = "echo changed > /etc/passwd && mkdir /new && echo x > /new/file && rm /bin/wget && ls /bin | wc -l && cat /etc/passwd"
    outcome = clean.ctr("run", "--rm", "--snapshotter", snapshotter, "--runtime", RUNTIME_TYPES[runtime_name], BUSYBOX, name, "sh", "-c", script, check=False)
    if "not found" in outcome.stderr and "snapshotter" in outcome.stderr:
        pytest.skip(f"this containerd has no snapshotter {snapshotter}")
    assert outcome.ok, outcome
    assert outcome.stdout.splitlines()[-1] == "changed"
