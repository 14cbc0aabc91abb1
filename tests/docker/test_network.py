"""docker's networks: it gives a container its interfaces when the container has been created. `--network none`: test_docker.py."""

import ctypes
import socket
import threading

import pytest

from harness.waiting import wait_for

REQUEST = "GET / HTTP/1.0\r\n\r\n"
SERVER = "mkdir /tmp/w && echo served > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w"


@pytest.fixture
def network(docker, name):
    """A user-defined bridge; the daemon's host is 10.217.0.1 there."""
    docker("network", "create", "--subnet", "10.217.0.0/24", "--opt", "com.docker.network.bridge.name=dtest0", name)
    yield name
    for container in docker("ps", "--all", "--quiet").stdout.split():
        docker("rm", "--force", container)
    docker("network", "rm", name)


def ask_from_host(docker, address, port):
    return docker.on_its_host("busybox", "timeout", "5", "busybox", "nc", address, port, input=REQUEST, check=False).stdout


def test_user_defined_bridge(docker, network, name):
    """The node to a container, by its address and by a published port; a container to the node and to another, by address and by name (docker's
    own name server)."""
    server = f"{name}s"
    docker.run("--detach", "--name", server, "--network", network, "--publish", "127.0.0.1::8080", "--", "sh", "-c", SERVER)
    address = docker.inspect(server, f".NetworkSettings.Networks.{network}.IPAddress")
    port = docker("port", server, "8080").stdout.strip().rpartition(":")[2]
    wait_for(lambda: "served" in ask_from_host(docker, address, 8080), "an answer at the container's address", interval=0.1)
    assert "served" in ask_from_host(docker, "127.0.0.1", port), "the published port"

    script = f"ip -o addr show eth0; ip route; ping -c 1 -W 5 10.217.0.1 >/dev/null && echo pinged; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {address} 8080; nslookup {server} 127.0.0.11"
    said = docker.run("--rm", "--network", network, "--", "sh", "-c", script, check=False).stdout
    assert "inet 10.217.0." in said and "default via 10.217.0.1" in said
    assert "pinged" in said and "served" in said
    assert f"Name:\t{server}\nAddress: {address}" in said, said


class Names(threading.Thread):
    """A name server on the daemon's host: 192.0.2.77 for every name with "example" in it."""

    def __init__(self, netns, address):
        super().__init__(daemon=True)
        self.ready, self.over = threading.Event(), threading.Event()
        self.netns, self.address, self.asked = netns, address, []

    def run(self):
        with open(f"/run/netns/{self.netns}") as place:
            ctypes.CDLL(None, use_errno=True).setns(place.fileno(), 0x40000000)  # this thread only
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((self.address, 53))
            server.settimeout(0.1)
            self.ready.set()
            while not self.over.is_set():
                try:
                    query, client = server.recvfrom(512)
                except TimeoutError:
                    continue
                end = query.index(0, 12) + 5
                self.asked.append(query[12:end - 5])
                is_a = query[end - 4:end - 2] == b"\0\1"
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x4d" if is_a else b""
                server.sendto(query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0" + query[12:end] + answer, client)

    def stop(self):
        self.over.set()
        self.join(10)


def test_names_of_the_world_outside(docker, network, name):
    """docker's name server asks another one, from the container's network namespace, for what it does not know itself."""
    names = Names(docker.daemon.netns, "10.217.0.1")
    names.start()
    assert names.ready.wait(10)
    try:
        said = docker.run("--rm", "--network", network, "--dns", "10.217.0.1", "--", "sh", "-c", "cat /etc/resolv.conf; nslookup -type=a web.example.test", check=False).stdout
        assert "nameserver 127.0.0.11" in said and "192.0.2.77" in said, (said, names.asked)
    finally:
        names.stop()


def test_default_bridge_and_several_networks(docker, network, name):
    """The interfaces of two networks that a created container is connected to before it starts."""
    docker("create", *docker.options, "--name", name + "b", "busybox", "sh", "-c", "ip -o -4 addr; ip route; cat /etc/hosts")
    docker("network", "connect", network, name + "b")
    said = docker("start", "--attach", name + "b").stdout
    assert "inet 10.216.0." in said and "inet 10.217.0." in said
    assert "default via 10.21" in said
