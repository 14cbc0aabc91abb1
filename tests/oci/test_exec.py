"""exec, in all its variants. One container answers most of them: in a micro-VM starting one takes seconds, exec milliseconds."""

import concurrent.futures
import json
import os
import subprocess

import pytest

from harness.bundle import Bundle, capability_bits
from harness.container import Container, question_args
from harness.leftovers import snapshot, wait_for_nothing
from harness.runtime import Runtime
from harness.waiting import read_to_end, wait_for, wait_for_exit


@pytest.fixture(scope="module")
def running(runtime_name, scratch, marker):
    """A sleeping container that the tests of this module share."""
    folder = scratch / f"exec-{runtime_name}"
    before = snapshot(scratch, marker)
    bundle = Bundle(folder)
    bundle.set_capabilities(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"])
    bundle.process["noNewPrivileges"] = False
    container = Container(Runtime(runtime_name, scratch), bundle, f"{marker}exec")
    container.spawn_sleeping()
    yield container
    container.runtime.call("delete", "--force", container.id)
    left = wait_for_nothing(before, scratch, marker)
    assert not left, "left behind:\n  " + "\n  ".join(left)


def process_file(running, **changes):
    """A process document for --process."""
    document = {"args": ["/testinit", "exit", "0"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/"], **changes}
    path = running.bundle.path / "process.json"
    path.write_text(json.dumps(document))
    return path


def test_exit_statuses(running):
    for status in (0, 1, 42, 255):
        assert running.exec("/testinit", "exit", status, check=False).status == status
    assert running.exec("/testinit", "die", "15", check=False).status == 128 + 15
    assert running.exec("/testinit", "die", "9", check=False).status == 128 + 9


def test_streams(running):
    outcome = running.exec("/testinit", "both")
    assert (outcome.stdout, outcome.stderr) == ("to stdout\n", "to stderr\n")
    assert json.loads(running.exec("/testinit", "hash", input="x" * 100000).stdout)["bytes"] == 100000
    assert running.exec("/testinit", "cat", input="back\n").stdout == "back\n"


def test_it_is_in_the_container(running):
    pids, namespaces, name, cwd, env, ids, fds = running.ask_exec("pids", "namespaces", "uname", "cwd", "env", "ids", "fds")
    assert pids["pid"] > 1
    assert name["nodename"] == "caisson-test"
    assert (cwd, ids["uid"]) == ("/", 0)
    assert running.bundle.process["env"][0] in env
    assert [entry["fd"] for entry in fds] == [0, 1, 2]
    if not running.runtime.is_vm:
        for kind in ("net", "ipc", "uts", "mnt", "pid"):
            assert namespaces[kind] == os.stat(f"/proc/{running.pid}/ns/{kind}").st_ino


def test_flags(running):
    flags = ["--cwd", "/data", "--env", "ONE=1", "--env", "TWO=two words", "--user", "1000:1001"]
    cwd, env, ids, security = running.ask_exec("cwd", "env", "ids", "security", flags=flags)
    assert cwd == "/data"
    assert {"ONE=1", "TWO=two words"} <= set(env)
    assert (ids["uid"], ids["gid"]) == (1000, 1001)
    assert security["no_new_privs"] == 0
    assert running.ask_exec("cwd", flags=["-u", "5"]) == ["/"]


def test_additional_gids(running):
    (ids,) = running.ask_exec("ids", flags=["--user", "1000:1001", "--additional-gids", "5", "--additional-gids", "7"])
    assert (ids["gid"], set(ids["groups"])) == (1001, {5, 7})


def test_capabilities_and_no_new_privileges(running):
    caps, security = running.ask_exec("caps", "security", flags=["--cap", "CAP_NET_RAW", "--no-new-privs"])
    assert caps["effective"] == capability_bits(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_RAW"])
    assert security["no_new_privs"] == 1


def test_process_document(running):
    path = process_file(running, args=["/testinit", *question_args(["ids", "cwd", "env", "caps", "rlimits", "security"])], cwd="/tmp", env=["A=b"],
                        user={"uid": 7, "gid": 8, "additionalGids": [9]}, capabilities={kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
                        rlimits=[{"type": "RLIMIT_FSIZE", "soft": 100000, "hard": 200000}], noNewPrivileges=True)
    outcome = running.runtime.call("exec", "--process", path, running.id)
    ids, cwd, env, caps, rlimits, security = json.loads(outcome.stdout)
    assert (ids["uid"], ids["gid"], ids["groups"]) == (7, 8, [9])
    assert cwd == "/tmp"
    assert "A=b" in env
    assert set(caps.values()) == {capability_bits(["CAP_KILL"])}
    assert rlimits["RLIMIT_FSIZE"] == [100000, 200000]
    assert security["no_new_privs"] == 1


def test_process_document_umask(running):
    path = process_file(running, args=["/testinit", "ask", "umask"], user={"uid": 0, "gid": 0, "umask": 0o77})
    assert json.loads(running.runtime.call("exec", "--process", path, running.id).stdout) == [0o77]


def test_process_document_oom_score(running):
    path = process_file(running, args=["/testinit", "ask", "oom_score_adj"], oomScoreAdj=500)
    assert json.loads(running.runtime.call("exec", "--process", path, running.id).stdout) == [500]


def test_detached_with_pid_file(running, folder):
    """The pid-file's process is ours to wait for, and ends with the process's status."""
    pid_file = folder / "pid"
    path = process_file(running, args=["/testinit", "sleep"])
    with open(folder / "out", "wb") as out:
        running.runtime.call("exec", "--process", path, "--detach", "--pid-file", pid_file, running.id, stdout=out, stderr=subprocess.DEVNULL)
    pid = int(pid_file.read_text())
    # The exec of the test before, whose status has been told, may not have been reaped yet.
    wait_for(lambda: len(json.loads(running.runtime.call("ps", "--format", "json", running.id).stdout)) == 2, "init and the detached process are listed")
    found = [entry for entry in running.ask_exec("processes")[0] if entry["name"] == "testinit"]
    assert len(found) == 3  # init, the detached one, and the one that asks
    inside = max(entry["pid"] for entry in found[:-1])
    running.exec("/testinit", "ask", "syscall", 62, inside, 12)
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 12


def test_program_that_is_not_there(running):
    outcome = running.exec("no-such-program", check=False)
    assert outcome.status != 0
    assert "no-such-program" in outcome.stderr
    outcome = running.exec("/etc/passwd", check=False)
    assert outcome.status != 0
    assert "permission denied" in outcome.stderr.lower()


def test_program_is_found_in_path(running):
    assert running.exec("testinit", "echo", "found", flags=["--env", "PATH=/data:/"]).stdout == "found\n"


def test_preserved_descriptor(running):
    reads, writes = os.pipe()
    os.write(writes, b"passed on")
    try:
        (text,) = running.ask_exec("read-fd 3", flags=["--preserve-fds", "1"], fd3=reads)
    finally:
        os.close(writes)
        os.close(reads)
    assert text == "passed on"


def test_many_at_once(running):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda number: running.exec("/testinit", "exit", number, check=False).status, range(24)))
    assert outcomes == list(range(24))


def test_end_of_init_ends_exec(container):
    """An exec process does not outlive its container."""
    container.spawn_sleeping()
    process = container.runtime.popen("exec", container.id, "/testinit", "stubborn", stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    container.kill("KILL")
    assert process.wait(30) == 137
    process.stdout.close()
    container.wait_stopped()
    wait_for_exit(container.pid)


def test_exec_before_start(container):
    """runc and crun let a process run in a created container; it sees what will be."""
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()
    (name,) = container.ask_exec("uname")
    assert name["nodename"] == "caisson-test"
    assert container.status() == "created"
    (pids,) = container.ask_exec("pids")
    assert pids["pid"] > 1, "1 is the container's first process, which is there"
    assert container.exec("/testinit", "exit", 42, check=False).status == 42


def test_start_after_an_exec(container):
    """What was executed before the start lives on beside the container's own program, which begins only with start."""
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()
    early = container.runtime.popen("exec", container.id, "/testinit", "stubborn", stdout=subprocess.PIPE)
    assert early.stdout.readline() == b"ready\n"
    assert container.output() == ""
    container.start()
    (processes,) = container.ask_exec("processes")
    assert [entry["name"] for entry in processes] == ["testinit"] * 3
    assert processes[0]["pid"] == 1
    assert container.status() == "running"
    container.kill("KILL")
    assert early.wait(30) == 137
    early.stdout.close()
    container.wait_stopped()


def test_delete_after_an_exec_before_start(container):
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()
    container.ask_exec("pids")
    container.runtime.call("delete", "--force", container.id)
    wait_for_exit(container.pid)


def test_exec_before_a_start_on_a_terminal(container, console):
    """The terminal is the container's own, whoever was there before."""
    container.bundle.process["terminal"] = True
    container.bundle.process["args"] = ["/testinit", *question_args(["tty", "pids"])]
    container.create("--console-socket", console.path)
    master = console.receive()
    try:
        assert container.ask_exec("pids")[0]["pid"] > 1
        container.start()
        tty, pids = json.loads(read_to_end(master).decode().strip().splitlines()[-1])
    finally:
        os.close(master)
    assert all(stream["isatty"] for stream in tty["streams"])
    assert tty["controlling"] and tty["foreground"] == pids["pgid"]
    container.wait_stopped()


def test_hook_of_the_start_after_an_exec(container):
    container.bundle.add_busybox()
    hook = container.bundle.rootfs / "hook"
    hook.write_text("#!/bin/busybox sh\n/bin/busybox echo hook >> /data/order\n")
    hook.chmod(0o755)
    container.bundle.spec["hooks"] = {"startContainer": [{"path": "/hook"}]}
    container.bundle.process["args"] = ["/testinit", "cat", "/data/order"]
    container.create()
    container.ask_exec("pids")
    assert not (container.bundle.rootfs / "data/order").exists()
    container.start()
    container.wait_stopped()
    assert (container.bundle.rootfs / "data/order").read_text() == "hook\n"


def test_kill_after_an_exec_before_start(container):
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()
    early = container.runtime.popen("exec", container.id, "/testinit", "stubborn", stdout=subprocess.PIPE)
    assert early.stdout.readline() == b"ready\n"
    container.kill("KILL")
    container.wait_stopped()
    assert early.wait(30) == 137
    early.stdout.close()
    assert container.output() == ""
    assert container.start(check=False).status != 0
