"""Hostile pods: every container of the pod is in it, and what they do together is their own machine's."""

import pathlib
import signal

import pytest
from harness import runtime
from harness.waiting import wait_for
from hostile import MIB, NodeTables, private_bytes, remove_within, still_serves

EVERY_CAPABILITY = {"linux": {"security_context": {"capabilities": {"add_capabilities": ["ALL"]}, "namespace_options": {"pid": 1}}}}
# hostPID: in a micro-VM the guest's own processes, the agent among them.
BESIDE_THE_AGENT = {"linux": {"security_context": {"capabilities": {"add_capabilities": ["ALL"]}, "namespace_options": {"pid": 2}}}}


def offender_mount():
    """The hostile program of tests/guest, seen in a container as /offender."""
    program = pathlib.Path(runtime.testinit_binary()).parent / "offender"
    if not program.exists():
        pytest.skip(f"{program} is not built")
    return [{"host_path": str(program), "container_path": "/offender", "readonly": True}]


@pytest.mark.runtimes("microvm")
@pytest.mark.parametrize("kind", ["garbage", "frames"])
def test_a_pod_that_forges_agent_messages(network, make_pod, clean, runtime_name, kind):
    """Its containers have every capability and write to the agent's own port, several at a time: at worst that pod is over. The shim stays small and answers; the other pod
    notices nothing."""
    victim = make_pod()
    answering = victim.start(["sleep", "1000"])
    shims = set(clean.shims())
    offender = make_pod(namespaces={"pid": 2})
    (shim,) = set(clean.shims()) - shims
    containers = [offender.create(["/offender", "forge", kind], mounts=offender_mount(), **BESIDE_THE_AGENT) for _ in range(2)]
    for container in containers:
        # The first one's forgery may have ended the pod by now.
        offender.crictl.call("start", container, check=False)
    said = lambda: "".join(log.read_text() for log in offender.logs.glob("*.log"))
    wait_for(lambda: "port" in said(), "what the offender says", deadline=10)
    assert "done port" in said(), f"the offender has to have the agent's port, or nothing is tested: {said()}"
    still_serves(victim, answering, 3)
    assert offender.crictl.call("inspectp", offender.id, timeout=30).ok, "containerd and the shim answer"
    assert private_bytes(shim) < 8 * MIB, "the shim holds nothing of what was forged"
    # The pod may be over. Then the shim has killed its machine and told of all exits, and containerd runs `delete` for the pod, which ends the shim with
    # SIGKILL (seen with strace, as its pidfd_send_signal(2)); what it read has not crashed it before.
    assert exit_status(shim) in (None, 0, signal.SIGKILL)
    remove_within(offender, 60)
    still_serves(victim, answering, 0.5)


def exit_status(pid):
    """As wait(2) has it, of a process that has ended and for which nobody has waited yet; else None."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[-1]) if fields[0] in "ZX" else None


@pytest.mark.runtimes("microvm")
def test_a_pod_that_looks_for_another_pods_volume(network, make_pod, clean, folder, runtime_name):
    """With every capability: all that it can mount, open and list, of its own machine and of the share's file server."""
    theirs, mine = folder / "theirs", folder / "mine"
    for place in (theirs, mine):
        place.mkdir()
    (theirs / "secret").write_text("other pod's secret 90211")
    victim, offender = make_pod(), make_pod()
    victim.start(["sleep", "1000"], mounts=[{"host_path": str(theirs), "container_path": "/data"}])
    script = """mkdir -p /m; for tag in caisson share shared root; do mount -t virtiofs $tag /m 2>/dev/null && break; mount -t 9p -o trans=virtio $tag /m 2>/dev/null && break; done
        for place in /m /data /proc/1/root /run/caisson; do find $place -xdev -type f -size -64k 2>/dev/null | head -n 20000; done | xargs -r grep -l 90211 2>/dev/null
        for up in /m/.. /m/../.. /m/../../../../etc/shadow /data/../../../../../etc/shadow /proc/1/root/../../etc/shadow; do ls -d $up/theirs 2>/dev/null; done; echo searched"""
    container = offender.start(["sleep", "1000"], mounts=[{"host_path": str(mine), "container_path": "/data"}], **EVERY_CAPABILITY)
    found = offender.exec(container, "sh", "-c", script, check=False).stdout.split()
    assert found == ["searched"], found


@pytest.mark.runtimes("microvm")
@pytest.mark.parametrize("what,script", [
    ("pids", "f() { f | f & }; while true; do f; done"),
    ("inodes", "mkdir /v/d$$; i=0; while [ $i -lt 20000 ]; do : > /dev/shm/$$.$i; i=$((i + 1)); done; while true; do : > /tmp/$i; i=$((i + 1)); done"),
    ("sockets", "i=2000; while true; do nc -l -p $i & i=$((i + 1)); done"),
], ids=["pids", "inodes", "sockets"])
def test_a_pod_whose_containers_use_something_up_together(network, make_pod, clean, folder, runtime_name, what, script):
    """Three containers without limits at once; the node's own tables do not grow with it, and the pod can be removed."""
    shared = folder / "v"
    shared.mkdir()
    victim, offender = make_pod(), make_pod()
    answering = victim.start(["sleep", "1000"])
    node = NodeTables()
    for _ in range(3):
        container = offender.create(["sh", "-c", script], mounts=[{"host_path": str(shared), "container_path": "/v"}])
        offender.crictl.call("start", container, check=False)  # the machine may have nothing left for the next one
    still_serves(victim, answering, 3)
    node.have_not_grown()
    remove_within(offender, 60)
    still_serves(victim, answering, 0.5)


@pytest.mark.runtimes("microvm")
def test_a_pod_that_floods_events(network, make_pod, clean, runtime_name):
    """Three containers whose processes end and are killed for want of memory as fast as they can."""
    shims = set(clean.shims())
    victim, offender = make_pod(), make_pod()
    answering = victim.start(["sleep", "1000"])
    for _ in range(3):
        offender.start(["sh", "-c", "while true; do /testinit allocate 64; done"], resources={"memory_limit_in_bytes": 16 * MIB})
    still_serves(victim, answering, 3)
    for shim in set(clean.shims()) - shims:
        assert private_bytes(shim) < 4 * MIB
    remove_within(offender, 60)
