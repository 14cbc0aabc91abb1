"""What is measured: one function per group. Each yields rows (Samples) filled in interleaved rounds."""

import json
import os
import shutil
import signal
import subprocess
import time

from . import bundle, memory
from .samples import Samples

MIB = 1 << 20


class Context:
    """What the groups share: the sides that take part, the folders, how much to do."""

    def __init__(self, peers, work, rootfs, workload, rounds, quick, say):
        self.peers, self.work, self.rootfs, self.workload = peers, work, rootfs, workload
        self.rounds, self.quick, self.say = rounds, quick, say
        self.failures = {}

    def bundle(self, name, args):
        return bundle.make_bundle(os.path.join(self.work, "bundles", name), self.rootfs, args)

    def slow(self, peer):
        return "microvm" in peer.name

    def each_round(self, what, peers, rounds, measure):
        """measure(peer) for each side, rounds times, in an order that rotates, so that neither drift nor neighbours favour one."""
        left = list(peers)
        for turn in range(rounds):
            self.say(f"{what}: round {turn + 1} of {rounds}")
            for index in range(len(left)):
                peer = left[(index + turn) % len(left)]
                if peer.name in self.failures.get(what, {}):
                    continue
                try:
                    measure(peer)
                except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
                    self.failures.setdefault(what, {})[peer.name] = str(error)
                    self.say(f"{what}: {peer.name}: {error}")

    def present(self, *names):
        return next((name for name in names if any(peer.name == name for peer in self.peers)), None)


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def start(context):
    """`run` of /bin/true, from exec to exit, wall."""
    path = context.bundle("true", ["/bin/true"])
    fast = [peer for peer in context.peers if not context.slow(peer)]
    slow = [peer for peer in context.peers if context.slow(peer)]
    row = Samples("start", "run of /bin/true, wall", "ms", context.present("crun", "runc"))

    def once(peer):
        row.add(peer.name, timed(lambda: peer.run(path)) * 1000)

    context.each_round("start", fast, context.rounds * 4, once)
    context.each_round("start of a micro-VM", slow, context.rounds, once)
    return [row]


def stream(context):
    """Throughput of stdout through a pipe, from the first byte on: start-up is another row."""
    size = (64 if context.quick else 512) * MIB
    path = context.bundle("stream", ["/bin/sh", "-c", f"head -c {size} /dev/zero"])
    row = Samples("stream", "stdout of head -c through a pipe", "MiB/s", context.present("runc", "crun"), smaller_is_better=False)

    def once(peer):
        process = peer.popen(path, subprocess.PIPE)
        got, begun = 0, None
        buffer = bytearray(MIB)
        while count := process.stdout.raw.readinto(buffer):
            begun = begun or time.perf_counter()
            got += count
        seconds = time.perf_counter() - (begun or 0)
        process.stdout.close()
        if process.wait() != 0 or got != size:
            raise RuntimeError(f"{peer.name}: {got} of {size} bytes, status {process.returncode}")
        row.add(peer.name, size / MIB / seconds)

    context.each_round("stream", context.peers, context.rounds, once)
    return [row]


