"""As docker drives the shim: a container's interfaces come after its creation and before its start."""

import pytest
from harness.bundle import Bundle
from harness.network import add_veth, address, join
from harness.waiting import wait_for
from shim import Shim


class LateContainer:
    """A container of the shim's, between create and start at first; output: the file that it writes to."""

    def __init__(self, folder, marker, isolation, args, netns=None):
        bundle = Bundle(folder / "b")
        bundle.add_busybox()
        bundle.spec.pop("hostname")
        bundle.process["args"] = args
        bundle.process["capabilities"] = {kind: ["CAP_NET_RAW"] for kind in ("bounding", "effective", "permitted")}
        if netns:
            join(bundle, netns)
        bundle.write()
        self.output = folder / "out"
        self.output.touch()
        self.shim = Shim(folder, f"{marker}c", isolation)
        self.task = {1: f"{marker}c"}
        self.path = str(bundle.path)

    def call(self, method, fields=None):
        return self.shim.task(method, {**self.task, **(fields or {})})

    def create(self):
        """The task's pid."""
        return self.call("Create", {2: self.path, 6: f"file://{self.output}"})[1][0]

    def end(self):
        self.call("Delete")
        self.call("Shutdown")


@pytest.fixture
def make_late(folder, marker, leftovers, netns, runtime_name):
    made = []

    def make(args, netns=None):
        made.append(LateContainer(folder, marker, runtime_name, args, netns))
        return made[-1]

    yield make
    for late in made:
        late.shim.remove()


@pytest.mark.runtimes("namespace", "microvm")
@pytest.mark.parametrize("how", ["named", "own"])
def test_interfaces_that_come_between_create_and_start(make_late, netns, marker, how):
    """named: the specification names the network namespace. own: it does not, and docker finds it by the task's pid."""
    script = "/bin/busybox ip -o addr; /bin/busybox ip link; /bin/busybox ping -c 1 -W 5 10.218.2.1 && echo answered; exec /testinit sleep"
    late = make_late(["/bin/sh", "-c", script], netns if how == "named" else None)
    pid = late.create()
    for number in (1, 2):
        add_veth(marker, number, netns if how == "named" else pid)
    late.call("Start")
    wait_for(lambda: "ready" in late.output.read_text(), lambda: f"the container to speak, which says {late.output.read_text()!r}", deadline=30)
    said = late.output.read_text()
    print(late.shim.log.read_text())
    assert address(1) in said and address(2) in said and "answered" in said, said
    assert said.count("mtu 1400") == 2, said
    late.call("Kill", {3: 9})
    late.call("Wait")
    late.end()


@pytest.mark.runtimes("microvm")
def test_a_machine_without_places_for_more_says_so(make_late, netns, marker):
    """One whose network was there in time has none: what comes late is named in the log, and the container starts."""
    late = make_late(["/bin/busybox", "ip", "-o", "addr"], netns)
    add_veth(marker, 1, netns)
    late.create()
    add_veth(marker, 2, netns)
    late.call("Start")
    assert late.call("Wait").get(1, [0])[0] == 0
    assert address(1) in late.output.read_text() and address(2) not in late.output.read_text()
    assert "eth2 came into the network namespace after the container was created" in late.shim.log.read_text()
    late.end()
