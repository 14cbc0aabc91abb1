"""What a test leaves behind: processes, mounts, cgroups, sockets, folders, network interfaces.

The test process is made a child subreaper, so that whatever a runtime leaves running is among its descendants, whoever started it."""

import ctypes
import os
import pathlib
import subprocess
import time

PR_SET_CHILD_SUBREAPER = 36
NAME_FOLDERS = ["/run", "/run/caisson", "/run/runc", "/run/crun", "/tmp", "/dev/shm", "/var/lib/caisson", "/var/tmp"]


def become_subreaper():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(ancestor):
    """(pid, start time, command line) of every living process below ancestor."""
    parents, found = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            fields = stat[stat.rindex(")") + 2:].split()
            command = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in "ZX":
            parents[int(entry)] = int(fields[1])
            found[int(entry)] = (int(entry), int(fields[19]), command or stat[stat.index("("):stat.rindex(")") + 1])

    def below(pid):
        for _ in range(1000):
            pid = parents.get(pid, 0)
            if pid == ancestor:
                return True
            if pid in (0, 1):
                return False
        return False

    return {found[pid] for pid in found if below(pid)}


def reap_orphans():
    """Reaps what was reparented to us and has ended; never a child that subprocess waits for."""
    known = {process.pid for process in getattr(subprocess, "_active", [])}
    try:
        children = pathlib.Path("/proc/self/task").glob("*/children")
        pids = {int(pid) for child in children for pid in child.read_text().split()}
    except OSError:
        return
    for pid in pids - known:
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
            if stat[stat.rindex(")") + 2] == "Z":
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        except (OSError, ValueError):
            pass


def snapshot(folder, marker):
    """Everything that concerns us: processes below us, mounts and sockets below folder, and whatever has marker in its name."""
    result = {"process": descendants(os.getpid())}
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    # podman mounts its storage on itself and takes it away again as it pleases.
    result["mount"] = {mount for mount in mounts if (mount.startswith(str(folder)) or marker in mount) and not mount.endswith("/pod/s/overlay")}
    result["cgroup"] = set()
    for path, folders, _ in os.walk("/sys/fs/cgroup"):
        for name in list(folders):
            if marker in name:
                result["cgroup"].add(os.path.join(path, name))
    sockets = [line.split()[-1] for line in open("/proc/net/unix")]
    result["socket"] = {name for name in sockets if str(folder) in name or marker in name}
    result["interface"] = {name for name in os.listdir("/sys/class/net") if marker in name}
    result["folder"] = {os.path.join(place, name) for place in NAME_FOLDERS if os.path.isdir(place) for name in os.listdir(place) if marker in name}
    for root in pathlib.Path(folder).glob("root-*"):
        result["folder"] |= {str(entry) for entry in root.iterdir()}
    return result


def difference(before, after):
    return [f"{kind} {item}" for kind in after for item in sorted(after[kind] - before[kind], key=str)]


def wait_for_nothing(before, folder, marker, deadline=5.0):
    """What is there and was not before, once `deadline` seconds have passed; empty as soon as there is nothing."""
    end = time.monotonic() + deadline
    while True:
        reap_orphans()
        left = difference(before, snapshot(folder, marker))
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.02)
