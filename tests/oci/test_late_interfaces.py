"""Interfaces that come into a container's network namespace after create and before start, as docker adds them."""

import pytest
from harness.network import add_veth, address, ip, join
from harness.waiting import wait_for


@pytest.mark.parametrize("before", [0, 1])
def test_interfaces_that_come_between_create_and_start(container, netns, marker, runtime, before):
    """The first of all, and one more beside one that a plug-in made in time (which a machine without places for more says by name)."""
    container.bundle.add_busybox()
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.bundle.process["capabilities"] = {kind: ["CAP_NET_RAW"] for kind in ("bounding", "effective", "permitted")}
    join(container.bundle, netns)
    if before:
        add_veth(marker, 0, netns)
    container.create()
    add_veth(marker, 1, netns)
    if not before:
        ip("-n", netns, "route", "add", "default", "via", "10.218.1.1")
    container.start()
    container.wait_output("ready")
    shown = container.exec("/bin/busybox", "ip", "-o", "addr").stdout
    if before and runtime.is_vm:
        assert address(0) in shown and address(1) not in shown
        assert "eth1 came into the network namespace after the container was created" in (runtime.root / container.id / "sandbox.log").read_text()
        return
    assert address(1) in shown and "eth1" in shown
    assert "mtu 1400" in container.exec("/bin/busybox", "ip", "link", "show", "eth1").stdout
    if not before:
        assert "via 10.218.1.1" in container.exec("/bin/busybox", "ip", "route").stdout
    wait_for(lambda: container.exec("/bin/busybox", "ping", "-c", "1", "-W", "1", "10.218.1.1", check=False).ok, "an answer to a ping", deadline=15)
    container.kill("KILL")
    container.wait_stopped()
    container.delete()
