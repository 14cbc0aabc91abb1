"""What is broken is refused with one clear line, a non-zero status, and nothing left behind (the `leftovers` fixture looks)."""

import json
import os
import signal
import subprocess
import time

import pytest

from harness import leftovers as leftovers_module
from harness.waiting import wait_for, wait_for_exit

pytestmark = pytest.mark.runtimes("namespace", "microvm")


def put(path, value):
    """A change of config.json: put("process.user.uid", "root"); "mounts.0.type" goes into lists. None as value removes the member."""
    def change(spec):
        *way, last = path.split(".")
        for step in way:
            spec = spec[int(step)] if isinstance(spec, list) else spec.setdefault(step, {})
        if value is None:
            del spec[last]
        elif isinstance(spec, list) and last == "+":
            spec.append(value)
        else:
            spec[int(last) if isinstance(spec, list) else last] = value
    return change


# (change, what the message must contain: the JSON path)
BROKEN = [
    (put("ociVersion", None), "ociVersion"),
    (put("ociVersion", 1), "ociVersion"),
    (put("ociVersion", "2.0.0"), "ociVersion"),
    (put("ociVersion", "one"), "ociVersion"),
    (put("root", None), "root"),
    (put("root.path", 5), "root.path"),
    (put("root.path", "no-such-folder"), "root.path"),
    (put("root.path", "config.json"), "root.path"),
    (put("root.readonly", "yes"), "root.readonly"),
    (put("process.args", []), "process.args"),
    (put("process.args", "sh"), "process.args"),
    (put("process.args", ["sh", 5]), "process.args[1]"),
    (put("process.args", ["with\0nul"]), "NUL"),
    (put("process.cwd", None), "process.cwd"),
    (put("process.cwd", "relative"), "process.cwd"),
    (put("process.env", ["NO_VALUE"]), "process.env[0]"),
    (put("process.env", [["A", "B"]]), "process.env[0]"),
    (put("process.user.uid", "root"), "process.user.uid"),
    (put("process.user.uid", -1), "process.user.uid"),
    (put("process.user.gid", 1 << 40), "process.user.gid"),
    (put("process.user.umask", 0o10000), "process.user.umask"),
    (put("process.user.additionalGids", [1, "wheel"]), "process.user.additionalGids[1]"),
    (put("process.capabilities.ambient", "CAP_KILL"), "process.capabilities.ambient"),
    (put("process.rlimits", [{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]), "process.rlimits[0].type"),
    (put("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 5, "hard": 1}]), "process.rlimits[0]"),
    (put("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2), "process.rlimits[1]"),
    (put("process.oomScoreAdj", 5000), "process.oomScoreAdj"),
    (put("process.scheduler", {"policy": "SCHED_NONSENSE"}), "process.scheduler.policy"),
    (put("process.ioPriority", {"class": "IOPRIO_CLASS_NONE_SUCH", "priority": 1}), "process.ioPriority.class"),
    (put("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 9}), "process.ioPriority.priority"),
    (put("process.terminal", 1), "process.terminal"),
    (put("process.consoleSize", {"height": -1, "width": 5}), "process.consoleSize.height"),
    (put("process.noNewPrivileges", "true"), "process.noNewPrivileges"),
    (put("hostname", "x" * 65), "hostname"),
    (put("hostname", {"a": 1}), "hostname"),
    (put("domainname", "y" * 65), "domainname"),
    (put("mounts", {}), "mounts"),
    (put("mounts.+", {"source": "/tmp"}), "mounts[6].destination"),
    (put("mounts.+", {"destination": "/x", "type": "bind", "source": "/no/such/thing", "options": ["bind"]}), "mounts[6]"),
    (put("mounts.+", {"destination": "/x", "type": "bind", "source": "/tmp", "options": ["bind", 7]}), "mounts[6].options[1]"),
    (put("mounts.+", {"destination": "/x", "type": "no-such-file-system", "source": "none"}), "mounts[6]"),
    (put("mounts.+", {"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["size=nonsense"]}), "mounts[6]"),
    (put("hooks.createRuntime", [{"path": "relative/hook"}]), "hooks.createRuntime[0].path"),
    (put("hooks.poststop", [{"path": "/bin/true", "timeout": 0}]), "hooks.poststop[0].timeout"),
    (put("hooks.prestart", {"path": "/bin/true"}), "hooks.prestart"),
    (put("annotations", {"key": 5}), "annotations"),
    (put("annotations", ["a"]), "annotations"),
    (put("linux.namespaces.+", {"type": "nonsense"}), "linux.namespaces[5].type"),
    (put("linux.namespaces.+", {"type": "pid"}), "linux.namespaces[5]"),
    (put("linux.namespaces.0.path", "relative"), "linux.namespaces[0].path"),
    (put("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 0}]), "linux.uidMappings[0].size"),
    (put("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 10}]), "linux.uidMappings"),
    (put("linux.devices", [{"path": "/dev/x", "type": "q", "major": 1, "minor": 1}]), "linux.devices[0].type"),
    (put("linux.devices", [{"path": "dev/x", "type": "c", "major": 1, "minor": 1}]), "linux.devices[0].path"),
    (put("linux.resources.devices", [{"allow": True, "access": "rwz"}]), "linux.resources.devices[0].access"),
    (put("linux.resources.devices", [{"allow": "no"}]), "linux.resources.devices[0].allow"),
    (put("linux.resources.memory", {"limit": "64M"}), "linux.resources.memory.limit"),
    (put("linux.resources.cpu", {"quota": 5.5}), "linux.resources.cpu.quota"),
    (put("linux.resources.pids", {"limit": "many"}), "linux.resources.pids.limit"),
    (put("linux.resources.blockIO", {"weight": 100000}), "linux.resources.blockIO.weight"),
    (put("linux.cgroupsPath", 5), "linux.cgroupsPath"),
    (put("linux.cgroupsPath", "../../escape"), "linux.cgroupsPath"),
    (put("linux.sysctl", {"kernel.msgmax": 5}), "linux.sysctl"),
    (put("linux.sysctl", {"net/../kernel.panic": "1"}), "linux.sysctl"),
    (put("linux.rootfsPropagation", "nonsense"), "linux.rootfsPropagation"),
    (put("linux.maskedPaths", ["relative"]), "linux.maskedPaths[0]"),
    (put("linux.readonlyPaths", [5]), "linux.readonlyPaths[0]"),
    (put("linux.personality", {"domain": "BSD"}), "linux.personality.domain"),
    (put("linux.timeOffsets", {"monotonic": {"secs": 1}}), "linux.timeOffsets"),
    (put("linux.intelRdt", {"closID": "x"}), "linux.intelRdt"),
    (put("linux.seccomp", {"syscalls": []}), "linux.seccomp.defaultAction"),
]


def one_line(outcome):
    """The message: exactly one line."""
    lines = [line for line in outcome.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, f"not one line: {outcome}"
    return lines[0]


def refused(container, runtime, what):
    outcome = container.run(check=False)
    assert outcome.status not in (0, 134, 139), outcome
    message = one_line(outcome)
    assert what in message, f"{message!r} does not say {what!r}"
    assert not (runtime.root / container.id).exists()
    return message


@pytest.mark.parametrize("number", range(len(BROKEN)), ids=[f"{index:02}-{row[1]}" for index, row in enumerate(BROKEN)])
def test_broken_config(container, runtime, number):
    change, path = BROKEN[number]
    change(container.bundle.spec)
    refused(container, runtime, path)


@pytest.mark.parametrize("text, what", [
    ("", "config.json"), ("{", "config.json"), ("[]", "config.json"), ("null", "config.json"), ('{"a": 1} x', "config.json"), ("\xff\xfe", "config.json"),
    ("[" * 100000, "config.json"), ('{"ociVersion": "1.0.2", "process": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}", "config.json"),
])
def test_broken_json(container, runtime, text, what):
    container.bundle.write()
    (container.bundle.path / "config.json").write_text(text)
    outcome = runtime.call("run", "--bundle", container.bundle.path, container.id, check=False)
    assert outcome.status not in (0, 134, 139)
    assert what in one_line(outcome)


def test_missing_config_and_bundle(container, runtime, folder):
    (folder / "empty").mkdir()
    for bundle in (folder / "empty", folder / "none"):
        outcome = runtime.call("run", "--bundle", bundle, container.id, check=False)
        assert outcome.status != 0
        assert str(bundle) in one_line(outcome)


def configure(runtime, folder, **microvm):
    """A configuration file with these keys of [microvm]."""
    lines = ["[microvm]"] + [f"{key} = {json.dumps(str(value) if isinstance(value, os.PathLike) else value)}" for key, value in microvm.items()]
    path = folder / "config.toml"
    path.write_text("\n".join(lines) + "\n")
    runtime.globals = ["--config", str(path)]


@pytest.mark.parametrize("text, what", [("isolation = 5", "isolation"), ("[microvm]\nmachin = 'q35'", "machin"), ("not toml", ":1"), ("isolation = 'magic'", "magic")])
def test_broken_configuration(container, runtime, folder, text, what):
    (folder / "config.toml").write_text(text)
    runtime.globals = ["--config", str(folder / "config.toml")]
    message = refused(container, runtime, what)
    assert "config.toml" in message


def test_missing_configuration(container, runtime, folder):
    runtime.globals = ["--config", str(folder / "none.toml")]
    refused(container, runtime, "none.toml")


# What a micro-VM needs and may lack.
@pytest.mark.runtimes("microvm")
@pytest.mark.parametrize("keys, what", [
    ({"kernel": "/no/such/vmlinux"}, "/no/such/vmlinux"),
    ({"kernel": "/etc/passwd"}, "/etc/passwd"),
    ({"guest_cache": "/no/such/cache"}, "caisson guest build"),
    ({"hypervisor_path": "/no/such/qemu"}, "/no/such/qemu"),
    ({"hypervisor_path": "/bin/false"}, "/bin/false"),
    ({"hypervisor_path": "/etc/passwd"}, "/etc/passwd"),
    ({"share": "virtiofs", "virtiofsd_path": "/no/such/virtiofsd", "machine": "q35"}, "/no/such/virtiofsd"),
    ({"share": "virtiofs", "virtiofsd_path": "/bin/false", "machine": "q35"}, "/bin/false"),
])
def test_missing_parts_of_a_microvm(container, runtime, folder, keys, what):
    configure(runtime, folder, **keys)
    refused(container, runtime, what)


@pytest.mark.runtimes("microvm")
def test_guest_that_panics(container, runtime, folder):
    """The message has the end of the guest's console."""
    configure(runtime, folder, kernel_parameters="rdinit=/no-such-init")
    begin = time.monotonic()
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert time.monotonic() - begin < 45
    assert "virtual machine has ended by itself" in outcome.stderr and "console" in outcome.stderr


@pytest.mark.runtimes("microvm")
def test_guest_that_does_not_come_up(container, runtime, folder):
    configure(runtime, folder, kernel_parameters="rdinit=/no-such-init panic=0", boot_timeout_seconds=6)
    begin = time.monotonic()
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert time.monotonic() - begin < 30
    assert "6 s" in outcome.stderr or "guest" in outcome.stderr


def processes_named(name):
    return [pid for pid, _, command in leftovers_module.descendants(os.getpid()) if os.path.basename(command.split(" ")[0]).startswith(name)]


@pytest.mark.runtimes("microvm")
def test_dead_vmm(container, runtime):
    """The VMM is killed: the container has stopped with 137, and everything can be freed."""
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.bundle.write()
    with open(container.stdout, "wb") as out, open(container.stderr, "wb") as err:
        process = runtime.popen("run", "--bundle", container.bundle.path, container.id, stdout=out, stderr=err)
    container.wait_output("ready")
    (vmm,) = processes_named("qemu")
    os.kill(vmm, signal.SIGKILL)
    assert process.wait(30) == 137
    assert not (runtime.root / container.id).exists()


@pytest.mark.runtimes("microvm")
def test_dead_vmm_of_a_detached_container(container):
    container.spawn_sleeping()
    (vmm,) = processes_named("qemu")
    os.kill(vmm, signal.SIGKILL)
    wait_for_exit(container.pid)
    container.wait_status("stopped")
    outcome = container.exec("/testinit", "exit", "0", check=False)
    assert outcome.status != 0
    one_line(outcome)
    container.delete()


@pytest.mark.runtimes("microvm")
def test_hung_vmm(container, runtime, folder):
    """The VMM is stopped: calls end with an error in bounded time, and the container can be freed."""
    configure(runtime, folder, agent_timeout_seconds=3)
    container.spawn_sleeping()
    (vmm,) = processes_named("qemu")
    os.kill(vmm, signal.SIGSTOP)
    begin = time.monotonic()
    outcome = container.exec("/testinit", "exit", "0", check=False)
    assert outcome.status != 0
    one_line(outcome)
    assert time.monotonic() - begin < 20
    begin = time.monotonic()
    assert container.status() is not None, "state answers"
    runtime.call("delete", "--force", container.id)
    assert time.monotonic() - begin < 30
    wait_for_exit(vmm)


def sandbox_processes():
    return [pid for pid, _, command in leftovers_module.descendants(os.getpid()) if "sandbox-process" in command]


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
def test_dead_or_hung_sandbox_process(container, runtime, way):
    container.spawn_sleeping()
    (sandbox,) = sandbox_processes()
    os.kill(sandbox, way)
    if way == signal.SIGKILL:
        wait_for_exit(sandbox)
        outcome = container.exec("/testinit", "exit", "0", check=False)
        assert outcome.status != 0
        one_line(outcome)
    begin = time.monotonic()
    runtime.call("delete", "--force", container.id)
    assert time.monotonic() - begin < 30
    assert container.state() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": 5}', b"\xff" * 100, None])
def test_corrupted_state(container, make_container, runtime, content):
    """state.json is broken or gone: said so, others are listed, delete --force frees it."""
    container.spawn_sleeping()
    other = make_container()
    state = runtime.root / container.id / "state.json"
    if content is None:
        state.unlink()
    else:
        state.write_bytes(content)
    for command in ("state", "start", "delete"):
        outcome = runtime.call(command, container.id, check=False)
        assert outcome.status != 0
        one_line(outcome)
    if not runtime.is_vm:
        other.create()
        listed = json.loads(runtime.call("list", "--format", "json").stdout)
        assert other.id in [entry["id"] for entry in listed]
    runtime.call("delete", "--force", container.id)
    assert not (runtime.root / container.id).exists()
    wait_for_exit(container.pid)


@pytest.mark.parametrize("free", [0, 4096, 16384])
def test_full_disk(container, runtime, folder, free):
    """--root on a full file system."""
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], check=True)
    try:
        normal, runtime.root = runtime.root, small / "root"
        runtime.root.mkdir()
        with open(small / "filler", "wb") as filler:
            filler.write(b"x" * ((128 << 10) - free - 4096))
            filler.flush()
            if free == 0:
                try:
                    filler.write(b"x" * (128 << 10))
                    filler.flush()
                except OSError:
                    pass
        container.bundle.process["args"] = ["/testinit", "sleep"]
        outcome = container.create(check=False)
        if outcome.ok:  # it fitted
            runtime.call("delete", "--force", container.id)
        else:
            assert "No space left" in one_line(outcome) or "space" in outcome.stderr
            runtime.call("delete", "--force", container.id, check=False)
        assert list(runtime.root.iterdir()) == []
        if free == 0:
            assert outcome.status != 0
    finally:
        runtime.root = normal
        subprocess.run(["umount", "-l", small], check=True)


def test_interrupted_create(container, runtime, folder):
    """create is killed in the middle (a hook is running): delete --force frees what there was."""
    hook = folder / "hook"
    hook.write_text(f"#!/bin/sh\necho $$ > {folder}/hook.pid\nexec sleep 60\n")
    hook.chmod(0o755)
    container.bundle.spec["hooks"] = {"createRuntime": [{"path": str(hook), "env": ["PATH=/usr/bin:/bin"]}]}
    container.bundle.write()
    process = runtime.popen("create", "--bundle", container.bundle.path, container.id, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: (folder / "hook.pid").exists() and (folder / "hook.pid").read_text().strip(), "the hook")
    process.kill()
    process.wait(10)
    runtime.call("delete", "--force", container.id)
    assert not (runtime.root / container.id).exists()
    wait_for_exit(int((folder / "hook.pid").read_text()), deadline=10)


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["run"], ["run", "--no-such-flag", "x"], ["kill"], ["exec"], ["create", "a", "b"], ["--isolation", "nonsense", "list"], ["list", "--format", "xml"],
                                       ["--log-format", "xml", "list"], ["update", "--memory", "much", "x"], ["exec", "--user", "root:x", "x", "true"]])
def test_bad_command_lines(runtime, leftovers, arguments):
    outcome = runtime.call(*arguments, check=False)
    assert outcome.status not in (0, 134, 139), outcome
    assert outcome.stderr.strip() or outcome.stdout.strip()
