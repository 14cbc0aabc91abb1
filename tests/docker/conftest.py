"""A dockerd of our own: folders, socket, network and mount namespace of its own, so that nothing of the node's is started or changed."""

import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from harness.busybox import busybox_archive
from harness.runtime import Outcome, caisson_binary
from harness.waiting import wait_for

DOCKER = "/usr/bin/docker"  # Debian's; another may be first in PATH
DOCKERD = "/usr/sbin/dockerd"
SHIMS = {"namespace": "containerd-shim-caisson-namespace-v2", "appkernel": "containerd-shim-caisson-appkernel-v2", "microvm": "containerd-shim-caisson-vm-v2"}

# Its network namespace is a named one; its mount namespace hides where it would write outside of its folders.
START = """set -eu
ip link set lo up
mount --bind {folder}/etc /etc/docker
export PATH={folder}/bin:$PATH
exec {dockerd} --data-root {folder}/data --exec-root {folder}/exec --pidfile {folder}/pid --host unix://{folder}/s --config-file {folder}/daemon.json \\
  --cgroup-parent /{cgroup} --iptables=false --ip6tables=false --oom-score-adjust 0 --bip 10.216.0.1/24
"""


class Dockerd:
    """One daemon with the containerd that it starts, and what `host` its containers see: the network namespace `netns`."""

    def __init__(self, folder, marker, number):
        self.folder = pathlib.Path(folder)
        self.netns = f"{marker}d{number}"
        self.cgroup = f"{marker}d{number}"
        self.process = None
        for name in ("bin", "etc", "cli"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "microvm.toml").write_text('isolation = "microvm"\n[microvm]\nboot_timeout_seconds = 240\nagent_timeout_seconds = 60\n')
        self.env = {**os.environ, "DOCKER_CONFIG": str(self.folder / "cli")}

    def add_runtimes(self, roots):
        """As an administrator does it: daemon.json names programs, and they are OCI command lines."""
        rows = {}
        for isolation in ("namespace", "appkernel", "microvm"):
            flags = ["--root", f"{roots}/root-docker-{isolation}", "--isolation", isolation]
            if isolation == "microvm":
                flags += ["--config", str(self.folder / "microvm.toml")]
            rows[isolation] = {"path": caisson_binary(), "runtimeArgs": flags}
        (self.folder / "daemon.json").write_text(json.dumps({"runtimes": rows}))

    def add_shim(self, isolation):
        """docker 20.10 takes no runtime by its shim's name (`--runtime io.containerd.caisson.v2`, docker 23 and later): for this daemon the shim
        that it always takes is ours."""
        shim = pathlib.Path(os.environ.get("CAISSON_SHIM", pathlib.Path(caisson_binary()).parent / "containerd-shim-caisson-v2"))
        assert shim.exists(), f"{shim} is not built"
        (self.folder / "bin" / SHIMS[isolation]).symlink_to(shim)
        wrapper = self.folder / "bin/containerd-shim-runc-v2"
        wrapper.write_text(f'#!/bin/sh\nexec {self.folder}/bin/{SHIMS[isolation]} "$@"\n')
        wrapper.chmod(0o755)
        (self.folder / "daemon.json").write_text("{}")

    def start(self):
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        (self.folder / "start").write_text(START.format(folder=self.folder, dockerd=DOCKERD, cgroup=self.cgroup))
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.netns}", "unshare", "--mount", "--propagation", "private", "sh", self.folder / "start"],
                                            env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: self.process.poll() is not None or self.call("version", check=False).ok, "dockerd to answer", interval=0.05)
        if self.process.poll() is not None:
            pytest.skip(f"dockerd does not run here: {self.log_tail(3)}")
        archive = self.folder / "image.tar"
        busybox_archive(archive)
        self.call("import", "--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin", archive, "busybox:latest")

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        subprocess.run(["ip", "netns", "del", self.netns], check=False)
        for controller in pathlib.Path("/sys/fs/cgroup").iterdir():
            for path in sorted(controller.glob(f"{self.cgroup}/**/"), reverse=True):
                path.rmdir()

    def log_tail(self, lines=20):
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])

    def argv(self, *args):
        # There, so that what a daemon keeps of a connection is not looked for among ours.
        return ["nsenter", f"--net=/run/netns/{self.netns}", DOCKER, "--host", f"unix://{self.folder}/s", *map(str, args)]

    def call(self, *args, check=True, timeout=90, input=None):
        argv = self.argv(*args)
        given = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env=self.env, **given)
        outcome = Outcome(argv, done.returncode, done.stdout, done.stderr)
        assert not check or outcome.ok, f"failed: {outcome}\ndockerd's log ends:\n{self.log_tail()}"
        return outcome


