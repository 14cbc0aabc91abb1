"""A pod whose size nobody has told (no sandbox-memory and sandbox-cpu annotations): its machine is as large as what is created in it."""

import json
import os
import pathlib

import pytest
from harness.waiting import wait_for
from shim import Shim, container_bundle, pod_config

MIB = 1 << 20
LOOK = 'while :; do echo "$(/bin/busybox grep MemTotal /proc/meminfo | /bin/busybox tr -dc 0-9) $(/bin/busybox nproc)"; /bin/busybox sleep 0.3; done'


class Grown:
    """A pod on the machine type, whose containers are added one after the other."""

    def __init__(self, shim, folder, netns, marker):
        self.shim, self.folder, self.netns, self.marker, self.count = shim, folder, netns, marker, 0
        shim.pod("CreateSandbox", {2: str(shim.bundle), 4: pod_config(f"{marker}host"), 5: f"/run/netns/{netns}"})
        self.pid = shim.pod("StartSandbox")[1][0]

    def add(self, args, memory_mib=0, cpus=0.0):
        self.count += 1
        bundle = container_bundle(self.folder / f"c{self.count}", self.shim.id, self.pid, self.netns, args)
        if memory_mib:
            bundle.linux["resources"]["memory"] = {"limit": memory_mib * MIB}
        if cpus:
            bundle.linux["resources"]["cpu"] = {"period": 100000, "quota": int(cpus * 100000)}
        bundle.write()
        output = self.folder / f"out{self.count}"
        output.touch()
        task = {1: f"{self.marker}c{self.count}"}
        self.shim.task("Create", {**task, 2: str(bundle.path), 6: f"file://{output}"})
        self.shim.task("Start", task)
        return output

    def remove(self):
        self.shim.pod("StopSandbox", {2: 20})
        for number in range(self.count):
            for method in ("Wait", "Delete"):
                self.shim.task(method, {1: f"{self.marker}c{number + 1}"})
        self.shim.pod("ShutdownSandbox")


def seen(output):
    """(MiB, processors) as the guest has them now."""
    lines = [line.split() for line in output.read_text().splitlines() if len(line.split()) == 2]
    return (int(lines[-1][0]) >> 10, int(lines[-1][1])) if lines else (0, 0)


@pytest.mark.runtimes("microvm")
@pytest.mark.parametrize("machine, guest", [("q35", "stock"), ("q35", "tuned"), ("microvm", "auto")])
def test_a_machine_grows_with_its_pod(folder, marker, leftovers, netns, machine, guest):  # noqa: F811
    """q35 does, in memory and processors; microvm says once that it cannot, and by which container it has come."""
    if guest == "tuned" and not list(pathlib.Path("/var/cache/caisson/guest/tuned").glob("*")):
        pytest.skip("no tuned guest kernel has been built (caisson guest build --tuned)")
    shim = Shim(folder, f"{marker}pod", "microvm", f'[microvm]\nmachine = "{machine}"\nguest = "{guest}"\nboot_timeout_seconds = 240\n')
    try:
        pod = Grown(shim, folder, netns, marker)
        look = pod.add(["/bin/sh", "-c", LOOK])
        memory, cpus = wait_for(lambda: seen(look)[0] and seen(look), "the first container to look")
        assert 150 < memory < 260 and cpus == 1
        # 256 MiB for the one without a limit and the guest itself, 200 and 150 for these: 606.
        pod.add(["/bin/busybox", "sleep", "1000"], memory_mib=200, cpus=0.6)
        pod.add(["/bin/busybox", "sleep", "1000"], memory_mib=150, cpus=0.8)
        if machine == "microvm":
            wait_for(lambda: "it cannot grow" in shim.log.read_text(), "the warning")
            assert shim.log.read_text().count("it cannot grow") == 1 and f"{marker}c2" in shim.log.read_text()
            assert seen(look) == (memory, cpus)
        else:
            wait_for(lambda: seen(look)[0] >= 520, lambda: f"the memory to come, now {seen(look)} and at first {memory}", deadline=30)
            # 1.4 processors. (The tuned kernel counts none that may come under emulation, and that is said.)
            most = min(2, os.cpu_count()) if guest == "stock" else 1
            wait_for(lambda: seen(look)[1] == most, lambda: f"the second processor to come, now {seen(look)}", deadline=30)
            assert ("cannot grow so" in shim.log.read_text()) == (guest == "tuned")
            # More than the sum before: an update counts too.
            resources = {1: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", 2: json.dumps({"memory": {"limit": 500 * MIB}}).encode()}
            shim.task("Update", {1: f"{marker}c2", 2: resources})
            wait_for(lambda: seen(look)[0] >= 800, f"the memory of the update to come, now {seen(look)}", deadline=30)
        pod.remove()
    finally:
        shim.remove()
