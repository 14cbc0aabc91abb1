"""What the tests of hostile containers and pods look at: the node's own tables, a shim's memory, a neighbour that goes on."""

import os
import pathlib
import time

MIB = 1 << 20


def remove_within(pod, seconds):
    begin = time.monotonic()
    pod.remove()
    assert time.monotonic() - begin < seconds
    pod.remove = lambda: None


def still_serves(pod, container, seconds):
    """For that long: the offender gets its time, and the neighbour answers throughout."""
    end = time.monotonic() + seconds
    while True:
        assert pod.exec(container, "echo", "alive").stdout == "alive\n"
        if time.monotonic() > end:
            return


class NodeTables:
    """The node's processes and sockets; the guests' own are not among them."""

    def __init__(self):
        self.processes, self.sockets = self.count()

    @staticmethod
    def count():
        words = pathlib.Path("/proc/net/sockstat").read_text().split()
        return len([entry for entry in os.listdir("/proc") if entry.isdigit()]), int(words[words.index("used") + 1])

    def have_not_grown(self):
        processes, sockets = self.count()
        assert processes < self.processes + 200, "the node's table of processes has grown with the guest's"
        assert sockets < self.sockets + 500, "the node's table of sockets has grown with the guest's"


def private_bytes(pid, kinds=("Private_Dirty",)):
    """Private memory of a process that it has written (or what kinds of smaps_rollup say); 0 where it has ended."""
    try:
        rows = dict(line.split(":") for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(rows[kind].split()[0]) for kind in kinds) << 10
