"""stress-ng: what each of its stressors finds right or wrong by itself (--verify), natively, then under the application kernel. Each does so many
operations, not so many seconds, so that nothing here depends on how fast the machine is."""

import re

import pytest

from harness.debian import suite_folders

pytestmark = pytest.mark.timeout(300)

# Stressor and how many operations; one after the other.
GROUPS = {
    "files": "access:60 chmod:40 chown:100 close:300 copy-file:4 dentry:200 dup:30 fallocate:1 fcntl:300 file-ioctl:400 flock:2000 fsize:6 fstat:10 full:800 "
             "getdent:300 lockf:500 lockofd:500 mknod:300 null:1000 open:200 readahead:400 rename:1000 seek:1500 sendfile:100 touch:300 "
             "utime:50 xattr:4 zero:200",
    "memory": "bigheap:300 brk:4000 fault:200 malloc:2000 mincore:2 mlock:400 mmapaddr:80 mmapmany:500 mprotect:4000 mremap:1 msync:20 munmap:300 "
              "pagemove:1 rmap:6 seal:500 shm:10 shm-sysv:20 stack:1 stackmmap:2 tlb-shootdown:20 vm-rw:10 vm-segv:12 vm-splice:500",
    "processes": "affinity:500 cap:800 clone:20 daemon:60 exit-group:16 fork:40 get:30 kcmp:300 kill:400 nice:12 pidfd:80 prctl:14 ptrace:1000 rlimit:100 schedpolicy:600 "
                 "session:30 set:100 switch:4000 sysinfo:400 unshare:2 vfork:400 wait:80 zombie:100",
    "signals": "alarm:600 bad-altstack:60 clock:200 fp-error:4000 hrtimers:1000 membarrier:3 nanosleep:200 priv-instr:1500 sigabrt:100 sigchld:150 "
               "sigfd:2000 sigfpe:1000 signal:1500 signest:3000 sigpending:800 sigpipe:400 sigq:1500 sigrt:1000 sigsegv:1000 sigsuspend:1000 sigtrap:1200 "
               "timer:100",
    "ipc": "aio:300 aiol:200 epoll:100 eventfd:800 fifo:1000 futex:3000 inotify:1 memfd:1 msg:2000 mutex:800 netdev:800 pipe:4000 "
           "poll:300 pty:1 ring-pipe:2000 sem-sysv:4000 sock:2 sockpair:1000 sockmany:200 splice:300 tee:150 udp:1000",
}


@pytest.fixture(scope="module")
def tree():
    return suite_folders()


@pytest.mark.parametrize("group", GROUPS)
def test_stressors(machine, group):
    wanted = dict(entry.split(":") for entry in GROUPS[group].split())
    job = ["run sequential", "verify", "metrics", "temp-path /tmp", "timeout 20"]
    (machine.folder / "job").write_text("\n".join(job + [f"{name} 1\n{name}-ops {count}" for name, count in wanted.items()]) + "\n")
    text = machine.run("cd /tmp; stress-ng --job /w/job 2>&1; echo status=$?", timeout=200, check=False).stdout
    assert "status=0" in text, text[-4000:]
    assert not re.findall(r"^stress-ng: fail:.*", text, re.M), text
    done = {name: int(count) for name, count in re.findall(r"^stress-ng: metrc: \[\d+\] (\S+) +(\d+) ", text, re.M)}
    assert not (idle := [name for name in wanted if done.get(name, 0) == 0]), f"{idle} did nothing: {text}"
