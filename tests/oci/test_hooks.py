"""config.json: hooks."""

import json
import os
import time

import pytest


HOST_KINDS = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]


def script(folder, name, body):
    path = folder / name
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return str(path)


def recorder(folder, kind, index=0):
    """A hook that appends a line to folder/order and keeps its stdin and environment."""
    return script(folder, f"{kind}{index}", f'echo "{kind}{index} $*" >> {folder}/order\ncat > {folder}/{kind}{index}.state\nenv > {folder}/{kind}{index}.env\nid -u > {folder}/{kind}{index}.uid\n')


def order(folder):
    path = folder / "order"
    return path.read_text().splitlines() if path.exists() else []


def test_order_state_and_environment(container, folder, runtime):
    """Every kind of hook that runs on the host, at its time, with the state on stdin, its own arguments and only its own environment."""
    hooks = {}
    # Refused for a micro-VM: its programs would be the node's, and its namespaces the guest's.
    host_kinds = [kind for kind in HOST_KINDS if not (runtime.is_vm and kind == "createContainer")]
    for kind in host_kinds:
        hooks[kind] = [{"path": recorder(folder, kind, index), "args": ["name-of-it", f"argument {index}"], "env": [f"OWN={kind}", "PATH=/usr/bin:/bin"], "timeout": 20} for index in (0, 1)]
    container.bundle.spec["hooks"] = hooks
    container.bundle.spec["annotations"] = {"org.example.hook": "yes"}
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()

    def lines(kinds):
        return [f"{kind}{index} argument {index}" for kind in kinds if kind in host_kinds for index in (0, 1)]
    assert order(folder) == lines(["prestart", "createRuntime", "createContainer"])
    container.start()
    container.wait_output("ready")
    assert order(folder) == lines(["prestart", "createRuntime", "createContainer", "poststart"])
    container.kill("KILL")
    container.wait_stopped()
    assert order(folder) == lines(["prestart", "createRuntime", "createContainer", "poststart"])
    container.delete()
    assert order(folder) == lines(HOST_KINDS)
    for kind in host_kinds:
        state = json.loads((folder / f"{kind}0.state").read_text())
        assert state["id"] == container.id
        assert state["bundle"] == str(container.bundle.path)
        assert state["annotations"]["org.example.hook"] == "yes"
        assert state["ociVersion"]
        assert state["status"] in {"poststart": ("running",), "poststop": ("stopped",)}.get(kind, ("creating", "created")), kind
        if kind != "poststop" and not (runtime.name == "crun" and kind == "createContainer"):
            assert state["pid"] > 0, kind
        environment = set((folder / f"{kind}0.env").read_text().splitlines())
        names = {line.split("=")[0] for line in environment}
        assert f"OWN={kind}" in environment
        assert names <= {"OWN", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}, names
        assert (folder / f"{kind}0.uid").read_text().strip() == "0"


def test_a_hooks_pid_leads_to_the_sandboxs_network(container, folder):
    """Hooks set up /proc/PID/ns/net: it must never be the node's."""
    where = script(folder, "where", f"pid=$(grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*$'); readlink /proc/$pid/ns/net > {folder}/$1\n")
    container.bundle.spec["hooks"] = {kind: [{"path": where, "args": ["where", kind]}] for kind in ("prestart", "createRuntime", "poststart")}
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()
    container.start()
    found = {kind: (folder / kind).read_text().strip() for kind in ("prestart", "createRuntime", "poststart")}
    assert all(name.startswith("net:[") for name in found.values()), found
    assert os.readlink("/proc/self/ns/net") not in found.values(), found


def test_a_hooks_pid_is_that_of_the_state(container, folder, runtime):
    """And leads to the container's cgroup on the node."""
    kinds = [kind for kind in ("prestart", "createRuntime", "poststart")]
    note = script(folder, "note", f"""pid=$(grep -o '"pid": *[0-9]*' | grep -o '[0-9]*$'); echo $pid > {folder}/$1; cat /proc/$pid/cgroup > {folder}/$1.cgroup\n""")
    container.bundle.spec["hooks"] = {kind: [{"path": note, "args": ["note", kind], "env": ["PATH=/usr/bin:/bin"]}] for kind in kinds}
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create()
    container.start()
    container.wait_output("ready")
    pid = container.state()["pid"]
    assert pid == container.pid
    assert {kind: int((folder / kind).read_text()) for kind in kinds} == dict.fromkeys(kinds, pid)
    for kind in kinds:
        memory = [line for line in (folder / f"{kind}.cgroup").read_text().splitlines() if ":memory:" in line or line.startswith("0::")]
        assert any(container.id in line for line in memory), kind


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_a_hook_gives_the_container_an_interface(container, folder, marker, runtime, kind):
    """As docker does it. A sysctl of the container's network namespace comes along, as it does there."""
    outside = f"{marker}h"
    setup = script(folder, "setup", f"""export PATH=/usr/sbin:/usr/bin:/sbin:/bin
set -eu
pid=$(grep -o '"pid": *[0-9]*' | grep -o '[0-9]*$')
ip link add {outside} type veth peer name eth7 netns $pid
ip addr add 10.218.7.1/24 dev {outside}
ip link set {outside} up
nsenter --net=/proc/$pid/ns/net sh -eu -c 'ip addr add 10.218.7.2/24 dev eth7; ip link set eth7 up; ip route add default via 10.218.7.1'
""")
    container.bundle.add_busybox()
    container.bundle.spec["hooks"] = {kind: [{"path": setup}]}
    container.bundle.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "77"}
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.bundle.process["capabilities"] = {kind: ["CAP_NET_RAW"] for kind in ("bounding", "effective", "permitted")}
    container.create()
    container.start()
    container.wait_output("ready")
    shown = container.exec("/bin/busybox", "sh", "-c", "/bin/busybox ip -o addr; /bin/busybox ip route; /bin/busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start", check=False).stdout
    assert "10.218.7.2/24" in shown and "via 10.218.7.1 dev eth7" in shown
    assert shown.split()[-1] == "77"
    assert container.exec("/bin/busybox", "ping", "-c", "1", "-W", "10", "10.218.7.1").ok
    container.kill("KILL")
    container.wait_stopped()
    container.delete()


