"""podman with storage of its own: nothing global is started or changed."""

import itertools
import json
import os
import pathlib
import resource
import shutil
import subprocess

import pytest

from harness.busybox import busybox_archive
from harness.debian import debian_archive
from harness.runtime import Outcome, caisson_binary


class Podman:
    """podman's command line, with one runtime."""

    def __init__(self, runtime_name, storage, scratch):
        self.name = runtime_name
        self.is_caisson = runtime_name in ("namespace", "appkernel", "microvm")
        self.is_vm = runtime_name == "microvm"
        self.has_own_kernel = runtime_name in ("appkernel", "microvm")
        self.argv = ["podman", "--root", f"{storage}/s", "--runroot", f"{storage}/r", "--tmpdir", f"{storage}/t", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--storage-driver", "overlay"]
        if self.is_caisson:
            # podman does not pass --runtime-flag on to its own cleanup after a container's end, so a root of our own needs a script.
            script = pathlib.Path(storage) / f"caisson-{runtime_name}"
            script.write_text(f'#!/bin/sh\nexec {caisson_binary()} --root {scratch}/root-podman-{runtime_name} --isolation {runtime_name} "$@"\n')
            script.chmod(0o755)
            self.argv += ["--runtime", str(script)]
        else:
            self.argv += ["--runtime", shutil.which(runtime_name) or runtime_name]
        self.folder = storage  # where it runs: conmon leaves a file "oom" there
        self.env = {**os.environ, "CONTAINERS_CONF": f"{storage}/containers.conf", "CONTAINERS_REGISTRIES_CONF": "/dev/null", "XDG_RUNTIME_DIR": f"{storage}/x"}

    def __call__(self, *args, check=True, timeout=90, stdin=subprocess.DEVNULL, input=None, text=True):
        argv = [*self.argv, *map(str, args)]
        given = {"input": input} if input is not None else {"stdin": stdin}
        done = subprocess.run(argv, capture_output=True, text=text, timeout=timeout, env=self.env, cwd=self.folder, **given)
        outcome = Outcome(argv, done.returncode, done.stdout, done.stderr)
        if check:
            assert outcome.ok, f"failed: {outcome}"
        return outcome

    def popen(self, *args, **options):
        return subprocess.Popen([*self.argv, *map(str, args)], env=self.env, cwd=self.folder, **options)

    def inspect(self, name):
        return json.loads(self("inspect", name).stdout)[0]

    def state(self, name):
        return self.inspect(name)["State"]


@pytest.fixture(scope="session")
def storage(scratch):
    """podman's storage with the images `busybox` in it."""
    folder = scratch / "pod"
    for name in ("s", "r", "t", "x"):
        (folder / name).mkdir(parents=True)
    # podman would raise the limits, which root may not do where it lacks CAP_SYS_RESOURCE; it lowers its own limit of processes to 32768.
    hard = {"nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1], "nproc": 32768}
    limits = [f"{kind}={value}:{value}" for kind, value in hard.items()]
    (folder / "containers.conf").write_text(f'[engine]\ninfra_image = ""\n[containers]\nlog_driver = "k8s-file"\ndefault_ulimits = {json.dumps(limits)}\n')
    busybox_archive(folder / "busybox.tar")
    podman = Podman("runc", folder, scratch)
    podman("import", "--change", "CMD=/bin/sh", "--change", "ENV=PATH=/bin", folder / "busybox.tar", "busybox:latest")
    yield folder
    podman("rm", "--all", "--force", "--time", "0", check=False)
    podman("pod", "rm", "--all", "--force", check=False)
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo") if line.split()[4].startswith(str(folder))]
    for mount in reversed(mounts):
        subprocess.run(["umount", "-l", mount], check=False)


@pytest.fixture(scope="session")
def debian(storage, scratch):
    podman = Podman("runc", storage, scratch)
    podman("import", "--change", "CMD=/bin/bash", "--change", "ENV=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", debian_archive(), "debian:latest", timeout=300)
    return "debian:latest"


@pytest.fixture
def podman(runtime_name, storage, scratch, leftovers):
    instance = Podman(runtime_name, storage, scratch)
    yield instance
    instance("rm", "--all", "--force", "--time", "0", check=False)


_numbers = itertools.count(1)


@pytest.fixture
def name(marker):
    """A name for a container, unique in this process."""
    return f"{marker}p{next(_numbers)}"
