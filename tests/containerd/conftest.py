"""Fixtures: one containerd per run of these tests, and images made here."""

import itertools
import json
import os
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import images  # noqa: E402
from harness.waiting import wait_for  # noqa: E402
from node import Crictl, Node, crictl_binary  # noqa: E402
from pods import Pod  # noqa: E402


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


@pytest.fixture
def make_pod(crictl, runtime_name, name, folder, request):
    pods, numbers = [], itertools.count()

    def make(**options):
        if runtime_name == "appkernel":  # as a kubelet asks for it; without a word crictl asks for processes that all containers share
            options.setdefault("namespaces", {"pid": 1})
        pods.append(Pod(crictl, options.pop("handler", runtime_name), f"{name}p{next(numbers)}", folder, **options))
        return pods[-1]

    yield make
    for pod in pods:
        pod.remove()


class PodNetwork:
    """The bridge that pods are on, and the node's addresses there. Each process of pytest-xdist has its own."""

    def __init__(self):
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        number = 7 if worker == 0 else 100 + worker
        self.bridge = f"caissonct{worker}"
        self.subnets = [f"10.213.{number}.0/24", f"fd00:213:{number}::/64"]
        self.host, self.host6 = f"10.213.{number}.1", f"fd00:213:{number}::1"


# A pod on the node's own network has no place in a virtual machine: tests without a network plug-in give it one of its own.
@pytest.fixture
def network(node):
    network = PodNetwork()
    conf = {
        "cniVersion": "0.4.0", "name": "caissontest",
        "plugins": [{"type": "bridge", "bridge": network.bridge, "isGateway": True, "ipMasq": False,
                     "ipam": {"type": "host-local", "dataDir": str(node.folder / "ipam"),
                              "ranges": [[{"subnet": subnet}] for subnet in network.subnets],
                              "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
                    {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}, {"type": "further"}],
    }
    if crictl_binary() is None:
        pytest.skip("crictl is not here (scripts/build-crictl)")
    if not os.path.exists("/usr/lib/cni/bridge"):
        pytest.skip("CNI plug-ins are not installed (Debian package containernetworking-plugins)")
    path = node.folder / "cni/10-test.conflist"
    if not path.exists():
        path.write_text(json.dumps(conf))
        wait_for(lambda: '"NetworkReady"' in node_status(node) and network_ready(node), "containerd to load the network configuration")
    yield network
    subprocess.run(["ip", "link", "del", network.bridge], capture_output=True)


def node_status(node):
    return Crictl(node).call("info").stdout


def network_ready(node):
    conditions = json.loads(node_status(node))["status"]["conditions"]
    return any(row["type"] == "NetworkReady" and row["status"] for row in conditions)
