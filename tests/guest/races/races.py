"""Calls that race with each other, from many processes and threads: what a thread sanitizer that watches the application kernel wants to see
(./test tsan), and a load that the kernel must survive in every build. races.py SECONDS FOLDER [OPERATION...]

Only for the application kernel's own process table: it sends signals to all that it finds there, and so refuses to run natively."""

import ctypes
import fcntl
import json
import mmap
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import termios
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.shmat.restype = ctypes.c_void_p
WORKERS, WITHIN = 6, 15
PROC_FILES = "status stat maps smaps cmdline environ limits mountinfo mounts statm comm oom_score_adj cgroup io uid_map fdinfo/0".split()
PROC_LINKS = "exe cwd root ns/mnt ns/pid ns/uts ns/ipc ns/user".split()
GLOBAL_FILES = "stat meminfo loadavg uptime locks net/unix net/tcp sysvipc/shm sysvipc/sem sysvipc/msg sys/fs/file-nr sys/kernel/pid_max".split()


class quiet:
    """Losing a race is no failure: each operation uses what another one takes away."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        return kind is not None and issubclass(kind, (OSError, ValueError, termios.error))


def close(*fds):
    for fd in fds:
        with quiet():
            os.close(fd)


def in_threads(*bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def look(path):
    with quiet(), open(path, "rb") as file:
        file.read(65536)


def pids():
    return [name for name in os.listdir("/proc") if name.isdigit()]


def read_proc(r):
    folder = f"/proc/{r.choice(pids())}"
    look(f"{folder}/{r.choice(PROC_FILES)}")
    with quiet():
        for fd in os.listdir(folder + "/fd")[:5]:
            with quiet():
                os.readlink(f"{folder}/fd/{fd}")
        for tid in os.listdir(folder + "/task"):
            for name in ("stat", "comm", "status"):
                look(f"{folder}/task/{tid}/{name}")
        for name in PROC_LINKS:
            with quiet():
                os.readlink(f"{folder}/{name}")
    look("/proc/" + r.choice(GLOBAL_FILES))


def live_shortly(kind):
    if kind < 0.3:
        os.execv("/bin/true", ["true"])
    if kind < 0.5:
        os.setsid()
    elif kind < 0.6:
        os.setgroups([1, 2])
        os.setresuid(1000, 1000, 1000)
    else:
        for _ in range(3):
            threading.Thread(target=time.sleep, args=(0.001,)).start()
        if kind < 0.8:
            os.execv("/bin/true", ["true"])  # with threads that are still there


def fork_exec_exit(r):
    child = os.fork()
    if child == 0:
        with quiet():
            live_shortly(r.random())
        os._exit(0)
    with quiet():
        os.setpgid(child, child)
    for number in (r.choice([signal.SIGSTOP, signal.SIGTERM, 0]), signal.SIGCONT, signal.SIGKILL):
        with quiet():
            os.kill(child, number)
    os.waitpid(child, 0)


def disturb_others(r):
    other = int(r.choice(pids()))
    if other == 1:
        return
    with quiet():
        os.kill(other, r.choice([0, signal.SIGUSR1, signal.SIGCHLD, signal.SIGURG, signal.SIGCONT]))
        os.getpgid(other)
        os.getsid(other)
        os.sched_setaffinity(other, os.sched_getaffinity(other))
        resource.prlimit(other, resource.RLIMIT_CORE, resource.prlimit(other, resource.RLIMIT_CORE))
        os.setpriority(os.PRIO_PROCESS, other, os.getpriority(os.PRIO_PROCESS, other) % 3)
        os.sched_setscheduler(other, os.sched_getscheduler(other), os.sched_param(0))
    with quiet():
        pidfd = os.pidfd_open(other)
        select.select([pidfd], [], [], 0)
        signal.pidfd_send_signal(pidfd, 0)
        close(pidfd)


def change_oneself(r):
    libc.prctl(15, b"n%d" % r.randrange(100), 0, 0, 0)
    os.umask(r.choice([0, 0o22]))
    os.chdir(r.choice(["/", "/proc", "/usr"]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (r.choice([512, 600, 1024]), 4096))
    signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.0005 * r.random())
    os.setgroups([r.randrange(9)])
    os.setresgid(0, 0, r.choice([0, 5]))
    os.setresgid(0, 0, 0)
    time.sleep(0.001)


def use_files(r):
    path = f"{r.choice(['/dev/shm', FOLDER])}/f{r.randrange(4)}"
    with quiet():
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        with quiet():
            os.write(fd, b"x" * r.randrange(9000))
            os.lseek(fd, 0, os.SEEK_SET)
            os.read(fd, 100)
            os.ftruncate(fd, r.randrange(4096, 10000))
            fcntl.lockf(fd, r.choice([fcntl.LOCK_EX, fcntl.LOCK_SH]) | fcntl.LOCK_NB)
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            mmap.mmap(fd, 4096).close()
        close(fd)
        os.setxattr(path, "user.a", b"1")
        os.chmod(path, 0o644)
        os.utime(path)
        os.rename(path, path + "r")
        os.link(path + "r", path)
        os.unlink(path + "r")
    folder = "/dev/shm/d%d"
    for call in (lambda: os.mkdir(folder % r.randrange(3)), lambda: os.rename(folder % r.randrange(3), folder % r.randrange(3)), lambda: os.listdir("/dev/shm"),
                 lambda: os.rmdir(folder % r.randrange(3))):
        with quiet():
            call()


def watch_files(r):
    fd = libc.inotify_init1(os.O_NONBLOCK)
    watches = [libc.inotify_add_watch(fd, path, 0xFFF) for path in (b"/dev/shm", FOLDER.encode(), b"/dev/shm/f0")]
    use_files(r)
    with quiet():
        os.read(fd, 4096)
    libc.inotify_rm_watch(fd, r.choice(watches))
    close(fd)


def pass_descriptors(r):
    ours, theirs = socket.socketpair(socket.AF_UNIX, r.choice([socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET]))
    ours.setblocking(False)
    theirs.setblocking(False)
    inner, outer = select.epoll(), select.epoll()
    inner.register(ours, select.EPOLLIN | r.choice([0, select.EPOLLET, select.EPOLLOUT]))
    outer.register(inner, select.EPOLLIN)

    def send():
        with quiet():
            for _ in range(10):
                theirs.send(b"x" * 100)
                socket.send_fds(theirs, [b"f"], [theirs.fileno(), inner.fileno()])

    def modify():
        with quiet():
            inner.modify(ours, select.EPOLLIN | select.EPOLLONESHOT)
            inner.modify(ours, select.EPOLLIN)
            outer.poll(0.001)

    def receive():
        for _ in range(12):
            with quiet():
                inner.poll(0.001)
                close(*socket.recv_fds(ours, 4096, 4)[1])
        ours.close()

    in_threads(send, modify, receive)
    theirs.close()
    inner.close()
    outer.close()


def use_names(r):
    name = "\0races%d" % r.randrange(3)
    with quiet(), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen(2)
        listener.setblocking(False)
        listener.accept()[0].close()
    with quiet(), socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        client.connect(name)
        client.send(b"b")


def use_pipes(r):
    out, into = os.pipe2(r.choice([0, os.O_NONBLOCK]))

    def write():
        with quiet():
            for _ in range(5):
                os.write(into, b"x" * r.randrange(1, 70000))
        close(into)

    def read():
        with quiet():
            fcntl.fcntl(out, 1031, r.choice([4096, 65536, 1 << 18]))
        with quiet():
            while os.read(out, 65536):
                select.select([out], [], [], 0.01)
        close(out)

    in_threads(write, read)


def use_terminals(r):
    master, slave = os.openpty()

    def type_in():
        with quiet():
            for i in range(20):
                os.write(master, b"hello\n\x7f")
                fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", i, 80, 0, 0))

    def answer():
        with quiet():
            for _ in range(8):
                if select.select([slave], [], [], 0.001)[0]:
                    os.read(slave, 100)
                os.write(slave, b"out\n")
                settings = termios.tcgetattr(slave)
                settings[3] ^= termios.ICANON
                termios.tcsetattr(slave, termios.TCSANOW, settings)
                termios.tcflush(slave, termios.TCIOFLUSH)
        close(slave)

    in_threads(type_in, answer)
    close(master)


def mount(r):
    folder = f"{FOLDER}/mount{r.randrange(3)}"
    with quiet():
        os.mkdir(folder)
    source, kind, flags = r.choice([(b"tmpfs", b"tmpfs", 0), (b"/usr", None, 4096), (b"none", None, 1 << 20), (b"none", None, 1 << 18), (b"none", None, 33)])
    libc.mount(source, folder.encode(), kind, flags, None)
    with quiet():
        os.listdir(folder)
        os.statvfs(folder)
    look("/proc/self/mountinfo")
    libc.umount2(folder.encode(), r.choice([0, 2]))
    child = os.fork()
    if child == 0:
        libc.unshare(0x20000 | 0x4000000 | 0x8000000)  # CLONE_NEWNS, NEWUTS, NEWIPC
        libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, None)
        os._exit(0)
    os.waitpid(child, 0)


def use_ipc(r):
    key, some = 77 + r.randrange(3), ctypes.create_string_buffer(struct.pack("l", 1) + b"hello")
    queue, set_, memory = libc.msgget(key, 0o1666), libc.semget(key, 2, 0o1666), libc.shmget(key, 8192, 0o1666)
    libc.msgsnd(queue, some, 5, 0o4000)
    libc.msgrcv(queue, some, 5, 0, 0o4000)
    libc.semop(set_, struct.pack("HhHHhH", 0, 1, 0o4000, 1, 1, 0o14000), 2)
    address = libc.shmat(memory, None, 0)
    if address not in (None, 2**64 - 1):
        libc.shmdt(ctypes.c_void_p(address))
    r.choice([lambda: libc.msgctl(queue, 0, None), lambda: libc.semctl(set_, 0, 0, 0), lambda: libc.shmctl(memory, 0, None), lambda: None])()


def trace(r):
    child = os.fork()
    if child == 0:
        libc.ptrace(0, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        for _ in range(20):
            look("/proc/self/status")
        os._exit(0)
    registers = ctypes.create_string_buffer(27 * 8)
    for i in range(60):
        status = os.waitpid(child, 0)[1]
        if not os.WIFSTOPPED(status):
            return
        libc.ptrace(12, child, None, registers)  # PTRACE_GETREGS, SETREGS, then SYSCALL or CONT
        libc.ptrace(13, child, None, registers)
        libc.ptrace(24 if i < 30 else 7, child, None, None)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


class Shared:
    """Everything that the threads of one process can have in common."""

    def __init__(self):
        tid = threading.get_native_id()
        self.out, self.into = os.pipe2(os.O_NONBLOCK)
        self.event, self.timer = libc.eventfd(0, os.O_NONBLOCK), libc.timerfd_create(1, os.O_NONBLOCK)
        self.epoll = select.epoll()
        self.epoll.register(self.out, select.EPOLLIN)
        self.epoll.register(self.event, select.EPOLLIN | select.EPOLLET)
        self.names = [f"/dev/shm/s{tid}", f"{FOLDER}/s{tid}"]
        self.files = [os.open(name, os.O_RDWR | os.O_CREAT) for name in self.names]
        self.sockets = socket.socketpair()
        for each in self.sockets:
            each.setblocking(False)
        self.master, self.slave = os.openpty()
        self.inotify, self.pidfd, self.folder = libc.inotify_init1(os.O_NONBLOCK), os.pidfd_open(os.getpid()), os.open("/dev/shm", os.O_RDONLY)
        self.name = os.open(f"/proc/self/task/{tid}/comm", os.O_WRONLY)

    def end(self):
        close(self.out, self.into, self.event, self.timer, *self.files, self.master, self.slave, self.inotify, self.pidfd, self.folder, self.name)
        self.epoll.close()
        for each in self.sockets:
            each.close()
        for name in self.names:
            os.unlink(name)

    def pipe(self, r):
        os.write(self.into, b"x" * r.randrange(5000))
        os.read(self.out, 3000)

    def events(self, r):
        os.write(self.event, struct.pack("Q", 1))
        self.epoll.poll(0.001)
        self.epoll.modify(self.out, select.EPOLLIN | r.choice([0, select.EPOLLET, select.EPOLLONESHOT]))
        self.epoll.unregister(self.event)
        self.epoll.register(self.event, select.EPOLLIN)

    def positions(self, r):
        file = r.choice(self.files)
        os.write(file, b"abc")
        os.lseek(file, r.randrange(100), os.SEEK_SET)
        os.read(file, 10)
        os.ftruncate(file, r.randrange(9000))
        fcntl.lockf(file, r.choice([fcntl.LOCK_EX, fcntl.LOCK_UN]) | fcntl.LOCK_NB, 10, r.randrange(100))

    def timers(self, r):
        libc.timerfd_settime(self.timer, 0, struct.pack("llll", 0, r.randrange(3) * 100000, 0, 100000), None)
        os.read(self.timer, 8)

    def messages(self, r):
        self.sockets[0].send(b"x" * r.randrange(1, 100))
        socket.send_fds(self.sockets[0], [b"a"], self.files)
        close(*socket.recv_fds(self.sockets[1], 100, 4)[1])
        self.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))

    def terminal(self, r):
        os.write(self.master, b"line\n")
        termios.tcsetattr(self.slave, termios.TCSANOW, termios.tcgetattr(self.slave))
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", r.randrange(50), 80, 0, 0))

    def wait(self, r):
        select.select([self.slave, self.out, self.sockets[0], self.event, self.timer, self.inotify, self.pidfd], [self.into, self.sockets[1]], [], 0.001 * r.randrange(2))

    def watch(self, r):
        libc.inotify_rm_watch(self.inotify, libc.inotify_add_watch(self.inotify, r.choice([b"/dev/shm", FOLDER.encode()]), 0xFFF))
        os.read(self.inotify, 1000)

    def descriptors(self, r):
        copy = os.dup(r.choice([self.out, self.event, *self.files]))
        fcntl.fcntl(copy, fcntl.F_SETFL, fcntl.fcntl(copy, fcntl.F_GETFL))
        os.close(copy)
        os.listdir(self.folder)

    def asynchronous(self, r):
        fcntl.fcntl(self.out, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.out, 10, signal.SIGURG)  # F_SETSIG
        fcntl.fcntl(self.out, fcntl.F_SETFL, fcntl.fcntl(self.out, fcntl.F_GETFL) ^ os.O_ASYNC)

    def names_and_places(self, r):
        os.write(self.name, b"t%d" % r.randrange(99))
        libc.prctl(15, b"o%d" % r.randrange(99), 0, 0, 0)
        libc.prctl(16, ctypes.create_string_buffer(16), 0, 0, 0)
        libc.prctl(4, 1, 0, 0, 0)
        libc.prctl(3, 0, 0, 0, 0)
        os.chdir(r.choice(["/", FOLDER]))
        os.getcwd()

    def limits(self, r):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) % 3)
        os.sched_setscheduler(0, r.choice([os.SCHED_OTHER, os.SCHED_BATCH]), os.sched_param(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (r.randrange(800, 1024), 4096))
        resource.getrusage(resource.RUSAGE_SELF)

    def signals(self, r):
        os.kill(os.getpid(), signal.SIGURG)
        signal.pthread_sigmask(r.choice([signal.SIG_BLOCK, signal.SIG_UNBLOCK]), [signal.SIGURG])
        signal.sigpending()

    def spawn(self, r):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def share(r):
    until, shared = time.monotonic() + 0.1, Shared()
    deeds = [shared.pipe, shared.events, shared.positions, shared.timers, shared.messages, shared.terminal, shared.wait, shared.watch, shared.descriptors,
             shared.asynchronous, shared.names_and_places, shared.limits, shared.signals, shared.spawn]

    def one(seed):
        own = random.Random(seed)
        while time.monotonic() < until:
            with quiet():
                own.choice(deeds)(own)

    in_threads(*[lambda seed=r.random(): one(seed) for _ in range(5)])
    shared.end()


OPERATIONS = [read_proc, fork_exec_exit, disturb_others, change_oneself, use_files, watch_files, pass_descriptors, use_names, use_pipes, use_terminals, mount, use_ipc,
              trace, share]


def work(seed, until):
    """Each operation once, then as chance has it; how often each was done."""
    r, done = random.Random(seed), {}
    first = r.sample(OPERATIONS, len(OPERATIONS))
    while first or time.monotonic() < until:
        operation = first.pop() if first else r.choice(OPERATIONS)
        operation(r)
        done[operation.__name__] = done.get(operation.__name__, 0) + 1
    return done


def main(seconds):
    for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGURG):
        signal.signal(number, lambda *_: None)
    until = time.monotonic() + seconds
    out, into = os.pipe()
    children = set()
    for seed in range(WORKERS):
        child = os.fork()
        if child == 0:
            os.write(into, json.dumps(work(seed, until)).encode() + b"\n")
            os._exit(0)
        children.add(child)
    os.close(into)
    while children and time.monotonic() < until + WITHIN * 4:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child in children and status != 0:
            sys.exit(f"worker {child} ended with status {status}")
        children.discard(child)
        select.select([], [], [], 0.05)
    if children:
        sys.exit(f"{len(children)} workers do not end")
    with os.fdopen(out) as told:
        all_done = [json.loads(line) for line in told]
    print(json.dumps({operation.__name__: sum(done.get(operation.__name__, 0) for done in all_done) for operation in OPERATIONS}))


if "Caisson" not in os.uname().version:
    sys.exit("races.py disturbs every process that it sees: it runs under the application kernel only")
FOLDER = sys.argv[2]
if len(sys.argv) > 3:
    OPERATIONS = [operation for operation in OPERATIONS if operation.__name__ in sys.argv[3:]]
main(float(sys.argv[1]))
