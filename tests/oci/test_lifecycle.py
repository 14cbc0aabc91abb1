"""create, start, state, kill, delete, list, ps, pause, resume, run; the files that engines read."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness.waiting import wait_for, wait_for_exit


def test_states(container, runtime):
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()
    state = container.state()
    assert (state["id"], state["status"], state["bundle"]) == (container.id, "created", str(container.bundle.path))
    assert re.match(r"1\.\d+\.\d+", state["ociVersion"])
    assert state["pid"] == container.pid
    assert os.path.exists(f"/proc/{container.pid}")
    assert container.output() == "", "nothing runs before start"
    container.start()
    container.wait_output("ready")
    assert container.status() == "running"
    container.kill("TERM")
    container.wait_stopped()
    container.delete()
    assert container.state() is None
    assert container.delete(check=False).status != 0
    assert runtime.call("delete", "--force", container.id, check=False).ok, "delete --force is content with what is gone"


def test_delete_of_a_created_container(container):
    """It has not been started, and ends by being deleted."""
    container.create()
    container.delete()
    assert container.state() is None
    wait_for_exit(container.pid)


def test_running_to_stopped(container):
    container.spawn_sleeping()
    assert container.status() == "running"
    assert container.delete(check=False).status != 0, "a running container is not deleted"
    assert container.start(check=False).status != 0, "it has been started"
    container.kill("TERM")
    container.wait_stopped()
    assert container.start(check=False).status != 0, "it has been started and has ended"
    assert container.kill("TERM", check=False).status != 0, "there is nobody to get the signal"
    assert container.exec("/testinit", "exit", "0", check=False).status != 0
    container.delete()


def test_force_delete_of_a_running_container(container, runtime):
    container.bundle.process["args"] = ["/testinit", "stubborn"]
    container.spawn()
    container.wait_output("ready")
    runtime.call("delete", "--force", container.id)
    assert container.state() is None
    wait_for_exit(container.pid)


def test_same_id_twice(container, make_container):
    container.create()
    second = make_container()
    second.id = container.id
    outcome = second.create(check=False)
    assert outcome.status != 0
    assert "exist" in outcome.stderr
    assert container.status() == "created", "the first is unharmed"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "with space", "new\nline", "ü"])
def test_bad_ids(container, name):
    container.id = name
    outcome = container.create(check=False)
    container.id = "none"
    assert outcome.status != 0


@pytest.mark.parametrize("status", [0, 1, 7, 125, 255])
def test_exit_status_of_run(container, status):
    container.bundle.process["args"] = ["/testinit", "exit", str(status)]
    outcome = container.run(check=False)
    assert (outcome.status, outcome.stdout) == (status, "")
    assert container.state() is None, "run deletes the container"


def test_exit_by_signal(container):
    """128 + N where signal N ended it: here from outside."""
    container.spawn_sleeping()
    container.kill("KILL")
    _, status = os.waitpid(container.pid, 0)  # we are the subreaper, as conmon is
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9 or os.WEXITSTATUS(status) == 137
    container.wait_status()


@pytest.mark.parametrize("name, number", [("TERM", 15), ("SIGHUP", 1), ("10", 10), ("usr2", 12), ("SIGRTMIN+1", 35)])
def test_kill_signals(container, name, number):
    container.spawn_sleeping()
    container.kill(name)
    _, status = os.waitpid(container.pid, 0)
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == number


def test_kill_with_nonsense(container):
    container.spawn_sleeping()
    for name in ("NONSENSE", "SIGFOO", "999", "-5"):
        assert container.kill(name, check=False).status != 0, name
    assert container.status() == "running"


def test_kill_without_a_signal_is_term(container):
    container.spawn_sleeping()
    container.kill()
    _, status = os.waitpid(container.pid, 0)
    assert os.WEXITSTATUS(status) == 15


def test_pid_file_process_ends_with_the_status(container):
    """What conmon waits for: the process of --pid-file is our child once its parent has ended, and ends with the container's status."""
    container.bundle.process["args"] = ["/testinit", "exit", "43"]
    container.create()
    assert container.pid_file.read_text() == str(container.pid), "only the number, as conmon reads it"
    container.start()
    _, status = os.waitpid(container.pid, 0)
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 43
    container.wait_status()
    container.delete()


def test_kill_all(container, runtime):
    """Every process of the container gets the signal, also those that ignore it until KILL."""
    container.bundle.without_namespace("pid")
    container.bundle.process["args"] = ["/testinit", "orphans", "3"]
    container.spawn()
    container.wait_output("ready")
    assert len(pids(runtime, container)) == 4
    runtime.call("kill", "--all", container.id, "KILL")
    container.wait_stopped()
    assert pids_or_none(runtime, container) == []
    container.delete()


def pids(runtime, container):
    return json.loads(runtime.call("ps", "--format", "json", container.id).stdout)


def pids_or_none(runtime, container):
    outcome = runtime.call("ps", "--format", "json", container.id, check=False)
    return (json.loads(outcome.stdout) or []) if outcome.ok and outcome.stdout.strip() else []


def test_ps(container, runtime):
    container.bundle.process["args"] = ["/testinit", "orphans", "2"]
    container.spawn()
    container.wait_output("ready")
    listed = pids(runtime, container)
    assert len(listed) == 3 and all(isinstance(pid, int) for pid in listed)
    table = runtime.call("ps", container.id).stdout.splitlines()
    assert "PID" in table[0]
    assert len(table) == 4


@pytest.fixture
def own_root(runtime, folder):
    """Where nothing is that an earlier test's runtime could not delete (crun, now and then)."""
    runtime.root = folder / "root"


