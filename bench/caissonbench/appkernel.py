"""Where an application kernel's time goes: each kind of system call, processes, and whole programs, natively and in every side."""

import json
import os
import shutil
import subprocess
import time

from . import bundle
from .measure import InContainer, Native, workload_rows
from .samples import Samples

CALLS = [("getppid_ns", "getppid (answered in the stub)", "ns"), ("getpgid_ns", "getpgid (answered by the kernel process)", "ns"),
         ("clock_ns", "clock_gettime", "ns"), ("lseek_ns", "lseek", "ns"), ("read_1_ns", "pread of 1 byte of a file", "ns"),
         ("read_4k_ns", "pread of 4 KiB", "ns"), ("read_64k_ns", "pread of 64 KiB", "ns"), ("write_4k_ns", "pwrite of 4 KiB", "ns"),
         ("fstat_ns", "fstat", "ns"), ("stat_ns", "stat", "ns"), ("open_close_ns", "open and close", "ns"),
         ("pipe_ns", "a byte into a pipe and out of it", "ns"), ("pipe_round_trip_ns", "round trip of two threads through two pipes", "ns"),
         ("futex_wake_ns", "futex, nobody waits", "ns"), ("futex_round_trip_ns", "round trip of two threads through a futex", "ns"),
         ("mmap_munmap_ns", "mmap and munmap of a page", "ns"), ("page_fault_ns", "page fault", "ns"), ("thread_us", "thread: create and join", "us"),
         ("fork_us", "fork, exit, wait", "us"), ("fork_exec_us", "fork, exec, exit, wait", "us"), ("spawn_us", "posix_spawn, exit, wait", "us")]

# The node's own programs, with its folders below /usr, read-only. (name, what must be there, runs, shell command; /work may be written)
PROGRAMS = [
    ("python3 -c pass", ["python3"], 10, "exec python3 -I -c pass"),
    ("gcc and make -j2, 12 files", ["gcc", "make"], 1, "cd /work/build && make -s clean && make -s -j2 all && test -s lib.a"),
    ("sqlite3, 2,000 inserts in 20 transactions", ["sqlite3"], 1, "cd /work/build && rm -f data.db && sqlite3 data.db <insert.sql"),
    # These tell their figures themselves. The servers are up before anything is counted, and have gone when the command ends.
    ("redis-benchmark, time per SET and GET", ["redis-server", "redis-benchmark"], 0,
     "redis-server --save '' --daemonize no --unixsocket /work/build/r.sock --port 0 >/dev/null & "
     "while kill -0 $! && ! redis-cli -s /work/build/r.sock ping >/dev/null 2>&1; do :; done; "
     "redis-benchmark -s /work/build/r.sock -t set,get -n 40000 --csv | tr -d '\"' | "
     "awk -F, '/^[SG]ET,/ {s += 1000 / $2; n++} END {if (n == 2) printf \"{\\\"ms\\\": %f}\\n\", s / n}'; kill $!; wait"),
    ("nginx under wrk, time per request", ["nginx", "wrk"], 0,
     "nginx -p /work/build -c /work/build/nginx.conf & "
     "while kill -0 $! && ! test -s /work/build/nginx.pid; do :; done; "
     "wrk -t1 -c16 -d2 http://127.0.0.1:18099/f0.c | awk '/Requests.sec/ {r = $2} /Non-2xx|Socket errors/ {bad = 1} "
     "END {if (r > 0 && !bad) printf \"{\\\"ms\\\": %f}\\n\", 1000 / r}'; kill $!; wait"),
]
FOLDERS = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache"]