class Docker:
    """docker's command line, with one runtime."""

    def __init__(self, daemon, name, runtime):
        self.daemon, self.name = daemon, name
        self.options = ["--runtime", runtime]
        self.is_vm = name == "microvm"
        self.has_own_kernel = name in ("appkernel", "microvm")

    def __call__(self, *args, **options):
        return self.daemon.call(*args, **options)

    def run(self, *args, image="busybox", **options):
        """docker run ARGS... where args before "--" are options and the rest is the command."""
        at = args.index("--")
        return self("run", *self.options, *args[:at], image, *args[at + 1:], **options)

    def popen(self, *args, **options):
        return subprocess.Popen(self.daemon.argv(*args), env=self.daemon.env, **options)

    def on_its_host(self, *args, check=True, **options):
        """A command in the network namespace that is the daemon's host."""
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.daemon.netns}", *map(str, args)], capture_output=True, text=True, check=check, timeout=60, **options)

    def inspect(self, name, template):
        return json.loads(self("inspect", "--format", "{{json " + template + "}}", name).stdout)


def started(scratch, marker, number, prepare):
    missing = [path for path in (DOCKER, DOCKERD) if not os.path.exists(path)]
    if missing:
        pytest.skip(f"docker is not installed (Debian package docker.io): no {missing[0]}")
    os.makedirs("/etc/docker", exist_ok=True)
    daemon = Dockerd(scratch / f"dock{number}", marker, number)
    prepare(daemon)
    try:
        daemon.start()
        daemon.call("run", "--rm", "--network", "none", "busybox", "true")  # makes its cgroup in every controller
        yield daemon
        for name in daemon.call("ps", "--all", "--quiet").stdout.split():
            daemon.call("rm", "--force", name, check=False)
    finally:
        daemon.stop()


@pytest.fixture(scope="session")
def daemon(scratch, marker):
    for started_one in started(scratch, marker, 0, lambda daemon: daemon.add_runtimes(scratch)):
        yield started_one


@pytest.fixture
def docker(daemon, runtime_name, leftovers):
    docker = Docker(daemon, runtime_name, runtime_name)
    yield docker
    for name in docker("ps", "--all", "--quiet").stdout.split():
        docker("rm", "--force", "--volumes", name, check=False)


_daemons = itertools.count(1)


@pytest.fixture
def shim_docker(scratch, marker, runtime_name):
    """Through our shim. The daemon is the test's own."""
    for daemon in started(scratch, marker, next(_daemons), lambda daemon: daemon.add_shim(runtime_name)):
        yield Docker(daemon, runtime_name, "runc")
        shutil.rmtree(daemon.folder / "data", ignore_errors=True)


_numbers = itertools.count(1)


@pytest.fixture
def name(marker):
    """A name for a container, unique in this process."""
    return f"{marker}k{next(_numbers)}"


@pytest.fixture
def detached(docker, name):
    """A container that sleeps until a signal comes."""
    docker.run("--detach", "--network", "none", "--name", name, "--", "/testinit", "sleep")
    wait_for(lambda: "ready" in docker("logs", name).stdout, "the container's first line", interval=0.1)
    return name
