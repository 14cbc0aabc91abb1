"""config.json: linux.seccomp."""

import array
import errno
import fcntl
import json
import os
import socket
import struct
import threading

import pytest

GETPRIORITY, GETPGID, GETPPID, PRCTL, UNAME = 140, 121, 110, 157, 63
PTRACE = 101


def allow_all_but(container, *rules, **more):
    container.bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": list(rules), **more}


def test_errno(container):
    allow_all_but(container, {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}, {"names": ["getpriority", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV},
                  {"names": ["no_such_system_call", "getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOTTY})
    denied, chosen, beside, allowed, security = container.ask(f"syscall {GETPGID} 0", f"syscall {GETPRIORITY} 0 0", f"syscall {GETPPID}", f"syscall {UNAME} 0", "security")
    assert denied == {"failed": "EPERM"}
    assert chosen == {"failed": "EXDEV"}
    assert beside == {"failed": "ENOTTY"}, "an unknown name beside it is skipped"
    assert allowed == {"failed": "EFAULT"}
    assert security["seccomp_mode"] == 2


def test_default_action_with_errno(container):
    container.bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.ENOSYS, "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": """read write exit exit_group execve brk mmap munmap mprotect arch_prctl set_tid_address set_robust_list rseq prlimit64 readlink readlinkat getrandom newfstatat fstat
            rt_sigprocmask rt_sigaction futex clone clone3 fork wait4 pipe pipe2 close prctl openat open getppid capget capset setresuid setresgid setuid setgid setgroups chdir fchdir getdents64 fcntl epoll_ctl
            epoll_pwait nanosleep getpid gettid tgkill madvise sigaltstack lseek statfs fstatfs uname access faccessat faccessat2 dup dup2 dup3 umask poll ppoll sendmsg sendto recvmsg recvfrom kill
            rt_sigreturn sched_yield restart_syscall clock_gettime clock_nanosleep gettimeofday sched_getaffinity sysinfo tkill eventfd2 epoll_create1 timer_create timer_settime timer_delete""".split(),
                      "action": "SCMP_ACT_ALLOW"}]}
    denied, allowed = container.ask(f"syscall {GETPRIORITY} 0 0", f"syscall {GETPPID}")
    assert denied == {"failed": "ENOSYS"}
    assert allowed["returned"] > 0


@pytest.mark.parametrize("action, signal", [("SCMP_ACT_KILL", 31), ("SCMP_ACT_KILL_PROCESS", 31), ("SCMP_ACT_KILL_THREAD", 31), ("SCMP_ACT_TRAP", 31)])
def test_kill_and_trap(container, action, signal):
    allow_all_but(container, {"names": ["getpriority"], "action": action})
    killed, alive = container.ask(f"syscall {GETPRIORITY} 0 0", f"syscall {GETPPID}")
    assert killed == {"signal": signal}
    assert "returned" in alive


def test_arguments(container):
    def rule(name, value, op, index=0, **more):
        return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EDOM, "args": [{"index": index, "value": value, "op": op, **more}]}
    allow_all_but(container, rule("getpgid", 1234567, "SCMP_CMP_EQ"), rule("getsid", 0, "SCMP_CMP_NE"), rule("sched_getscheduler", 5000000, "SCMP_CMP_GE"), rule("sched_getparam", 10, "SCMP_CMP_LT", 1),
                  rule("getpriority", 0xf0, "SCMP_CMP_MASKED_EQ", 1, valueTwo=0x50), rule("sched_rr_get_interval", 3, "SCMP_CMP_LE"), rule("sched_get_priority_max", 90, "SCMP_CMP_GT"))
    cases = [(f"syscall {GETPGID} 1234567", True), (f"syscall {GETPGID} 0", False), ("syscall 124 0", False), ("syscall 124 77", True), ("syscall 145 4999999", False), ("syscall 145 5000000", True),
             ("syscall 143 0 9", True), ("syscall 143 0 10", False), (f"syscall {GETPRIORITY} 9 0x57", True), (f"syscall {GETPRIORITY} 9 0x67", False), ("syscall 148 3 0", True), ("syscall 148 4 0", False),
             ("syscall 146 91", True), ("syscall 146 90", False)]
    answers = container.ask(*[question for question, _ in cases])
    for (question, denied), answer in zip(cases, answers):
        assert (answer == {"failed": "EDOM"}) == denied, f"{question}: {answer}"


def test_several_conditions(container):
    """Conditions on different arguments must all hold; on the same argument, by the specification's implementations, one of them is enough."""
    conditions = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]
    allow_all_but(container, {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EDOM, "args": conditions},
                  {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EDOM, "args": [{"index": 0, "value": 111, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 222, "op": "SCMP_CMP_EQ"}]})
    both, one, first, second, other = container.ask(f"syscall {GETPRIORITY} 1 2", f"syscall {GETPRIORITY} 1 3", f"syscall {GETPGID} 111", f"syscall {GETPGID} 222", f"syscall {GETPGID} 0")
    assert both == {"failed": "EDOM"}
    assert one != {"failed": "EDOM"}
    assert first == second == {"failed": "EDOM"}
    assert other != {"failed": "EDOM"}


def test_log_and_flags(container):
    allow_all_but(container, {"names": ["getpriority"], "action": "SCMP_ACT_LOG"}, flags=["SECCOMP_FILTER_FLAG_LOG"])
    (answer,) = container.ask(f"syscall {GETPRIORITY} 0 0")
    assert "returned" in answer


