"""Containers and pods under containerd: `ctr run`, pod start to ready, exec, many idle pods, network and volumes, beside runc's shim in the same containerd.

Uses the containerd of the tests (tests/containerd/node.py): folders and sockets of its own, images made here."""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from . import memory
from .samples import Samples

MIB = 1 << 20
TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests"
SIDES = {"runc": "runc", "caisson namespace": "namespace", "caisson microvm": "microvm"}
CNI = {"cniVersion": "0.4.0", "name": "caissonbench", "plugins": [
    {"type": "bridge", "bridge": "caissonbn0", "isGateway": True, "ipMasq": False,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.213.9.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}


class Side:
    """One runtime of the containerd that all share."""

    def __init__(self, name, handler, node, crictl, folder):
        self.name, self.handler, self.node, self.crictl, self.folder, self.count = name, handler, node, crictl, folder, 0

    def ctr(self, *words):
        self.count += 1
        self.node.ctr(*words[:1], "--runtime", self.types[self.handler], *words[1:])

    def pod(self):
        """(pod, how to remove it), with a network of its own."""
        self.count += 1
        name = f"bench-{self.handler}-{self.count}"
        return self.make_pod(self.crictl, self.handler, name, self.folder)


def modules(binaries):
    """The tests' containerd, with the programs of this build."""
    os.environ["CAISSON_BIN"] = os.path.join(binaries, "caisson")
    sys.path[:0] = [str(TESTS), str(TESTS / "containerd")]
    import images
    import node
    import pods
    return images, node, pods


class Containerd:
    """Started for the group, ended with everything in it."""

    def __init__(self, context, binaries):
        self.workload = context.workload
        self.images, self.node_module, self.pods_module = modules(binaries)
        self.folder = pathlib.Path(context.work) / "pods"
        self.folder.mkdir()
        self.node = self.node_module.Node(self.folder / "n", self.images.PAUSE)
        CNI["plugins"][0]["ipam"]["dataDir"] = str(self.folder / "ipam")
        (self.folder / "n/cni/10-bench.conflist").write_text(json.dumps(CNI))

    def __enter__(self):
        self.node.start()
        tree = self.images.busybox_tree(self.folder / "image")
        shutil.copy(self.workload, tree / "bench-work")
        for name, entrypoint in ((self.images.PAUSE, ["/testinit", "sleep"]), (self.images.BUSYBOX, ["/bin/sh"])):
            archive = self.images.docker_archive(tree, self.folder / "image.tar", name, entrypoint)
            for namespace in ("default", "k8s.io"):
                self.node.ctr("images", "import", archive, namespace=namespace)
        return self

    def __exit__(self, *_):
        self.node.remove_everything()
        self.node.stop()
        subprocess.run(["ip", "link", "del", "caissonbn0"], capture_output=True, check=False)

    def sides(self):
        crictl = self.node_module.Crictl(self.node)
        made = []
        for name, handler in SIDES.items():
            side = Side(name, handler, self.node, crictl, self.folder)
            side.types, side.make_pod, side.image = self.node_module.RUNTIME_TYPES, self.pods_module.Pod, self.images.BUSYBOX
            made.append(side)
        return made


def rounds(context, what, sides, count, once):
    """each_round, for work whose failures are the tests' assertions."""
    def guarded(side):
        try:
            once(side)
        except (AssertionError, KeyError) as error:
            raise RuntimeError(str(error)[:400]) from error

    context.each_round(what, sides, count, guarded)


def timed(work):
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def ctr_run(context, sides):
    row = Samples("pods", "ctr run --rm of true, wall", "ms", "runc")

    def once(side):
        row.add(side.name, timed(lambda: side.ctr("run", "--rm", side.image, f"bench{side.handler}{side.count}", "true")))

    rounds(context, "ctr run", sides, context.rounds, once)
    return [row]


def pod_start(context, sides):
    """From `crictl runp` to a container that has spoken; then exec in it, and writing and reading a volume."""
    size = 16 if context.quick else 64
    ready = Samples("pods", "pod start to ready: sandbox, container, its first word", "ms", "runc")
    executed = Samples("pods", "exec of true by crictl (includes crictl's own start)", "ms", "runc")
    wrote = Samples("pods", f"write of {size} MiB to a volume", "MiB/s", "runc", smaller_is_better=False)
    read = Samples("pods", f"first read of {size} MiB of a volume", "MiB/s", "runc", smaller_is_better=False)

    def once(side):
        volume = side.folder / f"volume-{side.handler}-{side.count}"
        volume.mkdir()
        with open(volume / "data", "wb") as file:
            for _ in range(size):
                file.write(os.urandom(MIB))
        begin = time.perf_counter()
        pod = side.pod()
        try:
            container = pod.start(["sh", "-c", "echo ready; sleep 1000"], mounts=[{"host_path": str(volume), "container_path": "/data"}])
            while "ready" not in ((pod.logs / "c1.log").read_text() if (pod.logs / "c1.log").exists() else ""):
                time.sleep(0.002)
            ready.add(side.name, (time.perf_counter() - begin) * 1000)
            executed.add(side.name, timed(lambda: pod.exec(container, "true")))
            told = json.loads(pod.exec(container, "/bench-work", "files", "/data", str(size), "100").stdout)
            read.add(side.name, told["read_first_mib_s"])
            wrote.add(side.name, told["write_mib_s"])
        finally:
            pod.remove()
            shutil.rmtree(volume, ignore_errors=True)

    rounds(context, "pods", sides, max(2, context.rounds // 2), once)
    return [ready, executed, wrote, read]


def kind_of(title):
    for word in ("containerd-shim", "qemu", "virtiofsd", "sleep"):
        if word in title:
            return word
    return title.split(" ")[0]


def idle_pods(context, sides):
    """Many containers that sleep, each with a shim of its own: what one more costs, by process."""
    count = 5 if context.quick else 20
    row = Samples("pods", f"one of {count} idle containers under containerd, all its processes but itself, PSS", "KiB", "runc")
    lines = []

    def once(side):
        before = set(memory.descendants(os.getpid()))
        names = [f"idle{side.handler}{number}" for number in range(count)]
        for name in names:
            side.ctr("run", "--detach", side.image, name, "sleep", "100000")
        time.sleep(1)
        sums = collections.Counter()
        for process in memory.of_sandbox(1.0):
            if process["pid"] not in before:
                sums[kind_of(process["title"])] += process["pss_kib"]
        for name in names:
            side.node.ctr("tasks", "rm", "-f", name, check=False)
            side.node.ctr("containers", "rm", name, check=False)
        row.add(side.name, sum(size for kind, size in sums.items() if kind != "sleep") / count)
        lines.extend([side.name, kind, f"{size / count:.0f}"] for kind, size in sums.items())

    rounds(context, "idle pods", sides, 1, once)
    return [row], {"title": f"one of {count} idle containers, by process (PSS, KiB)", "header": ["side", "process", "each"], "lines": lines}


def network(context, containerd, sides):
    """iperf3 in a pod, from the node and back; needs the tests' Debian image."""
    archive = pathlib.Path("/var/cache/caisson/test/bookworm-servers.tar")
    if not shutil.which("iperf3") or not archive.exists():
        context.failures.setdefault("network of pods", {})["all sides"] = f"needs iperf3 and {archive}, which tests/containerd/test_real_programs.py makes"
        return []
    name = "localhost/caisson-bench/debian:1"
    image = containerd.images.docker_archive(archive, containerd.folder / "debian.tar", name, ["/bin/bash"], path="/usr/sbin:/usr/bin:/sbin:/bin")
    containerd.node.ctr("images", "import", image, namespace="k8s.io", timeout=600)
    rows = [Samples("pods", f"TCP {way} the pod (iperf3)", "Mbit/s", "runc", smaller_is_better=False) for way in ("into", "out of")]

    def once(side):
        pod = side.pod()
        try:
            pod.start(["iperf3", "-s"], image=name)
            for row, options in zip(rows, ([], ["-R"])):
                row.add(side.name, throughput(pod.addresses()[0], options))
        finally:
            pod.remove()

    rounds(context, "network of pods", sides, max(1, context.rounds // 3), once)
    return rows


def throughput(address, options):
    for _ in range(50):
        done = subprocess.run(["iperf3", "-J", "-t", "2", "-c", address, *options], capture_output=True, text=True, timeout=60, check=False)
        # It ends with 0 even where the server was not ready or still busy with the last client.
        if done.returncode == 0 and "sum_received" in (told := json.loads(done.stdout)["end"]):
            return told["sum_received"]["bits_per_second"] / 1e6
        time.sleep(0.2)
    raise RuntimeError(f"iperf3: {done.stdout[-300:]}")


def measure(context, binaries):
    """Rows, tables, and what could not be measured: name -> reason."""
    if not shutil.which("containerd"):
        return [], [], {"pods": "containerd is not installed"}
    if not os.access(os.path.join(binaries, "containerd-shim-caisson-v2"), os.X_OK):
        return [], [], {"pods": f"{binaries}/containerd-shim-caisson-v2 is not built"}
    with Containerd(context, binaries) as containerd:
        sides = containerd.sides()
        rows = ctr_run(context, sides)
        idle, table = idle_pods(context, sides)
        rows += idle
        if not os.access(sides[0].crictl.binary or "", os.X_OK):
            return rows, [table], {"pods by crictl": "crictl is not here: scripts/build-crictl"}
        rows += pod_start(context, sides)
        rows += network(context, containerd, sides)
    return rows, [table], {}
