"""The fixture `node`: a Debian 12 of its own, booted once for all these tests, with the Caisson under test and the repository's tests in it."""

import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from harness.debian import CACHE, run
from harness.runtime import REPOSITORY, caisson_binary

if os.path.exists("/opt/node_service.py"):
    collect_ignore = []  # on the node itself
else:
    collect_ignore = ["inside"]
    sys.path.insert(0, os.path.dirname(__file__))

GUESTS = pathlib.Path("/var/cache/caisson/guest")
PROGRAMS = ["caisson", "caisson-agent", "containerd-shim-caisson-v2", "testinit", "kernel_run", "syscall_tests", "sandbox_test"]
ON_NODE = {"CAISSON_BIN": "/caisson/bin/caisson", "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/caisson/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class Node:
    """The machine, and what tests do with it."""

    def __init__(self, machine, release):
        self.machine, self.release, self.run = machine, release, machine.run

    def pytest(self, *arguments, timeout=600, env=None):
        """Runs tests of this repository on the node. Fails with what failed there; a list of (name, reason) of those skipped there."""
        report = "/tmp/report.xml"
        outcome = self.run("/usr/bin/python3", "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", *arguments, check=False, timeout=timeout,
                           cwd="/caisson/tests", env={**ON_NODE, **(env or {})})
        text = self.run("cat", report, check=False).stdout
        assert text, f"the tests did not run: {outcome}"
        self.run("rm", report)
        cases = list(xml.etree.ElementTree.fromstring(text).iter("testcase"))
        failed, skipped = [], []
        for case in cases:
            for kind in ("failure", "error"):
                failed += [f"{case.get('name')}: {part.text}" for part in case.findall(kind)]
            skipped += [(case.get("name"), part.get("message")) for part in case.findall("skipped")]
        assert not failed, f"{len(failed)} of {len(cases)} failed on the node:\n" + "\n\n".join(short(part) for part in failed)
        assert outcome.ok, f"{outcome}"
        assert len(cases) > len(skipped), f"nothing ran on the node: {skipped}"
        return skipped


def short(text):
    return text if len(text) < 4000 else f"{text[:2000]}\n[...]\n{text[-2000:]}"


def payload(folder):
    """An ext4 file with what is tested and what tests it."""
    tree = folder / "payload"
    (tree / "bin").mkdir(parents=True)
    source = pathlib.Path(caisson_binary()).parent
    for name in PROGRAMS:
        # Without debug information, which is most of them.
        if subprocess.run(["strip", "--strip-debug", "-o", tree / "bin" / name, source / name], capture_output=True).returncode != 0:
            shutil.copy(source / name, tree / "bin" / name)
    crictl = pathlib.Path(shutil.which("crictl") or CACHE / "bin/crictl")
    if crictl.exists():
        shutil.copy(crictl, tree / "bin/crictl")
    shutil.copytree(REPOSITORY / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__", "corpus", "guest"))
    shutil.copytree(REPOSITORY / "examples", tree / "examples")
    if GUESTS.exists():
        shutil.copytree(GUESTS, tree / "guest", ignore=shutil.ignore_patterns("initrd-*", ".*"))
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, folder / "payload.ext4", "1G")
    shutil.rmtree(tree)
    return folder / "payload.ext4"


@pytest.fixture(scope="session")
def node(scratch):
    from image import image, qemu_binary
    from machine import Machine
    program = qemu_binary()
    made = image()
    folder = scratch / "vm"
    folder.mkdir()
    machine = Machine(program, made, payload(folder), folder)
    try:
        machine.run("mkdir /caisson && mount -o noatime /dev/vdb /caisson && mkdir -p /var/cache/caisson && if [ -d /caisson/guest ]; then ln -s /caisson/guest /var/cache/caisson/guest; fi")
        yield Node(machine, made.release)
    finally:
        machine.stop()
