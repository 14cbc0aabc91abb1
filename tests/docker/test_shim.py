"""docker with containerd-shim-caisson-v2: one dockerd for each isolation."""

import pytest

from harness.waiting import wait_for

SERVER = "mkdir /tmp/w && echo served > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w"


@pytest.mark.runtimes("namespace", "appkernel", "microvm")
def test_shim(shim_docker, leftovers, name):
    """A container's life, exec, network with a published port, out of memory."""
    docker = shim_docker
    outcome = docker.run("--rm", "-i", "--network", "none", "--", "sh", "-c", "cat; echo err >&2; exit 7", input="in\n", check=False)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (7, "in\n", "err\n"), docker.daemon.log_tail()
    docker.run("--detach", "--name", name, "--publish", "127.0.0.1:8081:8080", "--memory", "100m", "--", "sh", "-c", SERVER)
    ask = lambda: docker.on_its_host("busybox", "timeout", "5", "busybox", "nc", "127.0.0.1", "8081", input="GET / HTTP/1.0\r\n\r\n", check=False).stdout
    wait_for(lambda: "served" in ask(), "an answer at the published port", interval=0.1)
    assert docker("exec", name, "ping", "-c", "1", "-W", "5", "10.216.0.1").ok
    assert docker("exec", "-i", name, "sh", "-c", "cat; exit 4", input="x", check=False).status == 4
    docker("pause", name)
    docker("unpause", name)
    assert docker("stats", "--no-stream", "--format", "{{.Name}}", name).stdout.strip() == name
    docker("stop", "--time", "1", name)
    assert docker.inspect(name, ".State.ExitCode") == 137
    docker("rm", name)
    assert docker.run("--name", name, "--network", "none", "--memory", "64m", "--memory-swap", "64m", "--", "/testinit", "allocate", "200", check=False).status == 137
    wait_for(lambda: docker.inspect(name, ".State.OOMKilled"), "docker to know that it was the memory", deadline=10, interval=0.1)
    docker("rm", name)
