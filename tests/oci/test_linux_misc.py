"""config.json: linux.devices, sysctl, personality, annotations."""

import pytest

from harness.container import error


def test_devices(container):
    container.bundle.linux["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 1000, "gid": 1001},
        {"path": "/dev/sub/deeper/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/blocks", "type": "b", "major": 7, "minor": 200, "fileMode": 0o660, "gid": 6},
        {"path": "/data/elsewhere", "type": "u", "major": 1, "minor": 7},
    ]
    mine, deeper, pipe, blocks, elsewhere, read = container.ask("stat /dev/mine", "stat /dev/sub/deeper/null", "stat /dev/pipe", "stat /dev/blocks", "stat /data/elsewhere", "read /data/elsewhere 3")
    assert (mine["type"], mine["major"], mine["minor"], mine["mode"], mine["uid"], mine["gid"]) == ("char", 1, 5, 0o640, 1000, 1001)
    assert (deeper["type"], deeper["major"], deeper["minor"]) == ("char", 1, 3)
    assert (pipe["type"], pipe["mode"]) == ("fifo", 0o600)
    assert (blocks["type"], blocks["major"], blocks["minor"], blocks["gid"]) == ("block", 7, 200, 6)
    assert (elsewhere["type"], elsewhere["major"], elsewhere["minor"]) == ("char", 1, 7)
    assert read == "\0\0\0", "character devices 1:7 are allowed by default"


def test_device_rules(container):
    """What linux.resources.devices allows can be opened, and nothing else."""
    container.bundle.set_capabilities(["CAP_MKNOD", "CAP_DAC_OVERRIDE"])
    container.bundle.linux["resources"]["devices"] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rm"},
        {"allow": True, "type": "b", "access": "m"},
    ]
    container.bundle.process["noNewPrivileges"] = False
    made, read, write, disk, open_disk, misc, null, zero = container.ask(
        "mknod /data/fuse c 10 229", "open /data/fuse r", "open /data/fuse w", "mknod /data/disk b 7 0", "open /data/disk r", "mknod /data/misc c 10 232", "open /dev/null rw", "open /dev/zero rw")
    assert made == disk == 0
    assert error(read) in (None, "ENODEV", "ENXIO"), "allowed; whether there is a driver is another matter"
    assert error(write) == "EPERM"
    assert error(open_disk) == "EPERM"
    assert error(misc) in ("EPERM", None), "runc and crun let every node be made"
    assert (null, zero) == (True, True)


def test_all_devices(container):
    container.bundle.privileged()
    node, opened = container.ask("mknod /data/mem c 1 5", "open /data/mem rw")
    assert (node, opened) == (0, True)


def test_sysctl(container):
    container.bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "net.ipv4.ping_group_range": "0 5", "kernel.shm_rmid_forced": "1", "kernel.msgmax": "4096", "fs.mqueue.msg_max": "7", "kernel.domainname": "by.sysctl"}
    values = container.ask("sysctl net.ipv4.ip_forward", "sysctl net.ipv4.ping_group_range", "sysctl kernel.shm_rmid_forced", "sysctl kernel.msgmax", "sysctl fs.mqueue.msg_max", "sysctl kernel.domainname")
    assert values == ["1", "0\t5", "1", "4096", "7", "by.sysctl"]
    assert open("/proc/sys/kernel/msgmax").read().strip() != "4096"


def test_low_ports(container):
    """As docker sets it for every container: who is not root may bind ports below 1024."""
    container.bundle.add_busybox()
    container.bundle.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80"}
    container.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    container.bundle.set_capabilities([])  # crun leaves an exec those of its container, whoever it is for
    container.spawn_sleeping()
    serve = lambda port: container.exec("/bin/busybox", "httpd", "-p", str(port), "-h", "/data", check=False)
    allowed, refused = serve(80), serve(79)
    assert allowed.ok and not refused.ok and "denied" in refused.stderr
    (shown,) = container.ask_exec("sysctl net.ipv4.ip_unprivileged_port_start")
    assert shown == "80"
    container.kill("KILL")
    container.wait_stopped()
    container.delete()


@pytest.mark.parametrize("name", ["vm.swappiness", "kernel.panic", "kernel.pid_max", "fs.file-max"])
def test_sysctl_of_the_whole_node_is_refused(container, name):
    before = open("/proc/sys/" + name.replace(".", "/")).read()
    container.bundle.linux["sysctl"] = {name: "1"}
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert name in outcome.stderr
    assert open("/proc/sys/" + name.replace(".", "/")).read() == before


def test_sysctl_without_its_namespace_is_refused(container):
    container.bundle.without_namespace("network")
    container.bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert "net.ipv4.ip_forward" in outcome.stderr


def test_personality(container):
    container.bundle.linux["personality"] = {"domain": "LINUX32"}
    number, name = container.ask("personality", "uname")
    assert number & 0xff == 8
    assert name["machine"] == "i686"


def test_annotations_are_in_the_state(container):
    container.bundle.spec["annotations"] = {"org.example.one": "first", "org.example.two": "zweites ä", "org.example.empty": ""}
    container.create()
    assert container.state()["annotations"].items() >= container.bundle.spec["annotations"].items()