def start_to_output(context):
    """From the exec of the runtime to the first byte of the container's output."""
    path = context.bundle("hello", ["/bin/sh", "-c", "echo hello"])
    row = Samples("appkernel", "start to the first byte of output", "ms", context.present("crun", "runc"))

    def once(peer):
        begun = time.perf_counter()
        process = peer.popen(path, subprocess.PIPE)
        first = process.stdout.read(1)
        row.add(peer.name, (time.perf_counter() - begun) * 1000)
        process.stdout.close()
        if process.wait() != 0 or first != b"h":
            raise RuntimeError(f"{peer.name}: no output, status {process.returncode}")

    fast = [peer for peer in context.peers if not context.slow(peer)]
    context.each_round("start to output", fast, context.rounds * 3, once)
    context.each_round("start to output of a micro-VM", [peer for peer in context.peers if context.slow(peer)], max(1, context.rounds // 3), once)
    return row


def make_project(folder):
    """A C project of twelve files, and statements for sqlite."""
    os.makedirs(folder, exist_ok=True)
    for number in range(12):
        with open(os.path.join(folder, f"f{number}.c"), "w", encoding="utf-8") as file:
            file.write("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
            file.writelines(f"int f{number}_{i}(int x) {{ char b[64]; snprintf(b, sizeof b, \"%d\", x * {i}); return (int)strlen(b) + atoi(b); }}\n" for i in range(60))
    names = " ".join(f"f{number}.o" for number in range(12))
    with open(os.path.join(folder, "Makefile"), "w", encoding="utf-8") as file:
        file.write(f"all: lib.a\nlib.a: {names}\n\tar rcs $@ $^\n%.o: %.c\n\tgcc -O1 -c -o $@ $<\nclean:\n\trm -f *.o lib.a\n")
    with open(os.path.join(folder, "insert.sql"), "w", encoding="utf-8") as file:
        file.write("create table t(a integer primary key, b text);\n")
        for transaction in range(20):
            file.write("begin;\n" + "".join(f"insert into t(b) values('row {transaction} {i}');\n" for i in range(100)) + "commit;\n")
        file.write("select count(*), sum(a) from t;\n")
    with open(os.path.join(folder, "nginx.conf"), "w", encoding="utf-8") as file:
        file.write(f"daemon off; master_process off; pid nginx.pid; error_log stderr; events {{}} http {{ access_log off; server "
                   f"{{ listen 127.0.0.1:18099; root .; }} "
                   # Its own folders below /var/lib are in no container's root.
                   + "".join(f"{kind}_temp_path t-{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")) + "}\n")


def program_bundle(context, peer, work, args):
    """A bundle whose root is made of the node's own folders."""
    root = os.path.join(context.work, "program-root")
    for name in ("dev", "proc", "sys", "tmp", "work", "etc/alternatives", *(each[1:] for each in FOLDERS)):
        if name != "etc/ld.so.cache":
            os.makedirs(os.path.join(root, name), exist_ok=True)
    with open(os.path.join(root, "etc/ld.so.cache"), "ab"):
        pass
    for name, text in (("passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n"),
                       ("group", "root:x:0:\nnogroup:x:65534:\nwww-data:x:33:\n")):
        with open(os.path.join(root, "etc", name), "w", encoding="utf-8") as file:
            file.write(text)
    path = context.bundle(f"program-{peer.name.replace(' ', '-')}", args)
    with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
        spec = json.load(file)
    spec["root"]["path"] = root
    binds = [(each, each, "ro") for each in FOLDERS if os.path.exists(each)] + [(work, "/work", "rw")]
    spec["mounts"] += [{"destination": to, "type": "bind", "source": os.path.realpath(source), "options": ["rbind", mode]} for source, to, mode in binds]
    spec["process"]["env"] = [f"PATH={bundle.PATH}", "LC_ALL=C"]
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as file:
        json.dump(spec, file)
    return path


class NativeProgram(Native):
    """The command on the node itself, with the same files under another name."""

    def __init__(self, context, work, args):
        # The same programs as in containers, whatever the PATH here is.
        super().__init__(context.rootfs, "/usr/bin/env")
        self.args = [f"PATH={bundle.PATH}", "LC_ALL=C", *(arg.replace("/work/", work + "/") for arg in args)]

    def output(self, _args):
        return super().output(self.args)


class ProgramInContainer(InContainer):
    def __init__(self, context, peer, work, args):
        self.peer, self.name = peer, peer.name
        self.path = program_bundle(context, peer, work, args)


def programs(context):
    """Whole programs of this node. Not in micro-VMs: each bind mount would be a share of its own."""
    rows, skipped = [], {}
    for name, needed, runs, command in PROGRAMS:
        absent = [program for program in needed if not shutil.which(program, path=bundle.PATH)]
        if absent:
            skipped[f"appkernel: {name}"] = f"{' and '.join(absent)}: not installed"
            continue
        row = Samples("appkernel", name, "ms", "native")
        program = ["/work/bin/bench-work", "repeat", str(runs)] if runs else []
        args = [*program, "/bin/sh", "-c", command]
        work = os.path.join(context.work, "program-work")
        make_project(os.path.join(work, "build"))
        os.makedirs(os.path.join(work, "bin"), exist_ok=True)
        shutil.copy(context.workload, os.path.join(work, "bin/bench-work"))
        fast = [peer for peer in context.peers if not context.slow(peer)]
        sides = [NativeProgram(context, work, args), *(ProgramInContainer(context, peer, work, args) for peer in fast)]

        def once(side, row=row, args=args):
            lines = side.output(args).splitlines()
            if not lines:
                raise RuntimeError(f"{side.name}: no figure")
            row.add(side.name, json.loads(lines[-1])["ms"])

        context.each_round(name, sides, max(2, context.rounds // 2), once)
        rows.append(row)
    return rows, skipped


def measure(context):
    count = 2000 if context.quick else 10000
    calls = workload_rows(context, "appkernel", ["calls", "/work", str(count)], [(*each, True) for each in CALLS], lambda: None)
    rows, skipped = programs(context)
    return [start_to_output(context), *calls, *rows], skipped


GOALS = [  # (row begins with, side compared with, at most, what)
    ("start", "run of /bin/true", "crun", 1.5, "run of /bin/true"),
    ("appkernel", "fork, exec", "native", 3, "fork, exec, wait"),
    ("appkernel", "getppid", "native", 1, "system call answered in the stub"),
    ("appkernel", "getpgid", "native", 5, "system call answered by the kernel process, a CPU to spare (one CPU: 40 x)"),
]


def goals(rows):
    """The design's figures for this isolation that a run can tell."""
    side, lines = "caisson appkernel", []
    for group, name, reference, most, what in GOALS:
        for row in rows:
            if row.group != group or not row.name.startswith(name) or row.reference != reference or row.ratio(side) is None:
                continue
            ratio = row.ratio(side)
            lines.append([f"appkernel: {what}", f"at most {most:g} x {reference}", f"{ratio:.2f} x", "reached" if ratio <= most else "not reached"])
    for row in rows:
        if row.group == "memory" and "private" in row.name and row.median(side) is not None:
            mib = row.median(side) / 1024
            lines.append(["appkernel: private memory of an idle sandbox", "at most 4 MiB", f"{mib:.1f} MiB", "reached" if mib <= 4 else "not reached"])
    return lines