def test_start_container_hook_runs_inside(container, folder):
    container.bundle.add_busybox()
    script(container.bundle.rootfs, "hook", "cat > /data/state; /testinit ask namespaces pids env > /data/answers; echo hook >> /data/order\n")
    script(container.bundle.rootfs, "main", "echo main >> /data/order\n")
    container.bundle.spec["hooks"] = {"startContainer": [{"path": "/hook", "env": ["OWN=yes"]}]}
    container.bundle.process["args"] = ["/main"]
    container.create()
    assert not (container.bundle.rootfs / "data/order").exists(), "it belongs to start"
    container.start()
    container.wait_stopped()
    assert (container.bundle.rootfs / "data/order").read_text() == "hook\nmain\n"
    state = json.loads((container.bundle.rootfs / "data/state").read_text())
    assert state["id"] == container.id
    assert state["status"] in ("created", "starting")


def test_create_container_hook_is_in_the_containers_namespaces(container, folder):
    """Its path is the runtime's, its namespaces are the container's."""
    container.bundle.add_busybox()
    hook = script(folder, "hook", f"readlink /proc/self/ns/uts > {folder}/uts; hostname > {folder}/name 2>/dev/null || true\n")
    container.bundle.spec["hooks"] = {"createContainer": [{"path": hook, "env": ["PATH=/usr/bin:/bin"]}]}
    container.create()
    assert (folder / "uts").read_text().strip() != os.readlink("/proc/self/ns/uts")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failing_create_hook(container, folder, kind, runtime):
    hook = script(folder, "failing", "echo reason for the failure >&2; exit 3\n")
    after = recorder(folder, "after")
    container.bundle.spec["hooks"] = {kind: [{"path": hook}, {"path": after}]}
    container.bundle.process["args"] = ["/testinit", "create", "/data/has-run"]
    outcome = container.create(check=False)
    assert outcome.status != 0
    assert container.state() is None, "nothing remains"
    assert order(folder) == [], "the first failure ends it"
    if runtime.is_vm and kind == "createContainer":
        assert "hooks.createContainer" in outcome.stderr
    elif runtime.is_caisson:
        assert f"hooks.{kind}[0]" in outcome.stderr and "reason for the failure" in outcome.stderr and "3" in outcome.stderr


def test_failing_start_container_hook(container):
    container.bundle.add_busybox()
    script(container.bundle.rootfs, "hook", "exit 4\n")
    container.bundle.spec["hooks"] = {"startContainer": [{"path": "/hook"}]}
    container.bundle.process["args"] = ["/testinit", "echo", "has run"]
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert "has run" not in outcome.stdout


def test_failing_poststart_hook(container, folder):
    """Fatal since runtime-spec 1.3; before, a warning. What is certain: it is said."""
    container.bundle.spec["hooks"] = {"poststart": [{"path": script(folder, "failing", "exit 5\n")}]}
    container.bundle.process["args"] = ["/testinit", "sleep"]
    outcome = container.create(check=False)
    if outcome.ok:
        outcome = container.start(check=False)
    assert outcome.status != 0
    assert "5" in outcome.stderr


def test_failing_poststop_hook_is_a_warning(container, folder):
    container.bundle.spec["hooks"] = {"poststop": [{"path": script(folder, "failing", "exit 6\n")}, {"path": recorder(folder, "second")}]}
    container.spawn_sleeping()
    container.kill("KILL")
    container.wait_stopped()
    container.delete()
    assert container.state() is None
    assert len(order(folder)) == 1, "the hooks after it run nevertheless"


def test_hook_timeout(container, folder):
    """A hook that takes longer than its timeout is killed, and is a failure."""
    hook = script(folder, "slow", f"echo $$ > {folder}/pid; exec sleep 30\n")
    container.bundle.spec["hooks"] = {"createRuntime": [{"path": hook, "timeout": 1, "env": ["PATH=/usr/bin:/bin"]}]}
    begin = time.monotonic()
    outcome = container.create(check=False)
    assert outcome.status != 0
    assert time.monotonic() - begin < 15
    assert not os.path.exists(f"/proc/{(folder / 'pid').read_text().strip()}"), "the hook is gone"


def test_missing_hook(container):
    container.bundle.spec["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
    outcome = container.create(check=False)
    assert outcome.status != 0
    assert "/no/such/hook" in outcome.stderr
    assert container.state() is None


def test_hook_does_not_get_the_containers_output(container, folder):
    """What a hook prints is not the container's output."""
    container.bundle.spec["hooks"] = {"createRuntime": [{"path": script(folder, "loud", "echo noise\n")}]}
    container.bundle.process["args"] = ["/testinit", "echo", "text"]
    assert container.run().stdout == "text\n"
