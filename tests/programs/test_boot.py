"""systemd as the first process of a container, set up as podman's --systemd=always does: tmpfs on /run and /tmp, control groups of its own, `container` in the environment."""

import concurrent.futures
import pathlib
import subprocess

import pytest

from harness.debian import boot_tree
from harness.waiting import wait_for

pytestmark = pytest.mark.timeout(600)
UNIFIED = pathlib.Path("/sys/fs/cgroup/unified")


@pytest.fixture(scope="session")
def tree():
    return boot_tree()


class System:
    """A system that boots; power_off() gives its exit status."""

    def __init__(self, container, running):
        self.container, self.running = container, running

    def exec(self, *args, check=True):
        return self.container.exec(*args, check=check, timeout=60)

    def lines(self, *args, check=True):
        return self.exec(*args, check=check).stdout.splitlines()

    def show(self, unit, *names):
        return dict(line.split("=", 1) for line in self.lines("systemctl", "show", unit, *[f"-p{name}" for name in names]))

    def power_off(self):
        self.exec("systemctl", "poweroff", check=False)  # its own end may come first
        return self.running.result(timeout=60).status


@pytest.fixture
def system(machine):
    bundle = machine.container.bundle
    bundle.privileged()
    bundle.namespace("cgroup")
    bundle.process["args"] = ["/lib/systemd/systemd"]
    bundle.process["env"] += ["container=oci"]
    for place, mode in (("/run", "755"), ("/tmp", "1777"), ("/var/log/journal", "755")):
        bundle.mount(place, "tmpfs", "tmpfs", ["nosuid", "nodev", f"mode={mode}"])
    group = UNIFIED / f"{machine.container.id}-boot"
    native = machine.runtime != "appkernel" and UNIFIED.is_dir()
    if native:  # systemd in a hybrid layout, as in /sys/fs/cgroup here, wants version 1
        group.mkdir()
        bundle.mount("/sys/fs/cgroup", "bind", group, ["bind", "rw"])
    else:
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "nodev", "noexec", "rw"])
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        running = thread.submit(machine.container.run, check=False, timeout=300)
        system = System(machine.container, running)
        try:
            wait_for(lambda: running.done() or system.exec("systemctl", "is-system-running", check=False).stdout.strip() not in ("", "offline"), "systemd's answer")
            assert not running.done(), running.result()
            system.exec("systemctl", "is-system-running", "--wait", check=False)
            yield system
        finally:
            if not running.done():
                machine.container.kill("KILL", check=False)
    if native:
        subprocess.run(["find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], check=True)


def test_boots_and_powers_off(system):
    assert system.lines("systemctl", "is-system-running", "--wait", check=False) == ["running"], system.exec("systemctl", "--failed", "--no-pager").stdout
    status = system.exec("systemctl", "status", "--no-pager").stdout
    assert "init.scope" in status and "systemd-journald.service" in status
    assert system.exec("loginctl", "list-sessions", "--no-legend").ok  # logind answers over D-Bus
    assert system.power_off() == 130  # as if by SIGINT: pid_namespaces(7)


def test_services(system):
    run = ["systemd-run", "--quiet"]
    assert system.lines(*run, "--wait", "--pipe", "grep", "-o", "^0::.*service$", "/proc/self/cgroup")[0].split("/")[-2:][0] == "system.slice"
    # What dies is started again; what is stopped is gone, whoever it has started, and so is its group.
    system.exec(*run, "--unit=again", "-pRestart=always", "-pRestartSec=0", "sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & sleep 1000")
    system.exec("systemctl", "kill", "--signal=KILL", "--kill-who=main", "again")
    wait_for(lambda: system.show("again", "NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}, "the service's restart")
    group = "/sys/fs/cgroup/system.slice/again.service"
    wait_for(lambda: len(system.lines("cat", f"{group}/cgroup.procs")) == 4, "its four processes")
    system.exec("systemctl", "freeze", "again")
    assert "frozen 1" in system.lines("cat", f"{group}/cgroup.events")
    system.exec("systemctl", "thaw", "again")
    system.exec("systemctl", "stop", "again")
    assert system.lines("systemctl", "is-active", "again", check=False) == ["inactive"]
    assert not system.exec("test", "-e", group, check=False).ok
    assert not system.exec("pgrep", "-x", "sleep", check=False).ok
    # One that ends by itself is noticed by its group, and its words are in the journal.
    system.exec(*run, "--unit=forks", "-pType=forking", "sh", "-c", "(sleep 0.2; echo the last word) & exit 0")
    wait_for(lambda: system.lines("systemctl", "is-active", "forks", check=False) == ["inactive"], "the end of the service")
    assert "the last word" in system.lines("journalctl", "--output=cat", "--unit=forks")


@pytest.mark.runtimes("appkernel")  # this machine's hierarchy has no controllers
def test_limits(system):
    """TasksMax= is kept, and the accounts are of the unit's own processes."""
    script = "n=0; while [ $n -lt 8 ]; do sleep 1000 & n=$((n+1)); done; wait"
    system.exec("systemd-run", "--quiet", "--unit=few", "-pTasksMax=4", "bash", "-c", script)
    wait_for(lambda: system.lines("cat", "/sys/fs/cgroup/system.slice/few.service/pids.events") != ["max 0"], "a refused fork")
    assert int(system.lines("cat", "/sys/fs/cgroup/system.slice/few.service/pids.current")[0]) <= 4
    system.exec("systemctl", "stop", "few")
    system.exec("systemd-run", "--quiet", "--unit=busy", "-pRemainAfterExit=yes", "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
    wait_for(lambda: system.show("busy", "SubState")["SubState"] == "exited", "its end")
    used = int(system.show("busy", "CPUUsageNSec")["CPUUsageNSec"])
    assert 50_000_000 < used < 60_000_000_000
