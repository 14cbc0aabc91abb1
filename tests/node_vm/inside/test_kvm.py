"""Micro-VMs by KVM, on a node whose processor has it. Runs on the node."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "containerd"))

from shim import Shim  # noqa: E402

CHECK = pathlib.Path("/var/lib/caisson/check.json")
# The node is emulated: its guests take their time.
PATIENT = "[microvm]\nboot_timeout_seconds = 240\nagent_timeout_seconds = 60\n"


@pytest.mark.runtimes("microvm")
def test_a_shim_takes_kvm_where_nobody_has_checked(bundle, folder, marker, leftovers, runtime_name):
    """microvm.accel is "auto", and no report is there: the shim itself makes the proof."""
    CHECK.unlink(missing_ok=True)
    bundle.process["args"] = ["/testinit", "sleep"]
    bundle.spec.pop("hostname")
    bundle.write()
    shim = Shim(folder, f"{marker}kvm", "microvm", PATIENT)
    try:
        (pid,) = shim.task("Create", {1: shim.id, 2: str(bundle.path)}, deadline=300)[1]
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        assert words[words.index("-accel") + 1] == "kvm", words
        shim.task("Start", {1: shim.id}, deadline=300)
        shim.task("Kill", {1: shim.id, 3: 9})
        shim.task("Wait", {1: shim.id})
        shim.task("Delete", {1: shim.id})
        shim.task("Shutdown", {1: shim.id})
    finally:
        shim.remove()
