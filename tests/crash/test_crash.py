"""kill -9 at random points of a container's life, of any of our processes or of the container's init: `delete --force` then frees all that is left.

Every round has its own seed, told when it fails: CAISSON_TEST_SEED=<seed> runs the same choices again (the machine's timing differs, of course)."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

import pytest

from harness import leftovers as leftovers_module
from harness.bundle import Bundle
from harness.waiting import wait_for

# What one life is, as a shell script: every command may find the ground cut away, none may hang.
LIFE = """
"$@" create --bundle "$BUNDLE" --pid-file "$BUNDLE/pid" "$ID" </dev/null >"$BUNDLE/out" 2>&1
"$@" start "$ID"
"$@" exec "$ID" /testinit exit 0 </dev/null
"$@" exec --detach --pid-file "$BUNDLE/exec-pid" "$ID" /testinit sleep </dev/null >/dev/null 2>&1
"$@" pause "$ID"
"$@" resume "$ID"
"$@" kill "$ID" TERM
"$@" delete "$ID"
"$@" run --detach --bundle "$BUNDLE" "$ID" </dev/null >"$BUNDLE/out" 2>&1
true
"""
ROUNDS = {"namespace": 100, "appkernel": 40, "microvm": 8}
# Seconds within which the kill falls: about the length of a life, so that every command gets its share.
SPAN = {"namespace": 0.6, "appkernel": 0.8, "microvm": 8.0}
COMMAND_DEADLINE = {"namespace": 30, "appkernel": 30, "microvm": 90}


def children(pid):
    """Living children of a process, by the kernel's own lists."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def family(pid):
    """All below a process: (pid, kind)."""
    result, queue = [], [(child, None) for child in children(pid)]
    while queue:
        child, parent_kind = queue.pop()
        try:
            command = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace").split("\0")
            name = pathlib.Path(f"/proc/{child}/comm").read_text().strip()
        except OSError:
            continue
        kind = "stub" if parent_kind in ("init", "stub") else kind_of(command, name)
        queue += [(grandchild, kind) for grandchild in children(child)]
        result.append((child, kind))
    return result


def kind_of(command, name):
    if "sandbox-process" in command:
        return "sandbox"
    if "qemu" in command[0] or name.startswith("qemu"):
        return "vmm"
    if "virtiofsd" in command[0] or name.startswith("virtiofsd"):
        return "vmm"
    # Under the application kernel: what stands for the container's first process, and the kernel, whose end is the container's.
    if "testinit" in command[0] or name.startswith(("caisson:init", "testinit", "caisson-init", "caisson-kernel")):
        return "init"
    if command[0].endswith("caisson") or name.startswith("caisson"):
        return "cli"
    return "other"


def strike(wanted):
    """Kills one process of the wanted kind, else any of ours; says which, None where there is none."""
    victims = [victim for victim in family(os.getpid()) if victim[1] != "other"]
    chosen = [victim for victim in victims if victim[1] == wanted] or victims
    if not chosen:
        return None
    pid, kind = random.choice(chosen)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"{kind} {pid}"


