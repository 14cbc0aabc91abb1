"""Package tools, and what shows the state of a system."""

import re

import pytest

pytestmark = pytest.mark.timeout(600)


def test_apt(machine):
    script = r"""
mkdir -p /repo /tmp/p/DEBIAN /tmp/p/usr/bin; printf '#!/bin/sh\necho hello from a package\n' >/tmp/p/usr/bin/caisson-hello; chmod 755 /tmp/p/usr/bin/caisson-hello
printf 'Package: caisson-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: test\n' >/tmp/p/DEBIAN/control
printf '#!/bin/sh\nset -e\nuseradd --system caisson-hello\ntouch /var/lib/caisson-hello\n' >/tmp/p/DEBIAN/postinst; chmod 755 /tmp/p/DEBIAN/postinst
dpkg-deb --root-owner-group -b /tmp/p /repo/caisson-hello.deb >/dev/null
cd /repo; { dpkg-deb -f caisson-hello.deb; echo "Filename: ./caisson-hello.deb"; echo "Size: $(stat -c %s caisson-hello.deb)"; echo "SHA256: $(sha256sum caisson-hello.deb | cut -d' ' -f1)"; echo; } >Packages
echo "deb [trusted=yes] file:/repo ./" >/tmp/list
apt() { apt-get -q -y -o Dir::Etc::sourcelist=/tmp/list -o Dir::Etc::sourceparts=/nonexistent "$@" >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }; }
apt update; apt install caisson-hello; caisson-hello; ls /var/lib/caisson-hello; id -un caisson-hello; dpkg -V caisson-hello; dpkg -s caisson-hello | grep Status; dpkg --audit
apt purge caisson-hello; test -e /usr/bin/caisson-hello || echo gone
"""
    assert machine.lines(script, timeout=120) == ["hello from a package", "/var/lib/caisson-hello", "caisson-hello", "Status: install ok installed", "gone"]


def test_processes(machine):
    script = r"""
sleep 1000 & sleeper=$!; python3 -c 'import threading, time
[threading.Thread(target=time.sleep, args=(1000,), daemon=True).start() for _ in range(3)]
print("ready", flush=True); time.sleep(1000)' >/tmp/ready & threads=$!; until grep -q ready /tmp/ready; do sleep 0.02; done
ps -o pid=,ppid=,stat=,args= -p $sleeper | awk '{print $1 == '$sleeper', $2 == '$$', substr($3, 1, 1), $4, $5}'
ps -eLf | awk '$2 == '$threads' {n++} END {print n}'; ps aux | awk '$11 == "sleep" {print $1, $12, ($6 > 0)}'
top -b -n1 -p $sleeper | awk '/ sleep$/ {print $NF, $2}'; pgrep -x sleep | wc -l; pidof sleep | wc -w
free -b | awk '/Mem/ {print ($2 > 0 && $7 > 0)}'; uptime -p | grep -c up; vmstat | wc -l; w -h | wc -l; pmap $sleeper | grep -c 'sleep'; ps -o wchan= -p $sleeper | wc -l
kill $sleeper $threads; wait $sleeper || echo $?; pstree -p 2>/dev/null | wc -l | awk '{print ($1 >= 0)}'; cat /proc/loadavg | wc -w; lscpu | grep -c '^CPU(s)'; lsblk >/dev/null 2>&1; findmnt -n -o FSTYPE /proc
"""
    lines = machine.lines(script)
    assert lines[:5] == ["1 1 S sleep 1000", "4", "root 1000 1", "sleep root", "1"]
    assert lines[5:8] == ["1", "1", "1"]
    assert re.fullmatch(r"[1-9]\d*", lines[10]), lines
    assert lines[12:] == ["143", "1", "5", "1", "proc"], lines


def test_network(machine):
    script = r"""
ip -o addr show lo | awk '{print $2, $3, $4}'; ip -j link show lo | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["ifname"])'; ip route | wc -l; ip -6 route show table local | grep -c ::1
python3 -m http.server -b 127.0.0.1 8123 >/dev/null 2>&1 & until ss -Hltn | grep -q 8123; do sleep 0.02; done
ss -Hltnp 'sport = 8123' | awk '{print $1, $4}'; python3 -c 'import urllib.request; print(urllib.request.urlopen("http://localhost:8123/").status)'
ss -s | grep -c TCP; ss -Hxl | wc -l | awk '{print ($1 >= 0)}'; getent hosts localhost | grep -c localhost; hostname; kill %1; cat /proc/net/dev | grep -c lo:
"""
    assert machine.lines(script) == ["lo inet 127.0.0.1/8", "lo inet6 ::1/128", "lo", "0", "1", "LISTEN 127.0.0.1:8123", "200", "2", "1", "1", "caisson-test", "1"]


