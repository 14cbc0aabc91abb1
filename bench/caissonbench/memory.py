"""Memory of every process that a running sandbox consists of."""

import ctypes
import os
import time

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """What runtimes leave behind becomes our child, so that it can be found by walking down from us."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def reap(but=0):
    """Every child that has ended, but the one that somebody else waits for."""
    for pid, parent in parents().items():
        if parent != os.getpid() or pid == but:
            continue
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass


def parents():
    table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                table[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return table


def descendants(root):
    table, found = parents(), []
    layer = [root]
    while layer:
        layer = [pid for pid, parent in table.items() if parent in layer]
        found += layer
    return sorted(found)


def rollup(pid):
    """PSS and private memory in KiB."""
    values = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if rest.endswith("kB\n"):
                values[name] = int(rest.split()[0])
    return values["Pss"], values["Private_Clean"] + values["Private_Dirty"]


def title(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    text = b" ".join(words).decode(errors="replace").strip()
    if not text:  # a stub of the application kernel
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            text = file.read().strip()
    return (os.path.basename(text.split(" ")[0]) + " " + " ".join(text.split(" ")[1:3])).strip()[:60]


def runs_sleep(pid):
    """The container's own process: `sleep` by its title, or a stub of the application kernel that has busybox mapped."""
    if title(pid) != "caisson-guest":
        return title(pid).startswith("sleep")
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        return "busybox" in file.read()


def of_sandbox(settle=1.0):
    """Every process below us, with its memory."""
    time.sleep(settle)
    processes = []
    for pid in descendants(os.getpid()):
        try:
            pss, private = rollup(pid)
            processes.append({"pid": pid, "title": title(pid), "pss_kib": pss, "private_kib": private, "container": runs_sleep(pid)})
        except (FileNotFoundError, ProcessLookupError, KeyError):
            pass  # ended meanwhile, or a zombie
    return processes
