"""Fixtures: one containerd per run of these tests, and images made here."""

import itertools
import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import images  # noqa: E402
from node import RUNTIME_TYPES, Crictl, Node, crictl_binary  # noqa: E402


@pytest.fixture(scope="session")
def node(scratch):
    if not shutil.which("containerd") or not shutil.which("ctr"):
        pytest.skip("containerd is not installed (Debian package containerd)")
    node = Node(scratch / "n", images.PAUSE)
    node.start()
    tree = images.busybox_tree(scratch / "image")
    for name, entrypoint in ((images.PAUSE, ["/testinit", "sleep"]), (images.BUSYBOX, ["/bin/sh"])):
        archive = images.docker_archive(tree, scratch / "image.tar", name, entrypoint)
        for namespace in ("default", "k8s.io"):
            node.ctr("images", "import", archive, namespace=namespace)
    yield node
    node.remove_everything()
    node.stop()


_numbers = itertools.count(1)


@pytest.fixture
def name(marker):
    return f"{marker}c{next(_numbers)}"


@pytest.fixture
def clean(node, runtime_name, leftovers):
    """The node, left as it was: no task, no shim, nothing of the runtime."""
    yield node
    node.remove_everything()


@pytest.fixture
def crictl(clean):
    if crictl_binary() is None:
        pytest.skip("crictl is not here: scripts/build-crictl makes it where a Go toolchain and the module are")
    return Crictl(clean)