def test_gdb(machine):
    """A program with a second thread crashes in a recursion; before, it is stopped, stepped and changed."""
    commands = ["set disable-randomization off", "break depth", "run", "info threads", "stepi", "next", "p n", "p $_siginfo.si_signo", "delete", "set var n = 1",
                "continue", "bt", "p $_siginfo._sifields._sigfault.si_addr", "kill"]
    words = " ".join(f"-ex '{command}'" for command in commands)
    text = machine.run(f"cd /tmp; gcc -g -O0 -pthread -o crash /w/crash.c; gdb -q -batch {words} ./crash 2>&1 </dev/null").stdout
    assert "hit Breakpoint 1, depth (n=3, p=0x0)" in text, text
    assert "$1 = 3" in text and "$2 = 5" in text, text
    assert len(re.findall(r"^[ *] +\d+ +Thread 0x", text, re.M)) == 2, text
    assert "received signal SIGSEGV" in text, text
    assert re.search(r"#0 .* in depth \(n=0, p=0x0\).*#1 .* in depth \(n=1, p=0x0\).*#2 .* in main", text, re.S), text
    assert re.search(r"= \(void \*\) 0x0", text), text


def test_gdb_watches(machine):
    """Watchpoints and breakpoints of the processor."""
    source = "int counter, other; int twice(int n) { return 2 * n; } int main(void) { other = 1; counter = 3; other = 2; counter = twice(counter); return 0; }"
    commands = ["set disable-randomization off", "break main", "run", "watch counter", "hbreak twice", "continue", "continue", "continue", "continue"]
    words = " ".join(f"-ex '{command}'" for command in commands)
    text = machine.run(f"cd /tmp; echo '{source}' >watched.c; gcc -g -O0 -o watched watched.c; gdb -q -batch {words} ./watched 2>&1 </dev/null").stdout
    assert re.search(r"Hardware watchpoint 2: counter\s+Old value = 0\s+New value = 3\s.*Breakpoint 3, twice \(n=3\)"
                     r".*Hardware watchpoint 2: counter\s+Old value = 3\s+New value = 6\s", text, re.S), text
    assert "exited normally" in text, text


def test_strace(machine):
    script = r"""
echo some text >/tmp/text; strace -f -o /tmp/log sh -c 'cat /tmp/text; kill -USR1 $$' >/dev/null 2>&1 || true
grep -c 'execve("/usr/bin/cat", \["cat", "/tmp/text"\]' /tmp/log; grep -o 'read([0-9], "some text.*' /tmp/log | sed 's/.*"\(.*\)\\n".*/\1/'; grep -c 'exited with 0' /tmp/log
grep -E -c -- '--- SIG(CHLD|USR1) ' /tmp/log; tail -n 1 /tmp/log | sed 's/^[0-9]* *//'; grep -E -c '<unavailable>|\?\?\?' /tmp/log || true
strace -c -f ls / 2>&1 | grep -c '100.00'
sleep 100 & strace -o /tmp/log2 -p $! & until grep -q . /tmp/log2 2>/dev/null; do sleep 0.02; done; kill %1; wait; grep -c 'SIGTERM' /tmp/log2
cp /usr/bin/id /tmp/who; chmod u+s /tmp/who; su nobody -s /bin/sh -c '/tmp/who -u; strace -o /dev/null /tmp/who -u'
python3 - <<X
import subprocess
out = subprocess.run(["strace", "-f", "-e", "trace=futex,clone3,exit", "python3", "-c", "import threading\nl=threading.Lock()\nts=[threading.Thread(target=lambda: [l.acquire() and l.release() for _ in range(50)]) for _ in range(4)]\n[t.start() for t in ts]; [t.join() for t in ts]; print(len(ts))"], capture_output=True, text=True)
print(out.stdout.strip(), out.returncode, out.stderr.count("clone3("))
X
"""
    lines = machine.lines(script)
    assert lines[:6] == ["1", "some text", "1", "2", "+++ killed by SIGUSR1 +++", "0"], lines
    assert lines[6:] == ["1", "2", "0", "65534", "4 0 4"], lines
