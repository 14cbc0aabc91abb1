"""Pods by crictl: what a kubelet asks of containerd's CRI."""

import json
import os
import pty
import subprocess

import pytest
from harness.waiting import read_to_end, read_until, wait_for

ALL = pytest.mark.runtimes("runc", "namespace", "appkernel", "microvm")


@ALL
def test_two_containers_share_network_hostname_and_memory(network, make_pod, runtime_name):
    pod = make_pod()
    first = pod.start(["sh", "-c", "echo shared > /dev/shm/x; while true; do echo hello | nc -l -p 8080; done"])
    second = pod.start(["sleep", "1000"])
    assert pod.exec(second, "hostname").stdout.strip() == pod.config["hostname"]
    assert wait_for(lambda: pod.exec(second, "nc", "127.0.0.1", "8080", check=False).stdout.strip(), "the first container to answer") == "hello"
    assert pod.exec(second, "cat", "/dev/shm/x").stdout.strip() == "shared"
    assert "192.0.2.53" in pod.exec(first, "cat", "/etc/resolv.conf").stdout


@ALL
def test_kernel_and_address(network, make_pod, crictl, runtime_name):
    pod = make_pod()
    container = pod.start(["sleep", "1000"])
    release = pod.exec(container, "uname", "-r").stdout.strip()
    assert (release == os.uname().release) == (runtime_name not in ("appkernel", "microvm"))
    status = crictl.json("inspectp", pod.id)["status"]["network"]
    addresses = pod.exec(container, "ip", "addr", "show", "eth0").stdout
    assert status["ip"] in addresses
    for extra in status["additionalIps"]:
        assert extra["ip"] in addresses


@ALL
def test_pod_reaches_host_and_pods_each_other(network, make_pod, crictl, runtime_name):
    server, client = make_pod(), make_pod()
    serving = server.start(["sh", "-c", "while true; do echo from the server | nc -l -p 8080; done"])
    asking = client.start(["sleep", "1000"])
    ip = crictl.json("inspectp", server.id)["status"]["network"]["ip"]
    ask = lambda: client.exec(asking, "nc", "-w", "5", ip, "8080", check=False).stdout.strip()
    assert wait_for(ask, "the other pod to answer") == "from the server"
    assert client.exec(asking, "ping", "-c", "1", "-w", "5", network.host).ok
    from_host = lambda: subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/{ip}/8080; head -c 100 <&3"], capture_output=True, text=True, timeout=10).stdout.strip()
    assert wait_for(from_host, "the pod to answer the host") == "from the server"
    assert pod_has_default_route(client, asking, network)
    assert serving


def pod_has_default_route(pod, container, network):
    return f"default via {network.host}" in pod.exec(container, "ip", "route").stdout


@ALL
def test_logs_exec_sync_and_exit_code(network, make_pod, crictl, runtime_name):
    pod = make_pod()
    container = pod.start(["sh", "-c", "echo out; echo err >&2; exit 4"])
    state = lambda: crictl.json("inspect", container)["status"]
    wait_for(lambda: state()["state"] == "CONTAINER_EXITED", "the container to end")
    assert state()["exitCode"] == 4
    lines = (pod.logs / "c1.log").read_text().splitlines()
    assert sorted(line.split(" ", 2)[1] for line in lines) == ["stderr", "stdout"]
    assert pod.start(["sleep", "1000"])


@ALL
def test_volumes_are_seen_and_written_through(network, make_pod, folder, runtime_name):
    data = folder / "data"
    data.mkdir()
    (data / "a").write_text("one")
    pod = make_pod()
    container = pod.start(["sleep", "1000"], mounts=[{"host_path": str(data), "container_path": "/data"},
                                                     {"host_path": str(data), "container_path": "/ro", "readonly": True}])
    assert pod.exec(container, "cat", "/data/a").stdout == "one"
    pod.exec(container, "sh", "-c", "echo -n two > /data/b")
    assert (data / "b").read_text() == "two"
    assert not pod.exec(container, "touch", "/ro/x", check=False).ok
    # A configMap's update: a symbolic link is renamed over the old one.
    for number in ("1", "2"):
        (data / f"v{number}").mkdir()
        (data / f"v{number}/key").write_text(number)
    (data / "current").symlink_to("v1")
    assert pod.exec(container, "cat", "/ro/current/key").stdout == "1"
    (data / "next").symlink_to("v2")
    os.rename(data / "next", data / "current")
    assert wait_for(lambda: pod.exec(container, "cat", "/ro/current/key").stdout == "2", "the update to be seen")


@ALL
def test_memory_limit_of_one_container_spares_the_other(network, make_pod, crictl, runtime_name):
    pod = make_pod()
    bystander = pod.start(["sleep", "1000"])
    hog = pod.start(["/testinit", "allocate", "256"], resources={"memory_limit_in_bytes": 32 << 20})
    state = lambda: crictl.json("inspect", hog)["status"]
    wait_for(lambda: state()["state"] == "CONTAINER_EXITED", "the hog to be killed")
    assert state()["exitCode"] == 137
    assert state()["reason"] == "OOMKilled"
    assert pod.exec(bystander, "echo", "alive").stdout == "alive\n"


@ALL
def test_statistics(network, make_pod, crictl, runtime_name):
    pod = make_pod()
    container = pod.start(["sh", "-c", "while true; do :; done"])
    def used():
        row = crictl.json("stats", "-o", "json", "--id", container)["stats"][0]
        return int(row["cpu"]["usageCoreNanoSeconds"]["value"]) > 10_000_000 and int(row["memory"]["workingSetBytes"]["value"]) > 0
    assert wait_for(used, "statistics of a busy container")


@ALL
def test_shared_process_namespace(network, make_pod, runtime_name):
    pod = make_pod(namespaces={"pid": 0})
    first = pod.start(["sleep", "12345"])
    second = pod.start(["sleep", "1000"])
    assert "sleep 12345" in pod.exec(second, "ps").stdout
    assert first


@pytest.mark.runtimes("runc", "namespace", "appkernel", "microvm")
def test_exec_on_a_terminal(network, make_pod, runtime_name):
    pod = make_pod()
    assert "got typed" in exec_on_a_terminal(pod, pod.start(["sleep", "1000"]))


@pytest.mark.runtimes("appkernel")
def test_handler_by_runtime_options(network, make_pod, runtime_name):
    """A RuntimeClass whose options' configuration says isolation = "appkernel"; what stands for a container ends that container only."""
    pod = make_pod(handler="caisson-appkernel")
    first, second = pod.start(["sleep", "1000"]), pod.start(["sleep", "1000"])
    assert pod.exec(first, "uname", "-r").stdout.strip().endswith("-caisson")
    pid = pod.crictl.json("inspect", second)["info"]["pid"]
    os.kill(pid, 9)
    state = lambda: pod.crictl.json("inspect", second)["status"]
    wait_for(lambda: state()["state"] == "CONTAINER_EXITED", "the exit event of the killed one")
    assert state()["exitCode"] == 137
    assert pod.exec(first, "echo", "alive").stdout == "alive\n"


def exec_on_a_terminal(pod, container):
    master, slave = pty.openpty()
    process = subprocess.Popen(pod.crictl.argv("exec", "-it", container, "sh", "-c", "tty; read line; echo got $line"), stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        text = read_until(master, b"/dev/pts/")
        os.write(master, b"typed\n")
        return (text + read_to_end(master)).decode()
    finally:
        process.wait(30)
        os.close(master)