@pytest.mark.usefixtures("own_root")
def test_list(container, make_container, runtime):
    container.spawn_sleeping()
    second = make_container()
    second.create()
    entries = {entry["id"]: entry for entry in json.loads(runtime.call("list", "--format", "json").stdout)}
    assert entries[container.id]["status"] == "running"
    assert entries[second.id]["status"] == "created"
    assert entries[container.id]["pid"] == container.pid
    assert entries[container.id]["bundle"] == str(container.bundle.path)
    quiet = runtime.call("list", "-q").stdout.split()
    assert set(quiet) == {container.id, second.id}
    table = runtime.call("list").stdout.splitlines()
    assert table[0].split()[:2] == ["ID", "PID"] or table[0].split()[0] == "NAME"
    assert any(container.id in line and "running" in line for line in table)


@pytest.mark.usefixtures("own_root")
def test_empty_list(runtime, leftovers):
    outcome = runtime.call("list", "--format", "json")
    assert json.loads(outcome.stdout) in ([], None)


def test_pause_and_resume(container, runtime):
    container.bundle.process["args"] = ["/testinit", "tick", "/data/tick"]
    container.spawn()
    container.wait_output("ready")
    tick = container.bundle.rootfs / "data/tick"
    wait_for(lambda: tick.exists() and int(tick.read_text() or 0) > 5, "the counter")
    runtime.call("pause", container.id)
    assert container.status() == "paused"
    frozen = tick.read_text()
    assert runtime.call("pause", container.id, check=False).status != 0 or runtime.name in ("runc", "crun")
    assert container.exec("/testinit", "exit", "0", check=False).status != 0, "no exec in a paused container"
    assert tick.read_text() == frozen
    runtime.call("resume", container.id)
    assert container.status() == "running"
    wait_for(lambda: tick.read_text() != frozen, "the counter to go on")
    assert container.exec("/testinit", "exit", "3", check=False).status == 3


def test_delete_of_a_paused_container(container, runtime):
    container.spawn_sleeping()
    runtime.call("pause", container.id)
    runtime.call("delete", "--force", container.id)
    assert container.state() is None


def test_detached_run(container, runtime):
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.bundle.write()
    with open(container.stdout, "wb") as out:
        runtime.call("run", "--detach", "--bundle", container.bundle.path, "--pid-file", container.pid_file, container.id, stdout=out, stderr=out)
    container.wait_output("ready")
    assert container.status() == "running"
    container.kill("TERM")
    container.wait_stopped()
    container.delete()


def test_run_passes_signals_on(container, runtime):
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.bundle.write()
    with open(container.stdout, "wb") as out:
        process = runtime.popen("run", "--bundle", container.bundle.path, container.id, stdout=out, stderr=subprocess.DEVNULL)
    try:
        container.wait_output("ready")
        process.send_signal(signal.SIGUSR1)  # crun's wrapper has become crun itself
        assert process.wait(30) == 10
    finally:
        process.kill()


def test_bundle_is_the_working_folder_by_default(container, runtime):
    container.bundle.process["args"] = ["/testinit", "echo", "here"]
    container.bundle.write()
    assert runtime.call("run", container.id, cwd=container.bundle.path).stdout == "here\n"


def test_unknown_containers(runtime, leftovers):
    for command in (["state", "nobody"], ["start", "nobody"], ["kill", "nobody", "TERM"], ["delete", "nobody"], ["ps", "nobody"], ["pause", "nobody"], ["exec", "nobody", "true"], ["events", "--stats", "nobody"]):
        if runtime.name == "crun" and command[0] == "events":
            continue
        outcome = runtime.call(*command, check=False)
        assert outcome.status != 0, command
        assert outcome.stderr.strip(), command


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_file(container, runtime, folder, form):
    """Errors go to --log in the format that engines read, and to stderr."""
    log = folder / "log"
    runtime.globals = ["--log", str(log), "--log-format", form]
    container.bundle.process["args"] = ["/no/such/program"]
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert "/no/such/program" in log.read_text()
    if form == "json":
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        assert any(entry["level"] == "error" and "/no/such/program" in entry["msg"] and entry["time"] for entry in entries)


def test_preserve_fds(container, runtime):
    reads, writes = os.pipe()
    os.write(writes, b"through the pipe")
    container.bundle.process["args"] = ["/testinit", "ask", "read-fd", "3", ";;", "fds"]
    try:
        text, fds = json.loads(container.run("--preserve-fds", "1", fd3=reads).stdout)
    finally:
        os.close(writes)
        os.close(reads)
    assert text == "through the pipe"
    assert [entry["fd"] for entry in fds] == [0, 1, 2, 3]


def test_features_and_version(runtime):
    if runtime.name != "crun":  # crun 1.8 has no features command
        features = json.loads(runtime.call("features").stdout)
        assert features["ociVersionMin"] and features["ociVersionMax"]
        assert {"bind", "ro", "rbind"} <= set(features["mountOptions"])
        assert {"pid", "mount", "network"} <= set(features["linux"]["namespaces"])
        assert {"createRuntime", "poststop"} <= set(features["hooks"])
    version = runtime.call("--version").stdout
    assert re.search(r"\d+\.\d+", version)


def test_spec(runtime, folder):
    runtime.call("spec", cwd=folder)
    spec = json.loads((folder / "config.json").read_text())
    assert spec["process"]["args"] == ["sh"]
    assert spec["root"]["path"] == "rootfs"
    assert runtime.call("spec", cwd=folder, check=False).status != 0, "an existing file is not overwritten"
