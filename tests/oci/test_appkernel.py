"""What the application kernel tells and takes from outside: debug, ps, limits, system call logs, signals to all."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness.runtime import caisson_binary
from harness.waiting import wait_for

pytestmark = pytest.mark.runtimes("appkernel")
MIB = 1 << 20


def debug(container, *args):
    return json.loads(container.runtime.call("debug", "--json", *args, container.id).stdout)


def exec_detached(container):
    """One more sleeping process; its streams are not the test's."""
    container.runtime.call("exec", "--detach", container.id, "/testinit", "sleep", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def listed(container):
    """ps as a table: a dictionary by the pid that the process has inside."""
    lines = [line.split() for line in container.runtime.call("ps", container.id).stdout.splitlines()]
    heading = lines[0]
    assert heading[:4] == ["UID", "PID", "PPID", "INSIDE"]
    return {int(line[3]): {"host": int(line[1]), "host_parent": int(line[2]), "command": " ".join(line[8:])} for line in lines[1:]}


def test_debug_tells_what_every_thread_does(container, runtime):
    container.spawn_sleeping()
    exec_detached(container)
    wait_for(lambda: len(debug(container)) == 2, "the exec to be there")
    first, second = wait_for(lambda: (rows := debug(container)) and all("call" in row["threads"][0] for row in rows) and rows, "both to sleep")
    assert (first["pid"], first["ppid"], first["command"]) == (1, 0, "/testinit sleep")
    assert first["hostPid"] == container.pid and second["hostPid"] != container.pid
    assert (second["ppid"], bool(second["execId"])) == (0, True)
    assert first["descriptors"] >= 3
    thread = first["threads"][0]
    assert thread["tid"] == 1 and thread["name"] == "testinit" and thread["state"] == "S"
    assert thread["inKernel"] and thread["asleepSeconds"] >= 0
    assert thread["call"] in ("rt_sigtimedwait", "rt_sigsuspend", "pause", "wait4", "nanosleep", "clock_nanosleep")
    assert "/testinit+0x" in thread["stack"][0]["place"]
    text = runtime.call("debug", container.id).stdout
    assert text.splitlines()[0].split()[:3] == ["PID", "TID", "PPID"] and f"{thread['call']}(" in text


def test_bridges_by_ioctl(container):
    """brctl, as critest's tests of privileged containers run it."""
    container.bundle.add_busybox()
    container.bundle.process["args"] = ["/bin/busybox", "sh", "-ec", """export PATH=/bin
busybox brctl addbr br7
busybox ip link add v7 type veth
busybox brctl addif br7 v7
busybox ip -o link show v7
busybox brctl delif br7 v7
busybox ip -o link show v7
busybox ip link del v7
busybox brctl delbr br7
busybox ip -o link show br7 || echo gone"""]
    refused = container.run(check=False)
    assert not refused.ok and "not permitted" in refused.stderr
    container.delete("--force", check=False)
    container.bundle.process["capabilities"] = {kind: ["CAP_NET_ADMIN"] for kind in ("bounding", "effective", "permitted")}
    lines = container.run().stdout.splitlines()
    assert "master br7" in lines[0] and "master" not in lines[1] and lines[2] == "gone"


def test_debug_of_a_busy_thread(container):
    container.bundle.add_busybox()
    container.bundle.process["args"] = ["/bin/sh", "-c", "while true; do :; done"]
    container.spawn()
    wait_for(lambda: any("call" not in row["threads"][0] and row["threads"][0]["state"] == "R" for row in debug(container) if row["threads"]), "a thread that runs")


def test_debug_is_refused_with_a_reason(container, runtime, make_container):
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()
    assert "before its start" in runtime.call("debug", container.id, check=False).stderr
    container.start()
    runtime.call("pause", container.id)
    assert "resume it first" in runtime.call("debug", container.id, check=False).stderr
    assert len(json.loads(runtime.call("ps", "--format", "json", container.id).stdout)) == 1, "who stands for its process is still told"
    runtime.call("resume", container.id)
    assert "must be on or off" in runtime.call("debug", "--strace", "perhaps", container.id, check=False).stderr
    other = make_container()
    other.bundle.process["args"] = ["/testinit", "sleep"]
    other.bundle.write()
    argv = [caisson_binary(), "--root", str(runtime.root), "--isolation", "namespace"]
    subprocess.run([*argv, "run", "--detach", "--bundle", other.bundle.path, other.id], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)
    assert "isolation namespace" in runtime.call("debug", other.id, check=False).stderr


def log_of(container):
    return (container.runtime.root / container.id / "sandbox.log").read_text(errors="replace")


def test_system_calls_are_logged_on_demand(container, runtime):
    container.spawn_sleeping()
    container.exec("/testinit", "ask", "cwd")
    assert "getcwd(" not in log_of(container)
    runtime.call("debug", "--strace", "on", container.id)
    container.exec("/testinit", "ask", "cwd")
    wait_for(lambda: "getcwd(" in log_of(container), "system calls in the log")
    runtime.call("debug", "--strace", "off", container.id)
    container.exec("/testinit", "echo")  # what was under way when it was switched off is told by now
    before = log_of(container).count("getcwd(")
    container.exec("/testinit", "ask", "cwd")
    assert log_of(container).count("getcwd(") == before


def test_system_calls_are_logged_by_annotation(container):
    container.bundle.spec["annotations"] = {"io.caisson.appkernel.strace": "true"}
    container.spawn_sleeping()
    wait_for(lambda: "execve(" in log_of(container) or "write(" in log_of(container), "system calls in the log")


def test_nonsense_is_refused_by_name(container, runtime):
    container.bundle.spec["annotations"] = {"io.caisson.appkernel.strace": "perhaps"}
    outcome = container.run(check=False)
    assert outcome.status != 0 and "io.caisson.appkernel.strace" in outcome.stderr
    assert "no-such" in runtime.call("debug", "no-such", check=False).stderr


def test_ps_has_both_numbers(container, runtime):
    container.bundle.process["args"] = ["/testinit", "orphans", "2"]
    container.spawn()
    container.wait_output("ready")
    exec_detached(container)
    rows = wait_for(lambda: (rows := listed(container)) and len(rows) == 4 and rows, "four processes")
    assert rows[1]["host"] == container.pid and rows[1]["command"] == "/testinit orphans 2"
    for row in rows.values():
        assert os.path.exists(f"/proc/{row['host']}"), "each has a process of the node"
    children = [row for inside, row in rows.items() if row["host_parent"] == container.pid]
    assert len(children) == 2, "orphans are the first process's"
    ours = json.loads(runtime.call("ps", "--format", "json", container.id).stdout)
    assert sorted(ours) == sorted(row["host"] for row in rows.values())


def test_a_signal_to_all_reaches_processes_of_the_guest_only(container, runtime):
    """The kernel process and what it keeps ready are no targets: exec works afterwards."""
    container.bundle.process["args"] = ["/testinit", "stubborn"]
    container.spawn()
    container.wait_output("ready")
    exec_detached(container)
    wait_for(lambda: len(listed(container)) == 2, "the exec to be there")
    runtime.call("kill", "--all", container.id, "TERM")
    wait_for(lambda: len(listed(container)) == 1, "the one that takes it to end")
    assert container.exec("/testinit", "echo", "alive").stdout == "alive\n"
    runtime.call("kill", "--all", container.id, "KILL")
    container.wait_stopped()


def inside(container):
    """MemTotal and MemFree in KiB, processors of cpuinfo, of the affinity mask, online ones."""
    meminfo, cpuinfo, online, scheduler = container.ask_exec("read /proc/meminfo", "read /proc/cpuinfo", "read /sys/devices/system/cpu/online", "scheduler")
    total, free = (int(re.search(rf"{name}:\s+(\d+) kB", meminfo).group(1)) for name in ("MemTotal", "MemFree"))
    return total, free, cpuinfo.count("processor\t"), len(scheduler["cpus"]), online.strip()


def test_limits_are_told_inside(container, runtime):
    """What JVMs, Go and free(1) read; after an update too."""
    container.bundle.linux["resources"].update({"memory": {"limit": 64 * MIB}, "cpu": {"quota": 50000, "period": 100000}})
    container.spawn_sleeping()
    total, free, processors, affinity, online = inside(container)
    assert (total, processors, affinity) == (64 << 10, 1, 1)
    assert 0 < free < total
    assert online.isdigit()
    runtime.call("update", "--memory", 96 * MIB, "--cpu-quota", -1, container.id)
    total, free, processors, affinity, online = inside(container)
    assert (total, processors, affinity) == (96 << 10, len(os.sched_getaffinity(0)), len(os.sched_getaffinity(0)))


def test_statistics_count_the_guests_processes(container, runtime):
    container.bundle.linux["resources"]["pids"] = {"limit": 50}
    container.bundle.process["args"] = ["/testinit", "orphans", "2"]
    container.spawn()
    container.wait_output("ready")
    pids = json.loads(runtime.call("events", "--stats", container.id).stdout)["data"]["pids"]
    assert (pids["current"], pids["limit"]) == (3, 50)


def test_who_kills_a_stub_kills_its_process_only(container, runtime):
    container.bundle.process["args"] = ["/testinit", "orphans", "2"]
    container.spawn()
    container.wait_output("ready")
    victims = {number: row["host"] for number, row in listed(container).items() if number != 1}
    first = min(victims)
    os.kill(victims[first], signal.SIGKILL)
    wait_for(lambda: first not in listed(container), "the process to end")
    assert set(listed(container)) == {1, max(victims)}
    assert container.exec("/testinit", "echo", "alive").stdout == "alive\n"


def test_a_pid_namespace_of_others_is_refused_by_name(container):
    container.bundle.namespace("pid", "/proc/1/ns/pid")
    outcome = container.run(check=False)
    assert outcome.status != 0 and "appkernel" in outcome.stderr and "pid namespace" in outcome.stderr
