"""podman's everyday commands."""

import json
import os
import pty
import stat
import subprocess

import pytest

from harness.waiting import Expect, wait_for


def run(podman, *args, image="busybox", **options):
    """podman run --rm --network none ARGS... where args before "--" are options and the rest is the command."""
    options_part, command = args[:args.index("--")], args[args.index("--") + 1:]
    return podman("run", "--rm", "--network", "none", *options_part, image, *command, **options)


def ask(podman, *questions, options=(), **more):
    words = []
    for question in questions:
        words += [";;", *question.split()]
    return json.loads(run(podman, *options, "--", "/testinit", "ask", *words[1:], **more).stdout)


@pytest.fixture
def detached(podman, name):
    """A container that sleeps until a signal comes."""
    podman("run", "--detach", "--network", "none", "--name", name, "busybox", "/testinit", "sleep")
    wait_for(lambda: "ready" in podman("logs", name).stdout, "the container's first line", interval=0.1)
    return name


def test_run(podman):
    outcome = run(podman, "-i", "--", "sh", "-c", "cat; echo out; echo err >&2; exit 7", input="in\n", check=False)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (7, "in\nout\n", "err\n")


def test_kernel(podman):
    assert (run(podman, "--", "uname", "-r").stdout.strip() == os.uname().release) == (not podman.has_own_kernel)


def test_statuses_of_failures(podman):
    """podman tells a missing program (127) and one that cannot be executed (126) from the runtime's message."""
    missing = run(podman, "--", "no-such-program", check=False)
    assert missing.status == 127, missing
    forbidden = run(podman, "--", "/etc/passwd", check=False)
    assert forbidden.status == 126, forbidden


def test_environment(podman):
    env, cwd, uname, ids = ask(podman, "env", "cwd", "uname", "ids", options=["--env", "ONE=eins", "--workdir", "/tmp", "--hostname", "named", "--user", "1000:1000", "--group-add", "7"])
    assert "ONE=eins" in env and "PATH=/bin" in env
    assert (cwd, uname["nodename"], ids["uid"], ids["gid"]) == ("/tmp", "named", 1000, 1000)
    assert 7 in ids["groups"]


def test_capabilities_and_read_only(podman):
    caps, root, tmpfs, shm, status = ask(podman, "caps", "create /new", "create /scratch/new", "create /dev/shm/new", "stat /scratch",
                                         options=["--cap-drop", "all", "--cap-add", "CHOWN", "--read-only", "--tmpfs", "/scratch:size=1m,mode=1777", "--security-opt", "no-new-privileges"])
    assert caps["bounding"] == caps["effective"] == 1
    assert root["errno"] == "EROFS"
    assert (tmpfs, shm, status["mode"]) == (0, 0, 0o1777)


def test_volumes(podman, folder):
    (folder / "in").mkdir()
    (folder / "in/file").write_text("from outside")
    (folder / "in").chmod(0o777)
    (folder / "one").write_text("a file")
    read, refused, text, created, status = ask(podman, "read /ro/file", "create /ro/new", "read /etc/one", "create /rw/new text 0640", "stat /rw/new",
                                               options=["-v", f"{folder}/in:/ro:ro", "-v", f"{folder}/in:/rw", "-v", f"{folder}/one:/etc/one", "-v", "/anonymous", "--user", "1000"])
    assert (read, refused["errno"], text, created) == ("from outside", "EROFS", "a file", 4)
    assert (status["uid"], status["mode"]) == (1000, 0o640)
    new = (folder / "in/new").stat()
    assert (new.st_uid, stat.S_IMODE(new.st_mode)) == (1000, 0o640)


def test_logs_and_wait(podman, name):
    podman("run", "--detach", "--network", "none", "--name", name, "busybox", "sh", "-c", "echo first; echo second >&2; i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; exit 3")
    assert podman("wait", name).stdout.strip() == "3"
    logs = podman("logs", name)
    assert logs.stdout.splitlines() == ["first"] + [f"line {number}" for number in range(500)]
    assert logs.stderr == "second\n"
    state = podman.state(name)
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("exited", 3, False)
    podman("rm", name)
    assert podman("inspect", name, check=False).status != 0


