"""A shim that a test starts and calls itself, as containerd does."""

import os
import pathlib
import subprocess

import ttrpc
from harness.bundle import Bundle
from harness.runtime import caisson_binary

POD, TASK = "containerd.runtime.sandbox.v1.Sandbox", "containerd.task.v3.Task"


class Shim:
    """One shim, with its bundle and its options."""

    def __init__(self, folder, pod_id, isolation, config_body=""):
        self.folder, self.id = pathlib.Path(folder), pod_id
        self.bundle = self.folder / "pod"
        self.bundle.mkdir()
        self.log = self.bundle / "log"  # containerd makes a fifo of that name
        self.log.touch()
        options = ttrpc.message({2: "", 3: f'isolation = "{isolation}"\n{config_body}'})
        self.options = ttrpc.message({1: "runtimeoptions.v1.Options", 2: options})
        done = subprocess.run(self.argv("start"), cwd=self.bundle, input=self.options, capture_output=True, env={**os.environ, "TTRPC_ADDRESS": ""}, timeout=60)
        assert done.returncode == 0, done.stderr
        self.socket = done.stdout.decode().removeprefix("unix://")
        self.client = ttrpc.Client(self.socket)

    def argv(self, command):
        program = pathlib.Path(caisson_binary()).parent / "containerd-shim-caisson-v2"
        return [program, "-namespace", "ct", "-id", self.id, "-address", self.folder / "containerd.sock", command]

    def pod(self, method, fields=None, **options):
        return self.client.call(POD, method, {1: self.id, **(fields or {})}, **options)

    def task(self, method, fields, **options):
        return self.client.call(TASK, method, fields, **options)

    def remove(self):
        """What containerd does at last, whatever has become of the shim."""
        self.client.close()
        subprocess.run(self.argv("delete"), cwd=self.bundle, capture_output=True, check=False, timeout=60)


def pod_config(hostname):
    """A kubelet's PodSandboxConfig as the options of CreateSandbox."""
    return {1: "runtime.v1.PodSandboxConfig", 2: ttrpc.message({2: hostname})}


def container_bundle(folder, pod_id, pid, netns, args):
    """A further container of a pod: pid is that of the pod's first process, netns the name of its network namespace."""
    bundle = Bundle(folder)
    bundle.add_busybox()
    bundle.spec.pop("hostname")
    bundle.process["args"] = args
    bundle.spec["annotations"] = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": pod_id}
    paths = {"network": f"/run/netns/{netns}", "ipc": f"/proc/{pid}/ns/ipc", "uts": f"/proc/{pid}/ns/uts"}
    bundle.linux["namespaces"] = [{"type": kind, **({"path": paths[kind]} if kind in paths else {})} for kind in ("pid", "network", "ipc", "uts", "mount")]
    bundle.write()
    return bundle
