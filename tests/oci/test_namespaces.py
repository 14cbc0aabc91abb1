"""config.json: linux.namespaces, hostname, domainname, uidMappings and gidMappings, timeOffsets."""

import os

import pytest

from harness.container import error

NEW = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt"}


def host_namespaces():
    return {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")}


def test_new_namespaces(container):
    container.bundle.namespace("cgroup")
    inside, pids, processes, cgroup = container.ask("namespaces", "pids", "processes", ["read", "/proc/self/cgroup"])
    host = host_namespaces()
    for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert inside[kind] != host[kind], kind
    assert pids["pid"] == 1
    assert [process["pid"] for process in processes] == [1]
    assert {line.split(":")[2] for line in cgroup.splitlines()} == {"/"}, "the cgroup namespace hides where the cgroup is"


def test_namespaces_that_are_not_asked_for(container, runtime):
    """Those of the sandbox's own kernel are used: the host's, or the guest's."""
    for kind in ("network", "ipc"):
        container.bundle.without_namespace(kind)
    container.bundle.remove_mount("/dev/mqueue")
    (inside,) = container.ask("namespaces")
    host = host_namespaces()
    same = [kind for kind in ("net", "ipc", "user", "cgroup", "time") if inside[kind] == host[kind]]
    if runtime.is_vm:
        assert "net" not in same, "a guest never shares the host's network namespace"
    elif runtime.name == "appkernel":
        # Those that its kernel only shows. The others, which it has itself, are of no use to the node: System V IPC of the node is not to be
        # reached (a warning says so), and every container is at the root of its cgroups.
        assert same == ["net", "user", "time"]
    else:
        assert same == ["net", "ipc", "user", "cgroup", "time"]


def test_without_pid_namespace(container, runtime):
    container.bundle.without_namespace("pid")
    pids, _ = container.ask("pids", "ids")
    if runtime.name == "appkernel":
        assert pids["pid"] == 1, "processes of an application kernel cannot be among the node's: a warning says so"
    else:
        assert pids["pid"] > 1


def test_numbers_of_namespaces_are_those_of_the_node(container, make_container, runtime):
    """Who compares /proc/PID/ns inside and outside finds the same; two containers differ in what each has for itself."""
    kinds = ("net", "ipc", "uts", "mnt", "pid")
    container.spawn_sleeping()
    (first,) = container.ask_exec("namespaces")
    second = make_container()
    second.spawn_sleeping()
    (other,) = second.ask_exec("namespaces")
    for kind in kinds:
        if not runtime.is_vm:
            assert first[kind] == os.stat(f"/proc/{container.pid}/ns/{kind}").st_ino, kind
            assert first[kind] != other[kind], kind
    assert container.ask_exec("readlink /proc/1/ns/uts") == [f"uts:[{first['uts']}]"]


def test_network_namespace_is_empty(container):
    interfaces, loopback, abstract = container.ask("interfaces", "loopback", "connect-unix @no-such-socket")
    assert [entry["name"] for entry in interfaces if entry["up"]] == ["lo"]
    assert next(entry for entry in interfaces if entry["name"] == "lo")["address"] == "127.0.0.1"
    assert loopback == "ping"
    assert error(abstract) == "ECONNREFUSED"


def test_ipc_namespace(container):
    made, found = container.ask("shm 0x5eaf00d create", "shm 0x5eaf00d")
    assert made == found
    assert f"{0x5eaf00d}" not in open("/proc/sysvipc/shm").read(), "System V shared memory of the container is not the host's"


def test_hostname_and_domainname(container):
    container.bundle.spec["hostname"] = "a-name.example"
    container.bundle.spec["domainname"] = "domain.example"
    host = os.uname().nodename
    (names,) = container.ask("uname")
    assert (names["nodename"], names["domainname"]) == ("a-name.example", "domain.example")
    assert os.uname().nodename == host


def test_hostname_only(container):
    (names,) = container.ask("uname")
    assert names["nodename"] == "caisson-test"


def test_join_namespaces_by_path(container, make_container):
    container.spawn_sleeping()
    own = container.ask_exec("namespaces")[0]
    second = make_container()
    for kind, name in {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}.items():
        second.bundle.namespace(kind, f"/proc/{container.pid}/ns/{name}")
    del second.bundle.spec["hostname"]
    inside, name, pids, processes = second.ask("namespaces", "uname", "pids", "processes")
    for kind in ("net", "ipc", "uts", "pid"):
        assert inside[kind] == own[kind], kind
    assert inside["mnt"] != own["mnt"]
    assert name["nodename"] == "caisson-test"
    assert pids["pid"] != 1
    assert 1 in [process["pid"] for process in processes], "it sees the first container's init"
    assert container.status() == "running", "the end of one is not the end of the other"


@pytest.mark.runtimes("microvm")
def test_join_of_a_host_namespace(container):
    """A guest cannot enter a namespace of the host's kernel: it gets one of its own, which is said by name."""
    container.bundle.namespace("ipc", "/proc/self/ns/ipc")
    container.bundle.process["args"] = ["/testinit", "ask", "namespaces"]
    outcome = container.run(check=False)
    assert "linux.namespaces" in outcome.stderr
    if outcome.ok:
        assert f"{os.stat('/proc/self/ns/ipc').st_ino}" not in outcome.stdout


def test_join_of_a_wrong_path(container, folder):
    (folder / "file").write_text("")
    for path in ("/no/such/file", folder / "file", "/proc/self/ns/uts"):  # the last is of another type
        container.bundle.namespace("ipc", path)
        outcome = container.run(check=False)
        assert outcome.status != 0, path


def shift_owner(path, by):
    for place, folders, files in os.walk(path):
        for name in [".", *folders, *files]:
            os.lchown(os.path.join(place, name), by, by)


def test_user_namespace(container):
    container.bundle.namespace("user")
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    container.bundle.linux["uidMappings"] = container.bundle.linux["gidMappings"] = mapping
    container.bundle.path.chmod(0o755)
    shift_owner(container.bundle.rootfs, 100000)
    container.bundle.set_capabilities(["CAP_CHOWN", "CAP_DAC_OVERRIDE"])
    maps, ids, made, changed, status, outside = container.ask("id_maps", "ids", "create /data/file", "chown /data/file 5 6", "stat /data/file", "namespaces")
    assert maps["uid"].split() == maps["gid"].split() == ["0", "100000", "65536"]
    assert (ids["uid"], ids["gid"]) == (0, 0)
    assert (made, changed) == (0, 0)
    assert (status["uid"], status["gid"]) == (5, 6)
    assert outside["user"] != host_namespaces()["user"]
    file = (container.bundle.rootfs / "data/file").stat()
    assert (file.st_uid, file.st_gid) == (100005, 100006)


def test_user_namespace_with_a_user(container):
    container.bundle.namespace("user")
    container.bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 1000}, {"containerID": 1000, "hostID": 300000, "size": 10}]
    container.bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 2000}]
    container.bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
    shift_owner(container.bundle.rootfs, 200000)
    (container.bundle.rootfs / "tmp").chmod(0o1777)
    ids, _ = container.ask("ids", "create /tmp/file")
    assert (ids["uid"], ids["gid"], ids["groups"]) == (1000, 1000, [7])
    status = (container.bundle.rootfs / "tmp/file").stat()
    assert (status.st_uid, status.st_gid) == (300000, 201000)


def test_time_namespace(container):
    container.bundle.namespace("time")
    container.bundle.linux["timeOffsets"] = {"monotonic": {"secs": 100000, "nanosecs": 500}, "boottime": {"secs": 200000}}
    other_bundle_offsets = container.bundle.linux["timeOffsets"]
    (shifted,) = container.ask("clocks")
    del container.bundle.linux["timeOffsets"]
    (plain,) = container.ask("clocks")
    assert other_bundle_offsets
    # Of a guest each boot has its own clock, so only the order of magnitude is certain.
    assert 99000 < shifted["monotonic"] / 1e9 - plain["monotonic"] / 1e9 < 101000
    assert 199000 < shifted["boottime"] / 1e9 - plain["boottime"] / 1e9 < 201000


def test_clock_is_the_hosts(container):
    import time
    before = time.time()
    (clocks,) = container.ask("clocks")
    assert before - 2 < clocks["realtime"] / 1e9 < time.time() + 2