def test_exec(podman, detached):
    outcome = podman("exec", detached, "sh", "-c", "echo out; echo err >&2; exit 9", check=False)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (9, "out\n", "err\n")
    assert podman("exec", "-i", detached, "cat", input="through\n").stdout == "through\n"
    answer = json.loads(podman("exec", "--user", "1000", "--workdir", "/tmp", "--env", "X=y", detached, "/testinit", "ask", "ids", ";;", "cwd", ";;", "env").stdout)
    assert (answer[0]["uid"], answer[1]) == (1000, "/tmp")
    assert "X=y" in answer[2]
    podman("exec", "--detach", detached, "sh", "-c", "touch /tmp/detached")
    wait_for(lambda: podman("exec", detached, "ls", "/tmp").stdout.split() == ["detached"], "the detached exec", interval=0.1)
    missing = podman("exec", detached, "no-such-program", check=False)
    assert missing.status == 127, missing
    forbidden = podman("exec", detached, "/etc/passwd", check=False)
    assert forbidden.status == 126, forbidden


def test_stop_and_start_again(podman, detached):
    podman("stop", detached)
    state = podman.state(detached)
    assert (state["Status"], state["ExitCode"]) == ("exited", 15)
    podman("start", detached)
    wait_for(lambda: podman("logs", detached).stdout.count("ready") == 2, "the second run", interval=0.1)
    assert podman.state(detached)["Status"] == "running"
    podman("restart", "--time", "5", detached)
    assert podman.state(detached)["Status"] == "running"


def test_stop_of_a_stubborn_one(podman, name):
    podman("run", "--detach", "--network", "none", "--name", name, "busybox", "/testinit", "stubborn")
    wait_for(lambda: "ready" in podman("logs", name).stdout, "the first line", interval=0.1)
    podman("stop", "--time", "1", name)
    assert podman.state(name)["ExitCode"] == 137


def test_kill(podman, detached):
    podman("kill", "--signal", "USR1", detached)
    assert podman("wait", detached).stdout.strip() == "10"


def test_inspect(podman, detached):
    document = podman.inspect(detached)
    assert document["State"]["Running"] and document["State"]["Pid"] > 0
    assert os.path.exists(f"/proc/{document['State']['Pid']}")
    assert document["HostConfig"]["NetworkMode"] == "none"
    listed = json.loads(podman("ps", "--format", "json").stdout)
    assert [entry["Names"] for entry in listed] == [[detached]]
    top = podman("top", detached, "pid", "comm", check=False) if not podman.has_own_kernel else None  # reads the node's /proc
    assert top is None or "testinit" in top.stdout


def test_pause(podman, detached):
    podman("pause", detached)
    assert podman.state(detached)["Status"] == "paused"
    podman("unpause", detached)
    assert podman.state(detached)["Status"] == "running"
    assert podman("exec", detached, "echo", "alive").stdout == "alive\n"


def test_stats(podman, detached):
    stats = json.loads(podman("stats", "--no-stream", "--format", "json", detached).stdout)
    assert stats[0]["name"] == detached
    assert int(stats[0]["pids"]) >= 1


def test_cp(podman, detached, folder):
    (folder / "file").write_text("copied in")
    podman("cp", folder / "file", f"{detached}:/tmp/inside")
    assert podman("exec", detached, "cat", "/tmp/inside").stdout == "copied in"
    podman("exec", detached, "sh", "-c", "echo made inside > /tmp/made")
    podman("cp", f"{detached}:/tmp/made", folder / "out")
    assert (folder / "out").read_text() == "made inside\n"


def test_init(podman):
    """--init: catatonit is process 1 and reaps; the command is its child."""
    pids, processes = ask(podman, "pids", "processes", options=["--init"])
    assert pids["pid"] != 1 and pids["ppid"] == 1
    assert {process["pid"]: process["name"] for process in processes}[1] in ("catatonit", "podman-init")


