"""docker's everyday commands, with caisson as a runtime of daemon.json (runtimes.path)."""

import json
import os
import pty

import pytest

from harness.waiting import Expect, wait_for


def test_run(docker, name):
    """Streams, status, environment, user, capabilities, limits; nothing stays of a container that is removed at its end."""
    script = "cat; echo out; echo err >&2; /testinit ask ids ';;' cwd ';;' env ';;' caps ';;' rlimits ';;' create /new; uname -r; hostname; ip -o addr; ip route; exit 7"
    outcome = docker.run("--rm", "-i", "--network", "none", "--hostname", "named", "--env", "ONE=eins", "--workdir", "/tmp", "--user", "1000:1001", "--group-add", "7",
                         "--cap-drop", "ALL", "--cap-add", "CHOWN", "--read-only", "--ulimit", "nofile=100:200", "--", "sh", "-c", script, input="in\n", check=False)
    lines = outcome.stdout.splitlines()
    assert (outcome.status, outcome.stderr, lines[:2]) == (7, "err\n", ["in", "out"])
    ids, cwd, env, caps, limits, created = json.loads(lines[2])
    assert (ids["uid"], ids["gid"], cwd, caps["bounding"], created["errno"]) == (1000, 1001, "/tmp", 1, "EROFS")
    assert 7 in ids["groups"] and "ONE=eins" in env and "PATH=/bin" in env
    assert limits["RLIMIT_NOFILE"] == [100, 200]
    assert (lines[3] == os.uname().release) == (not docker.has_own_kernel)
    assert lines[4] == "named"
    addresses = "\n".join(lines[5:])
    assert "127.0.0.1" in addresses and "inet 10." not in addresses and "default" not in addresses, "no network but the loopback"


def test_statuses_of_failures(docker):
    """docker tells a missing program (127) and one that cannot be executed (126) from the runtime's message."""
    missing = docker.run("--rm", "--network", "none", "--", "no-such-program", check=False)
    assert missing.status == 127, missing
    forbidden = docker.run("--rm", "--network", "none", "--", "/etc/passwd", check=False)
    assert forbidden.status == 126, forbidden


def test_exec(docker, detached, name):
    outcome = docker("exec", detached, "sh", "-c", "echo out; echo err >&2; exit 9", check=False)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (9, "out\n", "err\n")
    assert docker("exec", "-i", detached, "cat", input="through\n").stdout == "through\n"
    answer = json.loads(docker("exec", "--user", "1000", "--workdir", "/tmp", "--env", "X=y", detached, "/testinit", "ask", "ids", ";;", "cwd", ";;", "env").stdout)
    assert (answer[0]["uid"], answer[1]) == (1000, "/tmp")
    assert "X=y" in answer[2]
    assert docker("exec", detached, "no-such-program", check=False).status in (126, 127)  # runc's is 126 with docker 20.10
    docker("exec", "--detach", detached, "touch", "/tmp/detached")
    wait_for(lambda: docker("exec", detached, "ls", "/tmp").stdout.split() == ["detached"], "the detached exec", interval=0.1)


def test_what_it_tells_of_a_container(docker, detached, folder):
    """inspect, ps, top, stats, pause, update, cp."""
    state = docker.inspect(detached, ".State")
    assert state["Running"] and state["Status"] == "running" and os.path.exists(f"/proc/{state['Pid']}")
    if not docker.is_vm:  # docker reads the node's /proc for it, where a guest's processes are not
        assert state["Pid"] in [int(line.split()[0]) for line in docker("top", detached, "-o", "pid").stdout.splitlines()[1:]]
    stats = json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", detached).stdout)
    assert stats["Name"] == detached and float(stats["MemUsage"].split("/")[0].strip().rstrip("KMGiB")) > 0
    docker("pause", detached)
    assert docker.inspect(detached, ".State.Status") == "paused"
    docker("unpause", detached)
    assert docker("exec", detached, "echo", "alive").stdout == "alive\n"
    docker("update", "--memory", "200m", "--memory-swap", "200m", detached)
    assert docker.inspect(detached, ".HostConfig.Memory") == 200 << 20
    (folder / "file").write_text("copied in")
    docker("cp", folder / "file", f"{detached}:/home/inside")
    assert docker("exec", detached, "cat", "/home/inside").stdout == "copied in"
    docker("exec", detached, "sh", "-c", "echo made inside > /home/made")
    docker("cp", f"{detached}:/home/made", folder / "out")
    assert (folder / "out").read_text() == "made inside\n"