class Native:
    """The same work without a container, on the same files; in a CPU cgroup of its own as containers are, so that on a busy node it gets as much."""

    name = "native"

    def __init__(self, rootfs, workload):
        self.rootfs, self.workload = rootfs, workload
        base = "/sys/fs/cgroup/cpu" if os.path.isdir("/sys/fs/cgroup/cpu") else "/sys/fs/cgroup"
        self.cgroup = os.path.join(base, f"caisson-bench-{os.getpid()}")

    def output(self, args):
        args = [os.path.join(self.rootfs, arg[1:]) if arg.startswith("/work") else arg for arg in args]
        enter = f'echo $$ 2>/dev/null >{self.cgroup}/cgroup.procs; exec "$@"'
        os.makedirs(self.cgroup, exist_ok=True)
        try:
            return subprocess.run(["sh", "-c", enter, "sh", self.workload, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True,
                                  timeout=300).stdout
        finally:
            self.free_cgroup()

    def free_cgroup(self, patience=10):
        """What a command has left behind goes with it."""
        until = time.monotonic() + patience
        while True:
            memory.reap()
            try:
                return os.rmdir(self.cgroup)
            except OSError:
                if time.monotonic() > until:
                    raise
            with open(os.path.join(self.cgroup, "cgroup.procs"), encoding="ascii") as file:
                for pid in file.read().split():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass


class InContainer:
    def __init__(self, context, peer, args, name):
        self.peer, self.name = peer, peer.name
        self.path = context.bundle(f"{name}-{peer.name.replace(' ', '-')}", ["/bin/bench-work", *args])

    def output(self, _args):
        return self.peer.run(self.path, stdout=subprocess.PIPE).stdout


def workload_rows(context, group, args, names, before):
    """Runs bench-work natively and in each side; names: its members, as (member, title, unit, smaller is better)."""
    table = {member: Samples(group, title, unit, "native", smaller) for member, title, unit, smaller in names}
    sides = [Native(context.rootfs, context.workload), *(InContainer(context, peer, args, group) for peer in context.peers)]

    def once(side):
        before()
        for member, value in json.loads(side.output(args)).items():
            table[member].add(side.name, value)

    context.each_round(group, sides, context.rounds, once)
    return list(table.values())


def files(context):
    """Files of the container's root, from inside; native on the same folder."""
    mib, count = (16, 300) if context.quick else (64, 1000)
    data = os.path.join(context.rootfs, "work/data")
    with open(data, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    names = [("read_first_mib_s", f"first read of {mib} MiB", "MiB/s", False), ("read_again_mib_s", "second read", "MiB/s", False),
             ("write_mib_s", f"write of {mib} MiB", "MiB/s", False), ("create_us", "create a file of one byte", "us", True),
             ("stat_us", "stat", "us", True), ("unlink_us", "unlink", "us", True)]

    def before():
        shutil.rmtree(os.path.join(context.rootfs, "work/scratch"), ignore_errors=True)

    return workload_rows(context, "files", ["files", "/work", str(mib), str(count)], names, before)


def compute(context):
    """Work that a kernel has little to do with, and the smallest kernel work."""
    names = [("integer_s", "integers", "s", True), ("floating_s", "matrices of doubles", "s", True), ("memory_s", "random reads of memory", "s", True)]
    calls = [("getppid_ns", "getppid", "ns", True), ("fork_exec_wait_us", "fork, exec, wait", "us", True)]
    return (workload_rows(context, "compute", ["compute"], names, lambda: None) +
            workload_rows(context, "processes", ["processes"], calls, lambda: None))


def sandbox_memory(context):
    """PSS and private memory of each process of an idle sandbox; as a table, and its sum as a row."""
    path = context.bundle("sleep", ["/bin/sleep", "1000"])
    row = Samples("memory", "an idle sandbox beyond the container's own process, PSS", "KiB", context.present("runc", "crun"))
    private = Samples("memory", "the same, private", "KiB", context.present("runc", "crun"))
    latest = {}

    def once(peer):
        memory.reap()
        container = peer.start(path)
        try:
            processes = memory.of_sandbox(3.0 if context.slow(peer) else 0.5)
        finally:
            peer.stop(container)
            memory.reap()
        if not processes:
            raise RuntimeError(f"{peer.name}: no process of the sandbox was found")
        latest[peer.name] = processes
        row.add(peer.name, sum(p["pss_kib"] for p in processes if not p["container"]))
        private.add(peer.name, sum(p["private_kib"] for p in processes if not p["container"]))

    context.each_round("memory", context.peers, max(1, context.rounds // 3), once)
    lines = [[name, ("(container) " if p["container"] else "") + p["title"], str(p["pss_kib"]), str(p["private_kib"])]
             for name, processes in latest.items() for p in processes]
    return [row, private], {"title": "memory by process (KiB)", "header": ["side", "process", "PSS", "private"], "lines": lines}