def test_filter_holds_for_exec(container):
    allow_all_but(container, {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EDOM})
    container.spawn_sleeping()
    assert container.ask_exec(f"syscall {GETPRIORITY} 0 0") == [{"failed": "EDOM"}]


def test_without_no_new_privileges(container):
    """The filter is loaded before privileges are dropped, so it works for a user without no_new_privs too."""
    container.bundle.process["noNewPrivileges"] = False
    container.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    allow_all_but(container, {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EDOM})
    answer, security, ids = container.ask(f"syscall {GETPRIORITY} 0 0", "security", "ids")
    assert answer == {"failed": "EDOM"}
    assert (security["no_new_privs"], ids["uid"]) == (0, 1000)


@pytest.mark.runtimes("namespace", "microvm")
def test_filter_that_refuses_getcwd(container):
    """The runtime itself needs it, to see that the working directory is inside: that is what is said."""
    allow_all_but(container, {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"})
    container.bundle.process["noNewPrivileges"] = False  # the filter is loaded before the change of user
    outcome = container.run(check=False)
    assert not outcome.ok and "getcwd(2) failed (linux.seccomp must allow it): Operation not permitted" in outcome.stderr, outcome


def test_filter_older_than_faccessat2(container):
    """The filter is there when the program is looked for: one that knows only faccessat(2), as runtime-tools' default profile, stops nothing that execve(2) allows."""
    container.bundle.process["noNewPrivileges"] = False
    allow_all_but(container, {"names": ["faccessat2"], "action": "SCMP_ACT_ERRNO"})
    assert "returned" in container.ask(f"syscall {GETPPID}")[0]


@pytest.mark.parametrize("change, named", [
    ({"defaultAction": "SCMP_ACT_NONSENSE"}, "linux.seccomp.defaultAction"),
    ({"architectures": ["SCMP_ARCH_NONSENSE"]}, "linux.seccomp.architectures"),
    ({"syscalls": [{"names": ["getpid"], "action": "NOPE"}]}, "linux.seccomp.syscalls[0].action"),
    ({"syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]}]}, "linux.seccomp.syscalls[0].args[0].index"),
    ({"syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "EQUALS"}]}]}, "linux.seccomp.syscalls[0].args[0].op"),
    ({"flags": ["SECCOMP_FILTER_FLAG_NONSENSE"]}, "linux.seccomp.flags"),
])
def test_nonsense_is_refused(container, runtime, change, named):
    allow_all_but(container)
    container.bundle.linux["seccomp"].update(change)
    outcome = container.run(check=False)
    assert outcome.status != 0
    if runtime.is_caisson:
        assert named in outcome.stderr


# The notify action. Structures of linux/seccomp.h.
NOTIF_RECV = 0xC0502100
NOTIF_SEND = 0xC0182101
NOTIFICATION = struct.Struct("=QII iIQ6Q")  # id, pid, flags; data: nr, arch, instruction_pointer, args
RESPONSE = struct.Struct("=QqiI")  # id, val, error, flags


class Listener(threading.Thread):
    """A seccomp agent: takes the descriptor from listenerPath, answers every notification with a value."""

    def __init__(self, path, value):
        super().__init__(daemon=True)
        self.value, self.document, self.seen, self.failure = value, None, [], None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen(1)
        self.socket.settimeout(20)

    def run(self):
        try:
            connection, _ = self.socket.accept()
            message, fds, _, _ = socket.recv_fds(connection, 65536, 4)
            self.document = json.loads(message)
            self.descriptors = len(fds)
            buffer = array.array("B", bytes(NOTIFICATION.size))
            fcntl.ioctl(fds[0], NOTIF_RECV, buffer, True)
            fields = NOTIFICATION.unpack(buffer.tobytes())
            self.seen.append(fields[3])
            fcntl.ioctl(fds[0], NOTIF_SEND, RESPONSE.pack(fields[0], self.value, 0, 0))
            for fd in fds:
                os.close(fd)
            connection.close()
        except Exception as problem:  # shown by the test
            self.failure = problem
        finally:
            self.socket.close()


@pytest.mark.runtimes("runc", "crun", "namespace")
def test_notify(container, folder):
    path = folder / "listener"
    listener = Listener(path, 4242)
    listener.start()
    allow_all_but(container, {"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=str(path), listenerMetadata="about this container")
    (answer,) = container.ask(f"syscall {GETPRIORITY} 0 0")
    listener.join(20)
    assert listener.failure is None, listener.failure
    assert answer == {"returned": 4242}
    assert listener.seen == [GETPRIORITY]
    document = listener.document
    assert document["fds"] == ["seccompFd"] and listener.descriptors == 1
    assert document["metadata"] == "about this container"
    assert document["state"]["id"] == container.id
    assert document["state"]["bundle"] == str(container.bundle.path)
    assert document["pid"] > 0


@pytest.mark.runtimes("microvm", "appkernel")
def test_notify_is_refused_by_name(container, folder):
    """A listener on the host cannot serve a guest's kernel."""
    allow_all_but(container, {"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=str(folder / "listener"))
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert "linux.seccomp" in outcome.stderr


@pytest.mark.runtimes("runc", "crun", "namespace")
def test_notify_without_a_listener(container, folder):
    allow_all_but(container, {"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=str(folder / "nobody"))
    outcome = container.run(check=False)
    assert outcome.status != 0
