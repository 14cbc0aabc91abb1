"""process.terminal and consoleSize; console sockets; run and exec on a terminal of our own."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios

import pytest

from harness.container import question_args
from harness.waiting import Expect, read_to_end


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def last_json(data):
    return json.loads(data.decode().strip().splitlines()[-1])


def test_console_socket(container, console):
    """create sends the terminal's master; the process has the other end as its controlling terminal and on all streams."""
    container.bundle.process["terminal"] = True
    container.bundle.process["consoleSize"] = {"height": 33, "width": 77}
    container.bundle.process["args"] = ["/testinit", *question_args(["tty", "stat /dev/console", "pids", "fds"])]
    container.create("--console-socket", console.path)
    master = console.receive()
    try:
        container.start()
        tty, node, pids, fds = last_json(read_to_end(master))
    finally:
        os.close(master)
    for stream in tty["streams"]:
        assert stream["isatty"] and (stream["rows"], stream["columns"]) == (33, 77)
        assert stream["name"].startswith("/dev/pts/") or stream["name"] == "/dev/console"
    assert tty["controlling"] and tty["foreground"] == pids["pgid"]
    assert (node["type"], node["mode"] & 0o600) == ("char", 0o600)
    assert [entry["fd"] for entry in fds] == [0, 1, 2]
    container.wait_stopped()
    container.delete()


def test_terminal_belongs_to_the_user(container, console):
    container.bundle.process["terminal"] = True
    container.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    container.bundle.process["args"] = ["/testinit", *question_args(["tty", "open /dev/tty rw"])]
    container.create("--console-socket", console.path)
    master = console.receive()
    try:
        container.start()
        tty, opened = last_json(read_to_end(master))
    finally:
        os.close(master)
    assert tty["streams"][0]["uid"] == 1000
    assert opened is True
    container.wait_stopped()


def test_talk_resize_and_interrupt(container, console):
    container.bundle.process["terminal"] = True
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create("--console-socket", console.path)
    master = console.receive()
    expect = Expect(master)
    try:
        set_size(master, 10, 20)
        container.start()
        expect(b"ready\r\n")
        set_size(master, 50, 132)
        expect(b"size 50 132\r\n")
        os.write(master, b"\x03")  # the terminal makes it SIGINT
        _, status = os.waitpid(container.pid, 0)
        assert os.WEXITSTATUS(status) == signal.SIGINT
    finally:
        os.close(master)
    container.wait_status()


def test_hang_up(container, console):
    """When the terminal's master closes, the session's leader gets SIGHUP."""
    container.bundle.process["terminal"] = True
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.create("--console-socket", console.path)
    master = console.receive()
    expect = Expect(master)
    container.start()
    expect(b"ready\r\n")
    os.close(master)
    _, status = os.waitpid(container.pid, 0)
    assert os.WEXITSTATUS(status) == signal.SIGHUP


class OwnTerminal:
    """Runs a command on a terminal of ours, as a person would."""

    def __init__(self, argv, env, rows=24, columns=80):
        self.master, slave = pty.openpty()
        set_size(self.master, rows, columns)
        self.expect = Expect(self.master)
        self.before = termios.tcgetattr(slave)
        self.slave = slave

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, preexec_fn=take_terminal)

    def close(self):
        self.process.kill()
        self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def on_terminal(runtime):
    made = []

    def start(*args, **size):
        made.append(OwnTerminal([*runtime.argv, *map(str, args)], {**os.environ, **runtime.env}, **size))
        return made[-1]
    yield start
    for terminal in made:
        terminal.close()


def size_arrives(terminal, runtime, rows, columns):
    """The program inside says "sized" when the size has arrived. runc and crun lose the first one when the process is quick, so they get it again."""
    terminal.expect(b"begin")
    if not runtime.is_caisson:
        set_size(terminal.master, rows - 1, columns)
        set_size(terminal.master, rows, columns)
    terminal.expect(b"sized")


