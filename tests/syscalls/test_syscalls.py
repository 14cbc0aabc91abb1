"""tests/guest/syscalls: system calls by family. Natively first, where they say what is right, then under the application kernel alone
(kernel_run), then in containers of the chosen runtimes (`--runtimes`)."""

import collections
import os
import pathlib
import shutil
import subprocess

import pytest

from harness.bundle import CAPABILITIES
from harness.runtime import caisson_binary

PROGRAMS = pathlib.Path(os.environ.get("CAISSON_SYSCALL_TESTS", pathlib.Path(caisson_binary()).parent))
TESTS = PROGRAMS / "syscall_tests"
KERNEL = PROGRAMS / "kernel_run"

Result = collections.namedtuple("Result", "verdict reason")


def cases():
    if not TESTS.exists():
        pytest.exit(f"{TESTS} is missing; build it with: ninja -C build/dev syscall_tests kernel_run", 2)
    return subprocess.run([TESTS, "list"], check=True, capture_output=True, text=True).stdout.split()


CASES = cases()
FAMILIES = sorted({case.split(".")[0] for case in CASES})
# Families whose tests change who they are, or mount a tmpfs.
NEED_ROOT = ("cgroup", "identity", "inotify", "ipc_limits", "mount_api", "mqueue", "namespace", "networks", "proc", "remote", "seccomp", "walk")
# What a family's container may do besides; all that it may do.
MORE = {"identity": "CHOWN", "networks": "NET_ADMIN NET_RAW", "proc": "CHOWN", "raw": "NET_RAW"}
ONLY = {
    "devices": "CHOWN FOWNER MKNOD SETUID SETGID SYS_ADMIN",
    "file_capabilities": "CHOWN FOWNER KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID",
    "overlay": "CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD SETGID SETUID SYS_ADMIN",  # copying up keeps owners
}


def capabilities_for(family):
    if family in ONLY:
        return ["CAP_" + name for name in ONLY[family].split()]
    as_root = ["CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP", "CAP_SYS_ADMIN"] if family in NEED_ROOT else []
    return [*CAPABILITIES, *as_root, *("CAP_" + name for name in MORE.get(family, "").split())]


def parse(output):
    """The program prints reasons, indented, before the line of the test that they belong to."""
    results, reason = {}, []
    for line in output.splitlines():
        word, _, name = line.partition(" ")
        if word in ("ok", "FAILED", "skipped") and name in CASES:
            results[name] = Result(word, "\n".join(reason))
            reason = []
        else:
            reason.append(line)
    return results, "\n".join(reason)


def check(results, rest, case):
    if case not in results:
        pytest.fail(f"{case} did not run: {rest[-3000:]}")
    if results[case].verdict == "skipped":
        pytest.skip(results[case].reason.strip())
    assert results[case].verdict == "ok", results[case].reason


class Place:
    """Runs a family when the first of its tests is asked for."""

    def __init__(self, argv, folder):
        self.argv, self.folder, self.done = argv, folder, {}

    def results(self, family):
        if family not in self.done:
            own = self.folder / family
            own.mkdir(parents=True)
            done = subprocess.run([*self.argv, TESTS, own, family], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                  timeout=300, check=False)
            self.done[family] = parse(done.stdout)
            shutil.rmtree(own, ignore_errors=True)
        return self.done[family]


@pytest.fixture(scope="session")
def native(scratch):
    return Place([], scratch / "syscalls-native")


@pytest.fixture(scope="session")
def kernel(scratch):
    return Place([KERNEL], scratch / "syscalls-kernel")


@pytest.mark.parametrize("case", CASES)
def test_native(native, case):
    check(*native.results(case.split(".")[0]), case)


@pytest.mark.parametrize("case", CASES)
def test_application_kernel(native, kernel, case):
    family = case.split(".")[0]
    results, _ = native.results(family)
    if case in results and results[case].verdict == "FAILED":
        pytest.fail("fails natively, so it says nothing")
    check(*kernel.results(family), case)


@pytest.mark.parametrize("family", FAMILIES)
def test_container(container, family):
    shutil.copy(TESTS, container.bundle.path / "rootfs/syscall_tests")
    (container.bundle.path / "rootfs/work").mkdir()
    container.bundle.process["args"] = ["/syscall_tests", "/work", family]
    container.bundle.set_capabilities(capabilities_for(family))
    if family in NEED_ROOT or family == "file_capabilities":
        container.bundle.process["noNewPrivileges"] = False
    outcome = container.run(check=False)
    results, rest = parse(outcome.stdout)
    wanted = [case for case in CASES if case.split(".")[0] == family]
    assert sorted(results) == sorted(wanted), f"{rest}\n{outcome}"
    failed = {case: result.reason for case, result in results.items() if result.verdict == "FAILED"}
    assert not failed, failed
