"""Networks of pods: port forwarding, host ports, name resolution, IPv6, MTU. The bridge and its namespaces are these tests' own."""

import contextlib
import json
import re
import socket
import subprocess
import threading

import pytest
from harness.waiting import wait_for

ALL = pytest.mark.runtimes("runc", "namespace", "microvm")
ANSWER = ["nc", "-ll", "-p", "8080", "-e", "echo", "hello from inside"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(address, port, deadline=5):
    """What a TCP server says before it closes; "" when it does not take the connection or says nothing."""
    try:
        with socket.create_connection((address, port), timeout=deadline) as client:
            text = b""
            while chunk := client.recv(65536):
                text += chunk
            return text.decode()
    except OSError:
        return ""


@contextlib.contextmanager
def port_forward(crictl, pod, inside):
    port = free_port()
    process = subprocess.Popen(crictl.argv("port-forward", pod.id, f"{port}:{inside}"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert "Forwarding from" in process.stdout.readline()
        yield port
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.runtimes("runc", "namespace", "appkernel", "microvm")
def test_port_forward_reaches_loopback_inside(network, make_pod, crictl, runtime_name):
    pod = make_pod()
    pod.start(ANSWER)
    wait_for(lambda: pod_listens(pod), "the server to listen")  # crictl ends after a connection that was refused
    with port_forward(crictl, pod, 8080) as port:
        assert wait_for(lambda: ask("127.0.0.1", port), "an answer through the forwarded port") == "hello from inside\n"
        assert wait_for(lambda: ask("127.0.0.1", port), "a second answer") == "hello from inside\n"


@ALL
def test_port_forward_to_a_closed_port_ends_the_connection(network, make_pod, crictl, runtime_name):
    pod = make_pod()
    pod.start(["sleep", "1000"])
    with port_forward(crictl, pod, 81) as port:
        assert ask("127.0.0.1", port, deadline=20) == ""


@ALL
def test_port_forward_carries_much_both_ways(network, make_pod, crictl, runtime_name):
    """An echo of 4 MiB, sent while it is read, and the end of the client's half passed on: asked in the pod's namespace, as containerd does."""
    pod = make_pod()
    pod.start(["nc", "-ll", "-p", "8080", "-e", "cat"])
    data = bytes(range(256)) * (16 << 10)
    netns = pod.network_namespace()
    script = "import socket,sys,threading\n" \
             "s=socket.create_connection(('127.0.0.1',8080),20)\n" \
             "d=sys.stdin.buffer.read()\n" \
             "t=threading.Thread(target=lambda:(s.sendall(d),s.shutdown(socket.SHUT_WR)))\n" \
             "t.start()\n" \
             "while (b:=s.recv(65536)): sys.stdout.buffer.write(b)\n" \
             "t.join()\n"
    echo = lambda: subprocess.run(["nsenter", f"--net={netns}", "/usr/bin/python3", "-c", script], input=data, capture_output=True, timeout=60).stdout
    wait_for(lambda: pod_listens(pod), "the echo server to listen")
    assert echo() == data


def pod_listens(pod):
    container = pod.crictl.call("ps", "-q", "--pod", pod.id).stdout.split()[0]
    return ":1F90 " in pod.exec(container, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout


@ALL
def test_host_port(network, make_pod, runtime_name):
    port = free_port()
    pod = make_pod(ports=[(port, 8080)])
    pod.start(ANSWER)
    assert wait_for(lambda: ask(network.host, port), "an answer at the host's port") == "hello from inside\n"


class NameServer(threading.Thread):
    """Answers every question for an A record with 192.0.2.77."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.asked = []

    def run(self):
        while True:
            try:
                query, client = self.socket.recvfrom(2048)
            except OSError:
                return
            if query == b"stop":
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            question = query[12:at + 5]
            is_a = question[-4:-2] == b"\0\1"
            self.asked.append(".".join(labels))
            known = self.asked[-1] == "web.example.test" and is_a
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, 77]) if known else b""
            self.socket.sendto(query[:2] + (b"\x81\x80" if "example" in self.asked[-1] else b"\x81\x83") + b"\0\1" + (b"\0\1" if known else b"\0\0") + b"\0\0\0\0" + question + answer, client)

    def stop(self, address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"stop", (address, 53))
        self.join(10)
        self.socket.close()


@ALL
def test_names_are_resolved_as_resolv_conf_says(network, make_pod, runtime_name):
    pod = make_pod(dns={"servers": [network.host], "searches": ["example.test"], "options": ["ndots:2"]})
    container = pod.start(["sleep", "1000"])
    server = NameServer(network.host)
    server.start()
    try:
        assert "192.0.2.77" in pod.exec(container, "nslookup", "-type=a", "web.example.test").stdout
    finally:
        server.stop(network.host)
    assert "web.example.test" in server.asked
    assert "options ndots:2" in pod.exec(container, "cat", "/etc/resolv.conf").stdout


@ALL
def test_ipv6_between_pods_and_to_the_host(network, make_pod, runtime_name):
    server, client = make_pod(), make_pod()
    server.start(["nc", "-ll", "-p", "8080", "-e", "echo", "six"])
    asking = client.start(["sleep", "1000"])
    address = next(text for text in server.addresses() if ":" in text)
    assert wait_for(lambda: client.exec(asking, "nc", "-w", "5", address, "8080", check=False).stdout.strip(), "the other pod to answer by IPv6") == "six"
    assert client.exec(asking, "ping6", "-c", "1", "-w", "10", network.host6).ok
    assert wait_for(lambda: ask(address, 8080), "the pod to answer the host by IPv6") == "six\n"


@pytest.fixture
def further(node, leftovers, marker):
    """further(kind): pods made from now on have a second interface, net1, of that kind (on a veth of ours), with a small MTU. Returns the far end."""
    parent, far = f"{marker}a"[-15:], f"{marker}b"[-15:]
    script = node.folder / "further"

    def prepare(kind, *options):
        subprocess.run(["ip", "link", "add", parent, "type", "veth", "peer", "name", far], check=True)
        for name in (parent, far):
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
        subprocess.run(["ip", "addr", "add", "10.214.0.1/24", "dev", far], check=True)
        probe = subprocess.run(["ip", "link", "add", "ctprobe", "link", parent, "type", kind, *options], capture_output=True, text=True)
        if probe.returncode != 0:
            pytest.skip(f"this kernel has no {kind}: {probe.stderr.strip()}")
        subprocess.run(["ip", "link", "del", "ctprobe"], check=True)
        script.write_text(f"""ip link add ctmove link {parent} type {kind} {' '.join(options)}
ip link set ctmove netns "$CNI_NETNS"
nsenter --net="$CNI_NETNS" sh -euc 'ip link set ctmove name net1 mtu 1400; ip addr add 10.214.0.9/24 dev net1; ip link set net1 up
  ip route add 198.51.100.0/24 via 10.214.0.1 dev net1'
""")
        return far

    yield prepare
    script.unlink(missing_ok=True)
    subprocess.run(["ip", "link", "del", parent], capture_output=True, check=False)


@ALL
@pytest.mark.parametrize("kind,options", [("macvlan", ["mode", "bridge"]), ("ipvlan", ["mode", "l2"])], ids=["macvlan", "ipvlan"])
def test_two_interfaces_and_mtu(network, further, make_pod, runtime_name, kind, options):
    """A second interface of another kind, as CNI meta-plugins put it into a pod's namespace."""
    far = further(kind, *options)
    pod = make_pod()
    container = pod.start(["sleep", "1000"])
    links = pod.exec(container, "ip", "addr").stdout
    assert re.search(r"net1[@:].*mtu 1400", links) and "10.214.0.9/24" in links and "eth0" in links
    routes = pod.exec(container, "ip", "route").stdout
    assert "198.51.100.0/24 via 10.214.0.1" in routes and f"default via {network.host}" in routes
    assert pod.exec(container, "ping", "-c", "1", "-w", "10", "10.214.0.1").ok
    # What is larger than the MTU goes in pieces that fit.
    assert pod.exec(container, "ping", "-c", "1", "-w", "10", "-s", "3000", "10.214.0.1").ok
    assert json.loads(subprocess.run(["ip", "-j", "link", "show", far], capture_output=True, text=True, check=True).stdout)[0]["mtu"] == 1500