def test_terminal(podman, name):
    """-it, typed at by a person."""
    master, slave = pty.openpty()
    process = podman.popen("run", "--rm", "-it", "--network", "none", "--name", name, "busybox", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        expect = Expect(master)
        expect(b"# ")
        os.write(master, b"tty; echo $((6*7))\n")
        expect(b"/dev/pts/")
        expect(b"42\r\n")
        os.write(master, b"exit 5\n")
        assert process.wait(60) == 5
    finally:
        process.kill()
        process.wait(10)
        os.close(master)


def test_exec_on_a_terminal(podman, detached):
    master, slave = pty.openpty()
    process = podman.popen("exec", "-it", detached, "sh", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        expect = Expect(master)
        expect(b"# ")
        os.write(master, b"echo $((40+2))\n")
        expect(b"42\r\n")
        os.write(master, b"exit 6\n")
        assert process.wait(60) == 6
    finally:
        process.kill()
        process.wait(10)
        os.close(master)


def test_attach(podman, name):
    podman("create", "--network", "none", "-i", "--name", name, "busybox", "sh", "-c", "read line; echo \"<$line>\"; exit 4")
    outcome = podman("start", "--attach", "--interactive", name, input="typed\n", check=False)
    assert (outcome.status, outcome.stdout) == (4, "<typed>\n")


def test_memory_limit(podman, name):
    outcome = podman("run", "--network", "none", "--name", name, "--memory", "64m", "--memory-swap", "64m", "busybox", "/testinit", "allocate", "200", check=False)
    assert outcome.status == 137
    assert "allocated" not in outcome.stdout
    assert podman.inspect(name)["HostConfig"]["Memory"] == 64 << 20


def test_out_of_memory_is_reported(podman, name):
    if os.path.isdir("/sys/fs/cgroup/unified"):
        pytest.skip("conmon 2.1 takes a hybrid cgroup layout for v2 and sees no memory events there, with any runtime")
    podman("run", "--network", "none", "--name", name, "--memory", "64m", "--memory-swap", "64m", "busybox", "/testinit", "allocate", "200", check=False)
    assert podman.state(name)["OOMKilled"] is True


def test_pids_limit(podman):
    (forks,) = ask(podman, "forks 40", options=["--pids-limit", "20"])
    assert forks["errno"] == "EAGAIN" and 10 <= forks["alive"] < 20


def test_limits_and_devices(podman):
    limits, score, null, device = ask(podman, "rlimits", "oom_score_adj", "open /dev/null rw", "stat /dev/mine", options=["--ulimit", "nofile=100:200", "--ulimit", "nproc=1000:1000", "--oom-score-adj", "300", "--device", "/dev/zero:/dev/mine:r"])
    assert limits["RLIMIT_NOFILE"] == [100, 200]
    assert (score, null, device["type"]) == (300, True, "char")


def test_big_output(podman):
    outcome = run(podman, "--", "/testinit", "text", str(5 << 20))
    assert len(outcome.stdout) == 5 << 20
    assert outcome.stdout.splitlines()[-1] == f"{(5 << 20) // 16 - 1:015}"


def test_pod(podman, marker, name):
    """A pod: containers share the infra container's namespaces."""
    pod = f"{marker}pod"
    podman("pod", "create", "--name", pod, "--network", "none", timeout=180)
    try:
        podman("run", "--detach", "--pod", pod, "--name", name, "busybox", "/testinit", "sleep")
        wait_for(lambda: "ready" in podman("logs", name).stdout, "the first line", interval=0.1)
        questions = ["namespaces", ";;", "uname"]
        first, name_of_first = json.loads(podman("exec", name, "/testinit", "ask", *questions).stdout)
        second, name_of_second = json.loads(podman("run", "--rm", "--pod", pod, "busybox", "/testinit", "ask", *questions).stdout)
        assert name_of_first["nodename"] == name_of_second["nodename"]
        assert (first["net"], first["ipc"], first["uts"]) == (second["net"], second["ipc"], second["uts"])
        assert first["mnt"] != second["mnt"]
        assert "Running" in podman("pod", "ps").stdout
        podman("pod", "stop", "--time", "1", pod)
    finally:
        podman("pod", "rm", "--force", "--time", "0", pod)


@pytest.mark.runtimes("runc", "namespace", "appkernel")
def test_pod_with_shared_processes(podman, marker, name):
    """One of several containers ends, another is killed, and the pod goes on; with isolation appkernel all of them live in one kernel process."""
    pod = f"{marker}shared"
    podman("pod", "create", "--name", pod, "--network", "none", "--share", "net,ipc,uts,pid", timeout=180)
    try:
        podman("run", "--detach", "--pod", pod, "--name", name, "busybox", "sleep", "12345")
        podman("run", "--detach", "--pod", pod, "--name", f"{name}b", "busybox", "sleep", "54321")
        assert "sleep 12345" in podman("run", "--rm", "--pod", pod, "busybox", "ps").stdout
        assert podman("run", "--rm", "--pod", pod, "busybox", "sh", "-c", "exit 7", check=False).status == 7
        podman("kill", name)
        assert podman("wait", name).stdout.strip() == "137"
        processes = podman("exec", f"{name}b", "ps").stdout
        assert "sleep 54321" in processes and "sleep 12345" not in processes
    finally:
        podman("pod", "rm", "--force", "--time", "0", pod)


def test_several_at_once(podman, marker):
    """Four containers started at the same time."""
    processes = [podman.popen("run", "--rm", "--network", "none", "busybox", "sh", "-c", f"echo number {number}; exit {number}", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) for number in range(4)]
    for number, process in enumerate(processes):
        output, _ = process.communicate(timeout=90)
        assert (process.returncode, output) == (number, f"number {number}\n")