def test_stop_start_and_kill(docker, detached):
    """testinit ends with the number of the signal that it gets."""
    docker("stop", detached)
    assert docker.inspect(detached, ".State.ExitCode") == 15
    docker("start", detached)
    wait_for(lambda: docker("logs", detached).stdout.count("ready") == 2, "the second run", interval=0.1)
    docker("kill", "--signal", "USR1", detached)
    assert docker("wait", detached).stdout.strip() == "10"
    docker("start", detached)
    docker("kill", detached)
    assert docker("wait", detached).stdout.strip() == "137"
    docker("rm", detached)
    assert docker("inspect", detached, check=False).status != 0


def test_logs(docker, name):
    docker.run("--detach", "--network", "none", "--name", name, "--", "sh", "-c", "echo first; echo second >&2; i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; exit 3")
    assert docker("wait", name).stdout.strip() == "3"
    logs = docker("logs", name)
    assert logs.stdout.splitlines() == ["first"] + [f"line {number}" for number in range(500)]
    assert logs.stderr == "second\n"


def test_terminals(docker, name):
    """run -it typed at by a person, and exec -it in it."""
    master, slave = pty.openpty()
    process = docker.popen("run", *docker.options, "--rm", "-it", "--network", "none", "--name", name, "busybox", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    second_master, second_slave = pty.openpty()
    second = None
    try:
        expect = Expect(master)
        expect(b"# ")
        os.write(master, b"tty; echo $((6*7))\n")
        expect(b"/dev/")
        expect(b"42\r\n")
        second = docker.popen("exec", "-it", name, "sh", stdin=second_slave, stdout=second_slave, stderr=second_slave, start_new_session=True)
        expect_second = Expect(second_master)
        expect_second(b"# ")
        os.write(second_master, b"echo $((40+3))\n")
        expect_second(b"43\r\n")
        os.write(second_master, b"exit 6\n")
        assert second.wait(60) == 6
        os.write(master, b"exit 5\n")
        assert process.wait(60) == 5
    finally:
        for started in (process, second):
            if started is not None:
                started.kill()
                started.wait(10)
        for fd in (master, slave, second_master, second_slave):
            os.close(fd)


def test_out_of_memory(docker, name):
    """docker sees it in the container's cgroup on the node. (test_shim.py has it with a micro-VM, whose guest kills inside.)"""
    outcome = docker.run("--network", "none", "--name", name, "--memory", "64m", "--memory-swap", "64m", "--", "/testinit", "allocate", "200", check=False)
    assert outcome.status == 137
    assert "allocated" not in outcome.stdout
    if not docker.is_vm:
        wait_for(lambda: docker.inspect(name, ".State.OOMKilled"), "docker to know that it was the memory", interval=0.1)


def test_volumes(docker, folder, name):
    """Folders of the node, read-only and not, a file, a volume with a name that a second container finds again, tmpfs; --init."""
    (folder / "in").mkdir()
    (folder / "in/file").write_text("from outside")
    (folder / "in").chmod(0o777)
    (folder / "one").write_text("a file")
    volume = f"{name}v"
    questions = "read /ro/file", "create /ro/new", "read /etc/one", "create /rw/new text 0640", "create /named/file kept", "statfs /scratch", "pids"
    words = [word for question in questions for word in (";;", *question.split())][1:]
    outcome = docker.run("--rm", "--init", "--network", "none", "-v", f"{folder}/in:/ro:ro", "-v", f"{folder}/in:/rw", "-v", f"{folder}/one:/etc/one", "-v", f"{volume}:/named",
                         "--tmpfs", "/scratch:size=1m", "--", "/testinit", "ask", *words)
    try:
        read, refused, text, created, _, scratch, pids = json.loads(outcome.stdout)
        assert (read, refused["errno"], text, created) == ("from outside", "EROFS", "a file", 4)
        assert (folder / "in/new").read_text() == "text"
        assert scratch["size"] == 1 << 20 if "size" in scratch else scratch
        assert pids["pid"] != 1 and pids["ppid"] == 1
        assert docker.run("--rm", "--network", "none", "-v", f"{volume}:/again", "--", "cat", "/again/file").stdout == "kept"
    finally:
        docker("volume", "rm", volume)
