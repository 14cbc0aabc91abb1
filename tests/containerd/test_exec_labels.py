"""What the shim says of an exec's labels, which only the node's own processes can have. (The command line takes them out and says so itself: tests/oci.)"""

import json

import pytest
import ttrpc
from harness.waiting import wait_for
from shim import Shim, container_bundle, pod_config

PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"


@pytest.fixture
def shim(runtime_name, folder, marker, leftovers):
    made = Shim(folder, f"{marker}pod", runtime_name)
    yield made
    made.remove()


@pytest.mark.runtimes("appkernel")
@pytest.mark.parametrize("member, value", [("apparmorProfile", "some-profile"), ("selinuxLabel", "system_u:system_r:container_t:s0")])
def test_labels_of_execs_are_told_once_and_the_execs_run(shim, netns, folder, marker, member, value):
    shim.pod("CreateSandbox", {2: str(shim.bundle), 4: pod_config(f"{marker}host"), 5: f"/run/netns/{netns}"})
    pid = shim.pod("StartSandbox")[1][0]
    name = f"{marker}c1"
    bundle = container_bundle(folder / "c1", shim.id, pid, netns, ["/bin/sh", "-c", "exec sleep 1000"])
    shim.task("Create", {1: name, 2: str(bundle.path)})
    shim.task("Start", {1: name})
    for exec_id, labels in [("plain", {}), ("first", {member: value}), ("second", {member: value})]:
        output = folder / f"out-{exec_id}"
        output.touch()
        process = {**bundle.process, **labels, "args": ["/bin/busybox", "echo", exec_id]}
        spec = ttrpc.message({1: PROCESS, 2: json.dumps(process)})
        shim.task("Exec", {1: name, 2: exec_id, 5: f"file://{output}", 7: spec})
        words = f"process.{member} of an exec is ignored"
        assert (words in shim.log.read_text()) == (exec_id == "second"), "told before there was a label, or not at all"
        shim.task("Start", {1: name, 2: exec_id})
        assert shim.task("Wait", {1: name, 2: exec_id}).get(1, [0])[0] == 0
        wait_for(lambda: output.read_text() == f"{exec_id}\n", "the exec's words")
        shim.task("Delete", {1: name, 2: exec_id})
    assert shim.log.read_text().count(words) == 1, shim.log.read_text()
    shim.task("Kill", {1: name, 3: 9})
    shim.task("Wait", {1: name})
    shim.task("Delete", {1: name})
    shim.pod("StopSandbox", {2: 20})
    shim.pod("ShutdownSandbox")
