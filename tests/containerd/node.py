"""A containerd of our own: folders, sockets and configuration below one scratch folder, driven by ctr and crictl."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

from harness.runtime import REPOSITORY, Outcome, caisson_binary
from harness.waiting import wait_for, wait_for_exit

# What the tests call a runtime -> containerd's runtime type.
RUNTIME_TYPES = {
    "runc": "io.containerd.runc.v2",
    "namespace": "io.containerd.caisson-namespace.v2",
    "appkernel": "io.containerd.caisson-appkernel.v2",
    "microvm": "io.containerd.caisson-vm.v2",
}
SHIM_LINKS = ["containerd-shim-caisson-v2", "containerd-shim-caisson-namespace-v2", "containerd-shim-caisson-appkernel-v2", "containerd-shim-caisson-vm-v2"]

CONFIGURATION = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"{disabled}]
[grpc]
  address = "{folder}/c.sock"
[debug]
  level = "debug"
[plugins."io.containerd.grpc.v1.cri"]
  # The build machines' root lacks CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  sandbox_image = "{pause_image}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/cnibin"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
"""

DEVMAPPER = """
[plugins."io.containerd.snapshotter.v1.devmapper"]
  pool_name = "{pool}"
  root_path = "{folder}/devmapper"
  base_image_size = "64MB"
"""

HANDLER = """
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
      runtime_type = "{type}"
      pod_annotations = ["io.caisson.*"]
      container_annotations = ["io.caisson.*"]
"""

# Handlers of one runtime type that differ by their configuration.
CONFIGURED = {
    "configured-vm": 'isolation = "microvm"\n[microvm]\ndefault_memory_mib = 400\nboot_timeout_seconds = 240\n',
    "caisson-appkernel": 'isolation = "appkernel"\n',
    "configured-namespace": 'isolation = "namespace"\n',
    "configured-either": 'isolation = "microvm"\nhost_network = "namespace"\n[microvm]\nboot_timeout_seconds = 240\n',
}
CONFIGURED_HANDLER = """
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
      runtime_type = "io.containerd.caisson.v2"
      pod_annotations = ["io.caisson.*"]
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
        ConfigPath = "{folder}/{name}.toml"
"""

# A CNI plug-in for the end of a chain: runs the shell script that a test has put into the node's folder, with the pod's namespace as $CNI_NETNS.
FURTHER_PLUGIN = """#!/usr/bin/python3
import json, os, subprocess, sys
config = json.load(sys.stdin)
if os.environ["CNI_COMMAND"] == "VERSION":
    print(json.dumps({{"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}}))
elif os.environ["CNI_COMMAND"] == "ADD":
    if os.path.exists("{folder}/further"):
        done = subprocess.run(["sh", "-eu", "{folder}/further"], capture_output=True, text=True)
        if done.returncode != 0:
            print(json.dumps({{"cniVersion": "0.4.0", "code": 100, "msg": done.stderr}}))
            sys.exit(1)
    print(json.dumps(config["prevResult"]))
"""