class Init(threading.Thread):
    """Reaps orphans all the time, as a node's process 1 does: a container's first process cannot end before the others of its PID namespace have been reaped, and those whose parent
    has been killed are this process's children now. What subprocess has started is left to it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.started, self.over = set(), threading.Event()

    def __enter__(self):
        self.original = subprocess.Popen._execute_child
        init = self

        def recording(popen, *args, **options):
            init.original(popen, *args, **options)
            init.started.add(popen.pid)

        subprocess.Popen._execute_child = recording
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        subprocess.Popen._execute_child = self.original

    def run(self):
        seen = set()
        while not self.over.wait(0.02):
            zombies = {pid for pid in children(os.getpid()) if pid not in self.started and is_zombie(pid)}
            for pid in zombies & seen:  # a second look: started is known a moment after the start
                with contextlib.suppress(OSError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
            seen = zombies


def is_zombie(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] == "Z"


@pytest.fixture(autouse=True)
def init():
    with Init() as thread:
        yield thread


@pytest.mark.runtimes("namespace", "appkernel", "microvm")
@pytest.mark.timeout(900)
def test_kill_at_random_points(runtime, scratch, marker):
    seed = int(os.environ.get("CAISSON_TEST_SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"CAISSON_TEST_SEED={seed}")
    bundle = Bundle(scratch / "crash")
    bundle.process["args"] = ["/testinit", "sleep"]
    bundle.mount("/data", "tmpfs", "tmpfs")
    bundle.write()
    kinds = ["cli", "sandbox", "init"] + {"microvm": ["vmm"], "appkernel": ["stub"]}.get(runtime.name, [])
    struck = {}
    for number in range(ROUNDS[runtime.name]):
        random.seed(f"{seed} {number}")
        container_id = f"{marker}c{number}"
        before = leftovers_module.snapshot(scratch, marker)
        wanted, delay = random.choice(kinds), random.random() * SPAN[runtime.name]
        life = subprocess.Popen(["sh", "-c", LIFE, "sh", *runtime.argv], env={**os.environ, "BUNDLE": str(bundle.path), "ID": container_id},
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        end = time.monotonic() + delay
        while time.monotonic() < end and life.poll() is None:
            time.sleep(0.001)
        victim = strike(wanted)
        where = f"round {number}, CAISSON_TEST_SEED={seed}, killed {victim} after {delay * 1000:.0f} ms"
        struck[victim.split()[0] if victim else "nothing"] = struck.get(victim.split()[0] if victim else "nothing", 0) + 1
        try:
            # The rest of the life would start over what the kill has ended: the strike is the end of it.
            deadline = time.monotonic() + COMMAND_DEADLINE[runtime.name]
            life_left(life, deadline, where)
            outcome = runtime.call("delete", "--force", container_id, check=False, timeout=COMMAND_DEADLINE[runtime.name])
            assert outcome.ok, f"{where}: delete --force failed: {outcome}"
            left = leftovers_module.wait_for_nothing(before, scratch, marker, deadline=10.0)
            assert not left, f"{where}: left behind:\n  " + "\n  ".join(left)
            assert runtime.state(container_id) is None, where
        finally:
            clean_up(before, runtime, container_id)
    print("killed: " + ", ".join(f"{count} x {kind}" for kind, count in sorted(struck.items())))


def life_left(life, deadline, where):
    """Ends the script after the command that it is in: that command must come back by itself."""
    current = [child for child in children(life.pid)]
    life.send_signal(signal.SIGKILL)
    life.communicate()
    for pid in current:
        wait_for(lambda pid=pid: is_zombie(pid) or not pathlib.Path(f"/proc/{pid}").exists(), f"the command {pid} to end by itself ({where})", deadline=max(deadline - time.monotonic(), 1))


def clean_up(before, runtime, container_id):
    """After a failed round the next test must find a clean table."""
    for pid, _, _ in leftovers_module.descendants(os.getpid()) - before["process"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    leftovers_module.reap_orphans()


@pytest.mark.runtimes("namespace", "appkernel", "microvm")
@pytest.mark.parametrize("victim", ["sandbox", "init"])
def test_kill_while_running(container, victim):
    """The plain case of each: the others notice, and the container is stopped; delete works without --force where init has ended."""
    container.spawn_sleeping()
    runtime = container.runtime
    targets = [pid for pid, kind in family(os.getpid()) if kind == victim]
    if runtime.is_vm and victim == "init":
        container.exec("/testinit", "exit", "0")
        container.kill("KILL")
    else:
        assert targets, family(os.getpid())
        os.kill(targets[0], signal.SIGKILL)
    wait_for(lambda: container.status() in ("stopped", None), "the container to be stopped")
    container.delete(*(["--force"] if victim == "sandbox" else []))
    assert container.state() is None


@pytest.mark.runtimes("microvm")
def test_kill_of_the_vmm(container):
    container.spawn_sleeping()
    targets = [pid for pid, kind in family(os.getpid()) if kind == "vmm"]
    assert targets, family(os.getpid())
    os.kill(targets[0], signal.SIGKILL)
    wait_for(lambda: container.status() in ("stopped", None), "the container to be stopped")
    container.delete("--force")
    assert container.state() is None
