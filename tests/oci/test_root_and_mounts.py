"""config.json: root, mounts, maskedPaths, readonlyPaths, rootfsPropagation."""

import json
import os
import shutil
import stat

import pytest

from harness.container import error
from harness.waiting import wait_for

def find_mount(mounts, target):
    found = [mount for mount in mounts if mount["target"] == target]
    assert found, f"nothing is mounted on {target}; there are {[mount['target'] for mount in mounts]}"
    return found[-1]


def test_readonly_root(container):
    container.bundle.spec["root"]["readonly"] = True
    root, tmp, dev, mounts = container.ask("create /new", "create /tmp/new", "create /dev/shm/new", "mounts")
    assert error(root) == error(tmp) == "EROFS"
    assert dev == 0
    assert "ro" in find_mount(mounts, "/")["options"].split(",")


def test_root_is_changed_in_place(container):
    answers = container.ask("create /data/file content 0640", "chown /data/file 1000 1001", "mkdir /data/folder 0750", "symlink ../data/file /data/link")
    assert [error(answer) for answer in answers[:1] + answers[2:]] == [None] * 3
    assert error(answers[1]) == "EPERM", "no CAP_CHOWN in there"
    data = container.bundle.rootfs / "data"
    assert (data / "file").read_text() == "content"
    assert stat.S_IMODE((data / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((data / "folder").stat().st_mode) == 0o750
    assert os.readlink(data / "link") == "../data/file"


def test_default_mounts(container):
    container.bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"])
    mounts, dev, pts, shm = container.ask("mounts", "statfs /dev", "stat /dev/pts/ptmx", "stat /dev/shm")
    assert [find_mount(mounts, target)["type"] for target in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys")] == ["proc", "tmpfs", "devpts", "tmpfs", "mqueue", "sysfs"]
    assert "nosuid" in dev["flags"]
    assert pts["mode"] == 0o666
    assert shm["mode"] == 0o1777
    assert "ro" in find_mount(mounts, "/sys")["options"].split(",")
    assert any(mount["type"] in ("cgroup", "cgroup2") for mount in mounts)


def test_default_devices_and_links(container):
    names = ["null", "zero", "full", "random", "urandom", "tty"]
    numbers = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)]
    links = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
    answers = container.ask(*[f"stat /dev/{name}" for name in names], *[f"readlink /dev/{name}" for name in links], "open /dev/null rw", "open /dev/full w", "read /dev/zero 4",
                            "readlink /dev/ptmx", "append /dev/full x")
    for name, number, found in zip(names, numbers, answers):
        assert (found["type"], found["major"], found["minor"], found["mode"]) == ("char", *number, 0o666), name
    assert answers[6:10] == list(links.values())
    assert answers[10:13] == [True, True, "\0" * 4]
    assert answers[13] in ("pts/ptmx", "/dev/pts/ptmx")
    assert error(answers[14]) == "ENOSPC"


def test_bind_folder_both_ways(container, folder, runtime):
    source = folder / "volume"
    source.mkdir(mode=0o755)
    (source / "from-host").write_text("host")
    os.chown(source / "from-host", 1234, 5678)
    os.chmod(source / "from-host", 0o4751)
    os.symlink("from-host", source / "link")
    os.mkfifo(source / "fifo")
    container.bundle.mount("/volume", "bind", source, ["rbind", "rw"])
    container.bundle.privileged()
    found, text, link, fifo, *changes = container.ask(
        "stat /volume/from-host", "read /volume/from-host", "readlink /volume/link", "stat /volume/fifo",
        "create /volume/new content 0600", "chown /volume/new 1000 2000", "mkdir /volume/dir 01777", "chmod /volume/dir 01777", "create /volume/dir/a a", "rename /volume/dir/a /volume/dir/b",
        "link /volume/dir/b /volume/hard", "symlink nowhere /volume/sym", "mknod /volume/pipe p 0 0 0644", "mknod /volume/null c 1 3 0640", "truncate /volume/new 3", "utimes /volume/new 1000000000",
        "append /volume/from-host !", "remove /volume/link")
    assert (found["uid"], found["gid"], found["mode"], found["size"]) == (1234, 5678, 0o4751, 4)
    assert (text, link, fifo["type"]) == ("host", "from-host", "fifo")
    assert [error(change) for change in changes] == [None] * len(changes), changes
    new = (source / "new").stat()
    assert (new.st_uid, new.st_gid, stat.S_IMODE(new.st_mode), new.st_size, new.st_mtime) == (1000, 2000, 0o600, 3, 1000000000)
    assert stat.S_IMODE((source / "dir").stat().st_mode) == 0o1777
    assert sorted(os.listdir(source / "dir")) == ["b"]
    assert (source / "hard").stat().st_ino == (source / "dir/b").stat().st_ino
    assert os.readlink(source / "sym") == "nowhere"
    assert stat.S_ISFIFO((source / "pipe").stat().st_mode)
    null = (source / "null").stat()
    if runtime.name == "appkernel":
        # Its kernel process must not make devices of the node: a file stands for one, and says so to who asks.
        assert stat.S_ISREG(null.st_mode) and null.st_size == 0
        assert os.getxattr(source / "null", "user.caisson.device") == b"c 1:3"
    else:
        assert stat.S_ISCHR(null.st_mode) and (os.major(null.st_rdev), os.minor(null.st_rdev)) == (1, 3)
    assert (source / "from-host").read_text() == "host!"
    assert not (source / "link").is_symlink()


def test_shared_tree_semantics(container, folder):
    """Locks, shared mappings, extended attributes and unlinked files on the root file system and on a bind mount."""
    source = folder / "volume"
    source.mkdir()
    (source / "attr").write_text("")
    os.setxattr(source / "attr", "user.host", b"from the host")
    container.bundle.mount("/volume", "bind", source, ["bind"])
    questions = [question.replace("PLACE", place) for place in ("/data", "/volume") for question in (
        "lock PLACE/lock posix", "lock PLACE/lock flock", "mmap-shared PLACE/mapped", "create PLACE/x", "setxattr PLACE/x user.test value", "getxattr PLACE/x user.test", "remove PLACE/x", "stat PLACE/x",
        "mkdir PLACE/full", "create PLACE/full/x", "remove PLACE/full", "rename PLACE/full PLACE/moved", "list PLACE/moved", "rename PLACE/none PLACE/other")]
    *answers, attribute = container.ask(*questions, "getxattr /volume/attr user.host")
    for start in (0, 14):
        assert answers[start] in ({"while_held": "EAGAIN", "after": "free"}, {"while_held": "EACCES", "after": "free"})
        assert answers[start + 1] == {"while_held": "EAGAIN", "after": "free"}
        assert answers[start + 2] == {"mapping": "from the child", "file": "from the child"}
        assert answers[start + 3:start + 7] == [0, 0, "value", 0]
        assert error(answers[start + 7]) == "ENOENT"
        assert answers[start + 8:start + 10] == [0, 0]
        assert error(answers[start + 10]) == "ENOTEMPTY"
        assert answers[start + 11:start + 13] == [0, ["x"]]
        assert error(answers[start + 13]) == "ENOENT"
    assert attribute == "from the host"
    assert (source / "mapped").read_bytes().startswith(b"from the child")


def test_maps_name_files_of_volumes(container, folder):
    """A program and what it maps are told by the names that they have inside, whichever volume they lie in."""
    for name in ("one", "two"):
        (folder / name / "bin").mkdir(parents=True)
        shutil.copy(container.bundle.rootfs / "testinit", folder / name / "bin/program")
        container.bundle.mount(f"/volumes/{name}", "bind", folder / name, ["bind"])
    container.bundle.process["args"] = ["/volumes/two/bin/program", "ask", "read", "/proc/self/maps"]
    lines = json.loads(container.run().stdout)[0].splitlines()
    names = {line.split()[5] for line in lines if len(line.split()) > 5 and line.split()[5].startswith("/")}
    assert names == {"/volumes/two/bin/program"}, lines
    texts = [line for line in lines if "/program" in line and "x" in line.split()[1]]
    assert len(texts) == 1, "a program's text is one mapping"


def test_change_from_outside_is_seen(container, folder):
    """A volume is shared while the container runs, in both directions."""
    source = folder / "volume"
    source.mkdir()
    (source / "file").write_text("one")
    container.bundle.mount("/volume", "bind", source, ["bind"])
    container.spawn_sleeping()
    assert container.ask_exec("read /volume/file") == ["one"]
    (source / "file").write_text("two, longer")
    (source / "later").mkdir()
    # A guest may keep what it knows of a file for a moment.
    wait_for(lambda: container.ask_exec("read /volume/file", "list /volume") == ["two, longer", ["file", "later"]], "the change to be seen inside", deadline=10)
    container.ask_exec("create /volume/inside text")
    assert (source / "inside").read_text() == "text"


def test_bind_file(container, folder):
    source = folder / "file"
    source.write_text("before")
    readonly = folder / "readonly"
    readonly.write_text("fixed")
    container.bundle.mount("/etc/mounted", "bind", source, ["bind"])
    container.bundle.mount("/etc/readonly", "bind", readonly, ["bind", "ro"])
    container.bundle.mount("/etc/passwd", "bind", readonly, ["bind", "ro"])
    text, wrote, refused, over, _ = container.ask("read /etc/mounted", "write /etc/mounted after", "write /etc/readonly x", "read /etc/passwd", "stat /etc/readonly")
    assert (text, wrote, error(refused), over) == ("before", 5, "EROFS", "fixed")
    assert source.read_text() == "after"


OPTIONS = {"ro": "ro", "nosuid": "nosuid", "nodev": "nodev", "noexec": "noexec", "noatime": "noatime", "nodiratime": "nodiratime"}


def test_bind_options(container, folder):
    source = folder / "volume"
    source.mkdir()
    os.mknod(source / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (source / "program").write_bytes((container.bundle.rootfs / "testinit").read_bytes())
    (source / "program").chmod(0o755)
    for option in OPTIONS:
        container.bundle.mount(f"/with-{option}", "bind", source, ["bind", option])
    container.bundle.mount("/with-all", "bind", source, ["rbind", *OPTIONS])
    container.bundle.mount("/plain", "bind", source, ["bind", "rw", "suid", "dev", "exec", "relatime"])
    mounts, device, program, works, refused = container.ask("mounts", "open /with-nodev/null r", "run /with-noexec/program exit 3", "run /plain/program exit 3", "create /with-ro/file")
    for option, shown in OPTIONS.items():
        assert shown in find_mount(mounts, f"/with-{option}")["options"].split(","), option
    assert set(OPTIONS.values()) <= set(find_mount(mounts, "/with-all")["options"].split(","))
    assert not {"ro", "nosuid", "nodev", "noexec"} & set(find_mount(mounts, "/plain")["options"].split(","))
    assert (error(device), program["status"], works["status"], error(refused)) == ("EACCES", 127, 3, "EROFS")


def test_tmpfs(container):
    container.bundle.mount("/scratch", "tmpfs", "tmpfs", ["nosuid", "nodev", "noexec", "size=1m", "mode=0710", "uid=1000", "gid=1001", "nr_inodes=50"])
    container.bundle.mount("/fixed", "tmpfs", "tmpfs", ["ro"])
    container.bundle.process["capabilities"] = {kind: ["CAP_DAC_OVERRIDE"] for kind in ("bounding", "effective", "permitted")}
    status, system, fixed, wrote = container.ask("stat /scratch", "statfs /scratch", "create /fixed/x", "create /scratch/x text")
    assert (status["mode"], status["uid"], status["gid"]) == (0o710, 1000, 1001)
    assert (system["bytes"], system["files"]) == (1 << 20, 50)
    assert {"nosuid", "nodev", "noexec"} <= set(system["flags"])
    assert error(fixed) == "EROFS"
    assert wrote == 4


def test_tmpcopyup(container):
    below = container.bundle.rootfs / "data"
    (below / "sub").mkdir()
    (below / "sub/file").write_text("copied")
    (below / "sub/file").chmod(0o640)
    os.symlink("sub/file", below / "link")
    container.bundle.mount("/data", "tmpfs", "tmpfs", ["tmpcopyup", "size=1m"])
    text, status, link, _, mounts = container.ask("read /data/sub/file", "stat /data/sub/file", "readlink /data/link", "create /data/new", "mounts")
    assert (text, status["mode"], link) == ("copied", 0o640, "sub/file")
    assert find_mount(mounts, "/data")["type"] == "tmpfs"
    assert not (below / "new").exists(), "what is new stays in the tmpfs"


def make_nested_volume(folder):
    """A folder with another mount in it, which the caller unmounts."""
    source = folder / "volume"
    (source / "below").mkdir(parents=True)
    assert os.system(f"mount -t tmpfs tmpfs {source}/below") == 0
    (source / "below/file").write_text("nested")
    return source


def test_recursive_options(container, folder):
    source = make_nested_volume(folder)
    try:
        container.bundle.mount("/single", "bind", source, ["bind"])
        container.bundle.mount("/tree", "bind", source, ["rbind"])
        container.bundle.mount("/tree-rro", "bind", source, ["rbind", "rro"])
        container.bundle.mount("/tree-rnoexec", "bind", source, ["rbind", "rnoexec", "rnosuid", "rnodev"])
        # In a micro-VM a mount below a shared folder appears in the table when it is first walked into.
        single, tree, top, recursive, _, mounts = container.ask("list /single/below", "list /tree/below", "create /tree-rro/x", "create /tree-rro/below/y", "list /tree-rnoexec/below", "mounts")
        assert single == [], "bind does not take the mounts below along"
        assert tree == ["file"]
        assert error(top) == error(recursive) == "EROFS"
        assert {"noexec", "nosuid", "nodev"} <= set(find_mount(mounts, "/tree-rnoexec/below")["options"].split(","))
    finally:
        os.system(f"umount {source}/below")


def test_plain_ro_is_not_recursive(container, folder):
    source = make_nested_volume(folder)
    try:
        container.bundle.mount("/tree", "bind", source, ["rbind", "ro"])
        top, nested = container.ask("create /tree/x", "create /tree/below/x")
        assert error(top) == "EROFS"
        assert nested == 0, "ro concerns only the mount itself"
    finally:
        os.system(f"umount {source}/below")


def test_mounts_of_the_node_come_along(container, folder):
    """What is mounted below a volume on the node later is seen inside, but with rprivate; and it can be unmounted there."""
    source = folder / "volume"
    source.mkdir()
    assert os.system(f"mount -t tmpfs tmpfs {source} && mount --make-shared {source} && mkdir {source}/below {source}/below/empty") == 0
    try:
        for kind in ("rslave", "rshared", "rprivate"):
            container.bundle.mount(f"/{kind}", "bind", source, ["rbind", kind])
        questions = [f"list /{kind}/below" for kind in ("rslave", "rshared", "rprivate")]
        container.spawn_sleeping()
        assert container.ask_exec(*questions) == [["empty"]] * 3
        assert os.system(f"mount -t tmpfs -o size=64k tmpfs {source}/below && touch {source}/below/file") == 0
        assert container.ask_exec("statfs /rslave/below")[0]["bytes"] == 1 << 16
        assert container.ask_exec(*questions, "read /rslave/below/file", "create /rslave/below/made") == [["file"], ["file"], ["empty"], "", 0]
        assert os.listdir(source / "below") in (["file", "made"], ["made", "file"])
        assert os.system(f"umount {source}/below") == 0, "nobody inside has it in use"
        assert container.ask_exec(*questions) == [["empty"]] * 3
        container.kill("KILL")
        container.wait_stopped()
        container.delete()
    finally:
        os.system(f"umount -l {source}")


def test_propagation_of_mounts(container, folder):
    source = folder / "volume"
    source.mkdir()
    for kind in ("private", "slave", "shared", "rprivate", "rslave", "rshared", "unbindable"):
        container.bundle.mount(f"/{kind}", "bind", source, ["bind", kind])
    (mounts,) = container.ask("mounts")
    for kind in ("private", "rprivate", "slave", "rslave"):  # nothing above is shared, so a slave has no master
        assert not [entry for entry in find_mount(mounts, f"/{kind}")["propagation"] if entry.startswith("shared")], kind
    for kind in ("shared", "rshared"):
        assert [entry for entry in find_mount(mounts, f"/{kind}")["propagation"] if entry.startswith("shared")], kind
    assert find_mount(mounts, "/unbindable")["propagation"] == ["unbindable"]


def test_destination_cannot_leave_the_root(container, folder):
    """Links in the root file system are followed inside it only."""
    source = folder / "volume"
    source.mkdir()
    (source / "mark").write_text("here")
    outside = folder / "outside"
    outside.mkdir()
    os.symlink("/../../../../../../../target", container.bundle.rootfs / "absolute")
    os.symlink(f"../../../../../../../..{outside}", container.bundle.rootfs / "relative")
    container.bundle.mount("/absolute/sub", "bind", source, ["bind"])
    container.bundle.mount("/relative/sub", "bind", source, ["bind"])
    first, second = container.ask("read /target/sub/mark", ["read", f"{outside}/sub/mark"])
    assert (first, second) == ("here", "here")
    assert os.listdir(outside) == []


def test_masked_and_readonly_paths(container):
    (container.bundle.rootfs / "data/file").write_text("secret")
    (container.bundle.rootfs / "data/folder").mkdir()
    (container.bundle.rootfs / "data/folder/file").write_text("secret")
    (container.bundle.rootfs / "data/fixed").mkdir()
    container.bundle.linux["maskedPaths"] += ["/data/file", "/data/folder", "/data/absent"]
    container.bundle.linux["readonlyPaths"] += ["/data/fixed", "/data/absent"]
    file, folder, keys, fixed, sys, mounts = container.ask("read /data/file", "list /data/folder", "read /proc/keys", "create /data/fixed/x", "write /proc/sys/kernel/hostname x", "mounts")
    assert (file, folder, error(fixed), error(sys)) == ("", [], "EROFS", "EROFS")
    assert keys == "" or error(keys) == "ENOENT"
    assert "ro" in find_mount(mounts, "/data/folder")["options"].split(",")


@pytest.mark.parametrize("kind", ["shared", "slave", "private", "unbindable"])
def test_rootfs_propagation(container, kind):
    container.bundle.linux["rootfsPropagation"] = kind
    (mounts,) = container.ask("mounts")
    fields = find_mount(mounts, "/")["propagation"]
    if kind == "shared":
        assert [field for field in fields if field.startswith("shared")]
    elif kind == "unbindable":
        assert fields == ["unbindable"]
    else:
        assert not [field for field in fields if field.startswith("shared")]


def test_no_mount_comes_from_the_host(container, runtime):
    """The host's other mounts are gone from the container's table."""
    (mounts,) = container.ask("mounts")
    wanted = {"/"} | {mount["destination"] for mount in container.bundle.spec["mounts"]}
    allowed = ("/proc/", "/sys/firmware", "/dev/")
    unexpected = [mount["target"] for mount in mounts if mount["target"] not in wanted and not mount["target"].startswith(allowed)]
    assert unexpected == []


def test_idmapped_mount(container, folder):
    """A bind mount whose owners are shifted (mount_setattr with MOUNT_ATTR_IDMAP)."""
    source = folder / "volume"
    source.mkdir()
    (source / "file").write_text("x")
    os.chown(source / "file", 1000, 1000)
    mapping = [{"containerID": 1000, "hostID": 5000, "size": 10}]
    container.bundle.mount("/volume", "bind", source, ["bind"], uidMappings=mapping, gidMappings=mapping)
    (status,) = container.ask("stat /volume/file")
    assert (status["uid"], status["gid"]) == (5000, 5000)


def test_mountinfo_has_the_order_of_the_configuration(container, folder):
    for name in ("first", "last"):
        (folder / name).mkdir(exist_ok=True)
    container.bundle.mount("/mnt/first", "bind", folder / "first", ["bind"])
    container.bundle.mount("/mnt/last", "bind", folder / "last", ["bind"])
    # A bind mount comes before what the application kernel mounts itself, and one after it.
    mounts = container.bundle.spec["mounts"]
    mounts.insert(0, mounts.pop(-2))
    wanted = [mount["destination"] for mount in mounts]
    (inside,) = container.ask("mounts")
    shown = [mount["target"] for mount in inside]
    assert [target for target in shown if target in wanted] == [target for target in wanted if target in shown]
    assert {"/proc", "/mnt/first", "/mnt/last"} <= set(shown)
