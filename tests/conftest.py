"""Fixtures of all container tests. `--runtimes runc,namespace` chooses what they run against."""

import itertools
import os
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness import leftovers as leftovers_module  # noqa: E402
from harness import network  # noqa: E402
from harness import runtime as runtime_module  # noqa: E402
from harness.bundle import Bundle  # noqa: E402
from harness.container import ConsoleSocket, Container  # noqa: E402
from harness.expectations import expectation  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--runtimes", default="runc,crun,namespace", help="runtimes to test, of " + ",".join(runtime_module.NAMES))


def pytest_configure(config):
    leftovers_module.become_subreaper()


def pytest_generate_tests(metafunc):
    if "runtime_name" not in metafunc.fixturenames:
        return
    wanted = metafunc.config.getoption("--runtimes").split(",")
    marker = metafunc.definition.get_closest_marker("runtimes")
    names = [name for name in runtime_module.NAMES if name in wanted and (marker is None or name in marker.args)]
    metafunc.parametrize("runtime_name", names, scope="session")


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--runtimes").split(",")
    kept, dropped = [], []
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("runtime_name")
        if "runtime_name" in getattr(item, "fixturenames", []) and not isinstance(name, str):
            dropped.append(item)  # the test does not concern any of the chosen runtimes
            continue
        kept.append(item)
        if item.get_closest_marker("long") and os.environ.get("CAISSON_TEST_LONG") != "1":
            item.add_marker(pytest.mark.skip(reason="takes minutes: set CAISSON_TEST_LONG=1"))
        row = name and expectation(item.name, name)
        if row:
            kind, reason = row
            item.add_marker(pytest.mark.skip(reason=reason) if kind == "skip" else pytest.mark.xfail(reason=reason, strict=True))
    # A test's oracles come before caisson; tests stay in the order of their files.
    items[:] = kept
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    assert all(name in runtime_module.NAMES for name in wanted), f"--runtimes {wanted}: there are {runtime_module.NAMES}"


@pytest.fixture(scope="session")
def scratch():
    """A short folder (Unix socket names are limited to 107 bytes) for everything this process makes; removed at the end."""
    base = os.environ.get("CAISSON_TEST_TMP", "/tmp")
    os.makedirs(base, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ct", dir=base))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def marker():
    """Part of the name of everything that our containers make outside scratch."""
    return f"ct{os.getpid()}x"


@pytest.fixture
def runtime(runtime_name, scratch):
    return runtime_module.Runtime(runtime_name, scratch)


@pytest.fixture
def leftovers(scratch, marker, request):
    """Fails the test with what it left behind."""
    before = leftovers_module.snapshot(scratch, marker)
    yield before
    left = leftovers_module.wait_for_nothing(before, scratch, marker)
    if left:
        for pid, _, _ in leftovers_module.descendants(os.getpid()) - before["process"]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        pytest.fail("left behind:\n  " + "\n  ".join(line[:300] for line in left))


_numbers = itertools.count(1)


@pytest.fixture
def folder(scratch):
    """A fresh short folder, removed after the test."""
    path = scratch / f"b{next(_numbers)}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bundle(folder):
    return Bundle(folder)


@pytest.fixture
def make_container(runtime, scratch, marker, leftovers):
    """make_container(bundle=None) -> Container, freed at the end."""
    made, folders = [], []

    def make(bundle=None):
        number = next(_numbers)
        if bundle is None:
            bundle = Bundle(scratch / f"b{number}")
            folders.append(bundle.path)
        made.append(Container(runtime, bundle, f"{marker}{number}"))
        return made[-1]

    yield make
    for container in made:
        container.cleanup()
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def container(make_container, bundle):
    return make_container(bundle)


@pytest.fixture
def netns(marker):
    """The name of a network namespace whose loopback interface is up."""
    name = f"{marker}n"
    network.ip("netns", "add", name)
    network.ip("-n", name, "link", "set", "lo", "up")
    yield name
    network.ip("netns", "del", name)


@pytest.fixture
def console(folder):
    socket = ConsoleSocket(folder)
    yield socket
    socket.close()