def wait_for_size(rows, columns):
    return f"until [ \"$(stty size 2>/dev/null)\" = '{rows} {columns}' ]; do :; done; "


def test_run_on_our_terminal(container, on_terminal):
    """run passes bytes both ways, the size and its changes, and leaves the terminal as it was."""
    container.bundle.process["terminal"] = True
    container.bundle.add_busybox()
    container.bundle.process["args"] = ["/bin/sh", "-c", f"echo begin; {wait_for_size(31, 91)} echo sized; read line; echo \"got <$line>\"; {wait_for_size(41, 101)} echo resized; read again; exit 9"]
    container.bundle.write()
    terminal = on_terminal("run", "--bundle", container.bundle.path, container.id, rows=31, columns=91)
    size_arrives(terminal, container.runtime, 31, 91)
    os.write(terminal.master, b"a word\n")
    terminal.expect(b"got <a word>")
    set_size(terminal.master, 41, 101)
    terminal.expect(b"resized")
    os.write(terminal.master, b"\n")
    assert terminal.process.wait(30) == 9
    assert termios.tcgetattr(terminal.slave)[:4] == terminal.before[:4], "the terminal's settings are restored"


def test_interrupt_on_our_terminal(container, on_terminal):
    """Ctrl-C goes to the container's process, not to the runtime."""
    container.bundle.process["terminal"] = True
    container.bundle.process["args"] = ["/testinit", "sleep"]
    container.bundle.write()
    terminal = on_terminal("run", "--bundle", container.bundle.path, container.id)
    terminal.expect(b"ready")
    os.write(terminal.master, b"\x03")
    assert terminal.process.wait(30) == 2


def test_exec_on_our_terminal(container, on_terminal):
    container.bundle.add_busybox()
    container.spawn_sleeping()
    terminal = on_terminal("exec", "--tty", container.id, "/bin/sh", "-c", f"echo begin; {wait_for_size(20, 60)} echo sized; read line; echo \"<$line>\"; exit 11", rows=20, columns=60)
    size_arrives(terminal, container.runtime, 20, 60)
    os.write(terminal.master, b"typed\n")
    terminal.expect(b"<typed>")
    assert terminal.process.wait(30) == 11


def test_exec_with_console_socket(container, console, folder):
    """As conmon does it: exec --process with terminal, detached, console socket and pid file."""
    container.spawn_sleeping()
    document = {"terminal": True, "consoleSize": {"height": 12, "width": 34}, "args": ["/testinit", "sleep"], "cwd": "/", "env": ["PATH=/"], "user": {"uid": 0, "gid": 0}}
    (folder / "process").write_text(json.dumps(document))
    container.runtime.call("exec", "--process", folder / "process", "--console-socket", console.path, "--detach", "--pid-file", folder / "exec.pid", container.id,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    master = console.receive()
    expect = Expect(master)
    try:
        expect(b"ready\r\n")
        set_size(master, 44, 55)
        expect(b"size 44 55\r\n")
        os.write(master, b"\x1c")  # ctrl-backslash: SIGQUIT
        pid = int((folder / "exec.pid").read_text())
        _, status = os.waitpid(pid, 0)
        assert os.WEXITSTATUS(status) == signal.SIGQUIT
    finally:
        os.close(master)
    assert container.status() == "running"


def test_missing_console_socket(container):
    """A terminal needs somewhere to go."""
    container.bundle.process["terminal"] = True
    outcome = container.create(check=False)
    assert outcome.status != 0
    assert "console" in outcome.stderr


def test_console_socket_without_terminal(container, console):
    outcome = container.create("--console-socket", console.path, check=False)
    assert outcome.status != 0
    assert "console" in outcome.stderr


def test_console_socket_that_nobody_serves(container, folder):
    container.bundle.process["terminal"] = True
    outcome = container.create("--console-socket", folder / "nobody.sock", check=False)
    assert outcome.status != 0
    assert container.state() is None
