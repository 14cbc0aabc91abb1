"""Pods with application kernels: all containers of a pod live in the kernel process of its first one, each in a cgroup and with a root of its own."""

import json
import os
import pathlib
import signal

import pytest
from harness.waiting import wait_for

APPKERNEL = pytest.mark.runtimes("appkernel")
ALL = pytest.mark.runtimes("runc", "namespace", "appkernel", "microvm")
SLEEP = ["sleep", "1000"]


def pid_of(pod, container):
    return pod.crictl.json("inspect", container)["info"]["pid"]


def kernel_of(pod):
    """The pid of its kernel process: the first of the PID namespace of its pause container's first process."""
    namespace = os.readlink(f"/proc/{pod.status()['info']['pid']}/ns/pid")
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text() == "caisson-kernel\n" and os.readlink(comm.parent / "ns/pid") == namespace:
                return int(comm.parent.name)
        except OSError:
            pass
    return None


def name_of(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def members(pod):
    """Names of the processes in each of the pod's cgroups, by container."""
    rows = {}
    for folder in pathlib.Path("/sys/fs/cgroup/pids").glob(f"{pod.name}/*/"):
        rows[folder.name] = sorted(name_of(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return rows


def ended(pod, container):
    """Its exit status, once it has ended."""
    status = lambda: pod.crictl.json("inspect", container)["status"]
    wait_for(lambda: status()["state"] == "CONTAINER_EXITED", f"container {container} to end")
    return status()["exitCode"]


@APPKERNEL
def test_one_kernel_process_serves_the_pod(network, make_pod, node, runtime_name):
    pod = make_pod()
    containers = [pod.start(SLEEP) for _ in range(3)]
    # Its stand-in, and what runs its code: in a cgroup of its own.
    everywhere = lambda: all({"caisson-init", "caisson-guest"} <= set(members(pod)[container]) for container in containers)
    wait_for(everywhere, lambda: f"each container to have its processes: {members(pod)}")
    # A stub's process has its maker's name for a moment.
    wait_for(lambda: sum(names.count("caisson-kernel") for names in members(pod).values()) == 1, lambda: f"one kernel process: {members(pod)}")
    assert name_of(kernel_of(pod)) == "caisson-kernel"
    for container in containers:
        assert name_of(pid_of(pod, container)) == "caisson-init"
        assert [int(line.split()[0]) for line in node.ctr("task", "ps", container, namespace="k8s.io").stdout.splitlines()[1:]] == [pid_of(pod, container)]


@ALL
def test_system_v_memory_is_the_pods(network, make_pod, runtime_name):
    pod, other = make_pod(), make_pod()
    first, second, outsider = pod.start(SLEEP), pod.start(SLEEP), other.start(SLEEP)
    asked = lambda which, container, *words: json.loads(which.exec(container, "/testinit", "ask", "shm", "4711", *words).stdout)
    made = asked(pod, first, "create")
    assert asked(pod, second) == made
    assert "ENOENT" in str(asked(other, outsider))


@ALL
def test_exec_is_where_its_container_is(network, make_pod, runtime_name):
    pod = make_pod()
    containers = [pod.start(["sh", "-c", f"echo {number} > /mine; exec sleep 1000"]) for number in range(2)]
    for number, container in enumerate(containers):
        wait_for(lambda: pod.exec(container, "cat", "/mine", check=False).stdout == f"{number}\n", "the container's own file")
        assert pod.exec(container, "hostname").stdout.strip() == pod.config["hostname"]


@ALL
def test_a_container_ends_alone_and_another_follows(network, make_pod, runtime_name):
    pod = make_pod()
    steady = pod.start(SLEEP)
    for status in (0, 7):
        assert ended(pod, pod.start(["sh", "-c", f"sleep 1000 & exit {status}"])) == status
    killed = pod.start(SLEEP)
    if runtime_name == "microvm":
        pod.crictl.call("stop", "--timeout", "0", killed)  # its pid is the machine's
    else:
        os.kill(pid_of(pod, killed), signal.SIGKILL)
    assert ended(pod, killed) == 137
    missing = pod.create(["/no/such/program"])
    assert not pod.crictl.call("start", missing, check=False).ok
    pod.crictl.call("rm", killed)
    assert pod.exec(pod.start(SLEEP), "echo", "new").stdout == "new\n"
    assert pod.exec(steady, "echo", "alive").stdout == "alive\n"


@APPKERNEL
def test_containers_that_have_gone_leave_nothing_in_the_kernel(network, make_pod, runtime_name):
    """No descriptor of their files, so that what they are on can be unmounted; no zygote, no zombie."""
    pod = make_pod()
    kernel = kernel_of(pod)
    descriptors = lambda: len(os.listdir(f"/proc/{kernel}/fd"))
    children = lambda: pathlib.Path(f"/proc/{kernel}/task/{kernel}/children").read_text().split()

    def come_and_go():
        container = pod.start(["sh", "-c", "cat /etc/passwd > /copy; sleep 1000 & exit 3"])
        assert ended(pod, container) == 3
        pod.crictl.call("rm", container)

    come_and_go()
    before, family = descriptors(), len(children())
    for _ in range(3):
        come_and_go()
    wait_for(lambda: descriptors() <= before, lambda: f"{descriptors()} descriptors to be {before}", deadline=10)
    wait_for(lambda: len(children()) <= family, lambda: f"{children()} to be {family} processes", deadline=10)


@APPKERNEL
def test_a_kernel_process_that_is_killed_ends_all_of_the_pod(network, make_pod, runtime_name):
    pod, other = make_pod(), make_pod()
    containers = [pod.start(SLEEP), pod.start(SLEEP)]
    beside = other.start(SLEEP)
    os.kill(kernel_of(pod), signal.SIGKILL)
    assert [ended(pod, container) for container in containers] == [137, 137]
    assert wait_for(lambda: pod.status()["status"]["state"] == "SANDBOX_NOTREADY", "the pod to be told of")
    assert other.exec(beside, "echo", "alive").stdout == "alive\n"


@pytest.mark.runtimes("runc", "namespace", "appkernel")
def test_a_paused_container_does_not_stop_the_others(network, make_pod, node, runtime_name):
    pod = make_pod()
    paused, running = pod.start(SLEEP), pod.start(SLEEP)
    node.ctr("task", "pause", paused, namespace="k8s.io")
    assert pod.exec(running, "sh", "-c", "echo alive | cat").stdout == "alive\n"
    assert pod.exec(pod.start(SLEEP), "echo", "new").stdout == "new\n"
    node.ctr("task", "resume", paused, namespace="k8s.io")
    assert pod.exec(paused, "echo", "back").stdout == "back\n"


@pytest.mark.runtimes("runc", "namespace", "appkernel")
def test_shared_processes_are_signalled_across_and_end_with_their_container(network, make_pod, runtime_name):
    pod = make_pod(namespaces={"pid": 0})
    first = pod.start(["sh", "-c", "sleep 12345 & exec sleep 1000"])
    second = pod.start(SLEEP)
    sleeper = lambda: [line.split()[0] for line in pod.exec(second, "ps").stdout.splitlines() if line.endswith(" sleep 12345")]
    (victim,) = wait_for(sleeper, "a process of the other container to be seen")
    pod.exec(second, "kill", victim)
    wait_for(lambda: not sleeper(), "it to end")
    pod.exec(first, "sh", "-c", "sleep 12345 > /dev/null 2>&1 &")
    wait_for(sleeper, "another one")
    pod.crictl.call("stop", "--timeout", "0", first)
    wait_for(lambda: not sleeper(), "it to end with its container")
    assert pod.exec(second, "echo", "alive").stdout == "alive\n"


@pytest.mark.runtimes("runc", "namespace", "appkernel")
@pytest.mark.parametrize("shared", [0, 1])
def test_a_hostile_container_does_not_reach_the_others_files(network, make_pod, runtime_name, shared):
    """Up from everything that it can name, by uid 1000 through /proc where processes are shared, by mount points and by numbers that are not its own."""
    pod = make_pod(namespaces={"pid": shared})
    victim = pod.start(["sh", "-c", "echo secret > /root/secret; chmod 700 /root; exec sleep 1000"])
    wait_for(lambda: pod.exec(victim, "cat", "/root/secret", check=False).ok, "the secret")
    user = {"linux": {"security_context": {"namespace_options": {"pid": shared}, "run_as_user": {"value": 1000}}}}
    hostile = pod.start(SLEEP, **user)
    up = "/".join([".."] * 40)
    looks = f"""
        cat {up}/root/secret /proc/self/root/{up}/root/secret /proc/self/cwd/{up}/root/secret
        cd /proc/self/fd && cat {up}/root/secret
        for pid in /proc/[0-9]*; do cat $pid/root/root/secret $pid/cwd/root/secret $pid/task/*/root/root/secret; ls $pid/fd; cat $pid/environ; done
        true
    """
    assert "secret" not in pod.exec(hostile, "sh", "-c", looks).stdout
    assert pod.exec(victim, "cat", "/root/secret").stdout == "secret\n"