class Node:
    """One containerd, started by start() and ended with everything below it by stop()."""

    def __init__(self, folder, pause_image, pool=None):
        """pool: the name of a thin pool of device mapper's, for the snapshotter of that name."""
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        shim = pathlib.Path(os.environ.get("CAISSON_SHIM", pathlib.Path(caisson_binary()).parent / "containerd-shim-caisson-v2"))
        assert shim.exists(), f"{shim} is not built"
        for name in SHIM_LINKS:
            (self.bin / name).symlink_to(shim)
        self.address = self.folder / "c.sock"
        text = CONFIGURATION.format(folder=self.folder, pause_image=pause_image, disabled="" if pool else ', "io.containerd.snapshotter.v1.devmapper"')
        for name, runtime_type in RUNTIME_TYPES.items():
            text += HANDLER.format(name=name, type=runtime_type)
        for name, configuration in CONFIGURED.items():
            (self.folder / f"{name}.toml").write_text(configuration)
            text += CONFIGURED_HANDLER.format(name=name, folder=self.folder)
        if pool:
            text += DEVMAPPER.format(folder=self.folder, pool=pool)
        (self.folder / "config.toml").write_text(text)
        (self.folder / "cni").mkdir()
        plugins = self.folder / "cnibin"
        plugins.mkdir()
        for plugin in pathlib.Path("/usr/lib/cni").glob("*"):
            (plugins / plugin.name).symlink_to(plugin)
        (plugins / "further").write_text(FURTHER_PLUGIN.format(folder=self.folder))
        (plugins / "further").chmod(0o755)
        self.process = None
        self.log_path = self.folder / "containerd.log"

    def start(self):
        env = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(["containerd", "--config", str(self.folder / "config.toml")], env=env, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: self.process.poll() is not None or self.ctr("version", check=False).ok, "containerd to answer")
        assert self.process.poll() is None, f"containerd has ended: {self.log_tail()}"

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self):
        """Ends containerd without warning, as a crash does; shims live on."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def log_tail(self, lines=40):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def ctr_argv(self, *args, namespace="default"):
        return ["ctr", "--address", str(self.address), "--namespace", namespace, *map(str, args)]

    def ctr(self, *args, namespace="default", check=True, timeout=60, text=True, input=None, **options):
        argv = self.ctr_argv(*args, namespace=namespace)
        done = subprocess.run(argv, text=text, timeout=timeout, input=input, stdin=None if input is not None else subprocess.DEVNULL, capture_output=True, **options)
        outcome = Outcome(argv, done.returncode, done.stdout, done.stderr)
        assert not check or outcome.ok, f"failed: {outcome}\ncontainerd's log ends:\n{self.log_tail()}"
        return outcome

    def run_argv(self, runtime, *args, namespace="default"):
        return self.ctr_argv("run", "--runtime", RUNTIME_TYPES[runtime], *args, namespace=namespace)

    def shims(self):
        """pids of the shims that serve this containerd."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    words = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if "containerd-shim" in words[0] and str(self.address) in words:
                    found.append(int(entry))
        return found

    def remove_everything(self):
        """Ends every task and container of every namespace; what a failed test left."""
        for namespace in self.ctr("namespaces", "ls", "-q").stdout.split():
            for task in self.ctr("tasks", "ls", "-q", namespace=namespace, check=False).stdout.split():
                self.ctr("tasks", "rm", "-f", task, namespace=namespace, check=False)
            for container in self.ctr("containers", "ls", "-q", namespace=namespace, check=False).stdout.split():
                self.ctr("containers", "rm", container, namespace=namespace, check=False)
        for pid in self.shims():
            os.kill(pid, signal.SIGKILL)
            wait_for_exit(pid)


def crictl_binary():
    """crictl: on PATH, or in the tests' cache where scripts/build-crictl puts it. None where there is none."""
    cached = pathlib.Path("/var/cache/caisson/test/bin/crictl")
    return shutil.which("crictl") or (str(cached) if cached.exists() else None)


class Crictl:
    """crictl against one node."""

    def __init__(self, node):
        self.node = node
        self.binary = crictl_binary()

    def argv(self, *args):
        endpoint = f"unix://{self.node.address}"
        return [self.binary, "--runtime-endpoint", endpoint, "--image-endpoint", endpoint, "--timeout", "60s", *map(str, args)]

    def call(self, *args, check=True, timeout=60, input=None):
        argv = self.argv(*args)
        done = subprocess.run(argv, text=True, timeout=timeout, input=input, stdin=None if input is not None else subprocess.DEVNULL, capture_output=True)
        outcome = Outcome(argv, done.returncode, done.stdout, done.stderr)
        assert not check or outcome.ok, f"failed: {outcome}\ncontainerd's log ends:\n{self.node.log_tail()}"
        return outcome

    def json(self, *args):
        return json.loads(self.call(*args).stdout)
