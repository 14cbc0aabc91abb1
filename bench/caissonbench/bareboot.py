"""A micro-VM's cold start beside a bare boot: the same QEMU, machine, kernel, command line and initramfs, without Caisson around it and without a share.

Both are timed from the exec of the first program to the agent's first bytes on its port: the guest is then ready to run the first container. For Caisson that
moment is taken from its sandbox process's log (`caisson --debug`).
"""

import datetime
import os
import re
import select
import shutil
import socket
import subprocess
import time

from . import memory
from .samples import Samples

BARE, READY, CREATED = "bare qemu", "caisson, guest ready", "caisson create"
BOOT_SECONDS = 60
DROPPED = ("-sandbox", "-qmp", "-mon")


def qemu_of(pids):
    for pid in pids:
        try:
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("qemu-system"):
                return pid
        except OSError:
            pass
    return None


def words_of(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return [word.decode() for word in file.read().split(b"\0")[:-1]]


class BareQemu:
    """QEMU as a running sandbox has it, but for what only Caisson needs. Kernel and initramfs are copied out of its jail."""

    def __init__(self, pid, folder):
        self.program = os.readlink(f"/proc/{pid}/exe")
        self.words = []
        words = words_of(pid)[1:]
        share = {word.split("id=")[1].split(",")[0] for word in words if word.startswith("socket,id=share") or word.startswith("local,id=share")}
        index = 0
        while index < len(words):
            word = words[index]
            value = words[index + 1] if index + 1 < len(words) else ""
            takes_value = word.startswith("-") and not value.startswith("-")
            if not (word in DROPPED or any(f"chardev={name}," in value or f"fsdev={name}," in value or f"id={name}," in value for name in share)):
                self.words.append(word)
                if takes_value:
                    self.words.append(self.copied(pid, word, value, folder))
            index += 2 if takes_value else 1

    @staticmethod
    def copied(pid, option, value, folder):
        if option not in ("-kernel", "-initrd"):
            return value
        source = f"/proc/{pid}/fd/{value.rpartition('/')[2]}" if value.startswith(("/proc/self/fd/", "/dev/fd/")) else f"/proc/{pid}/root{value}"
        copy = os.path.join(folder, option[1:])
        shutil.copyfile(source, copy)
        return copy

    def boot(self):
        """Seconds from exec to the agent's first bytes."""
        ours, theirs, words = {}, [], []
        for word in self.words:
            found = re.match(r"socket,id=(\w+),fd=\d+", word)
            if found:
                left, right = socket.socketpair()
                ours[found[1]] = left
                theirs.append(right)
                word = f"socket,id={found[1]},fd={right.fileno()}"
            words.append(word)
        began = time.perf_counter()
        process = subprocess.Popen([self.program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   pass_fds=[end.fileno() for end in theirs])
        try:
            for end in theirs:
                end.close()
            self.await_agent(ours, process, began)
            return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
            for end in ours.values():
                end.close()

    @staticmethod
    def await_agent(ours, process, began):
        agent = ours["agent"]
        others = [end for name, end in ours.items() if name != "agent"]
        while True:
            left = BOOT_SECONDS - (time.perf_counter() - began)
            readable, _, _ = select.select([agent, *others], [], [], max(left, 0))
            if agent in readable and agent.recv(64):
                return
            if not readable or process.poll() is not None:
                raise RuntimeError(f"the bare guest did not come up: {process.stderr.read(300) if process.poll() is not None else 'no word from the agent'}")
            for end in readable:
                if end is not agent and not end.recv(65536):
                    others.remove(end)  # the console or QMP was closed


def ready_at(log):
    """When the sandbox says that its guest was ready, as seconds since the epoch (to the millisecond); None where it does not."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            found = re.search(r'time="([0-9T:.-]+)Z"[^\n]*guest [^ ]+ ready', file.read())
    except FileNotFoundError:
        return None
    return datetime.datetime.fromisoformat(found[1] + "+00:00").timestamp() if found else None


def measure_guest(context, peer, guest):
    """Rows for one guest image. Starts a sandbox to learn QEMU's command line, then boots both sides by turns."""
    path = context.bundle("sleep", ["/bin/sleep", "1000"])
    folder = os.path.join(context.work, f"boot-{guest}")
    os.makedirs(folder, exist_ok=True)
    container = peer.start(path)
    try:
        pid = qemu_of(memory.descendants(os.getpid()))
        if pid is None:
            raise RuntimeError("no QEMU process was found below the sandbox")
        bare = BareQemu(pid, folder)
    finally:
        peer.stop(container)
        memory.reap()
    row = Samples("boot", f"{guest}: to a guest that is ready to run the first container", "s", BARE)

    class Side:
        def __init__(self, name):
            self.name = name

    def once(side):
        if side.name == BARE:
            row.add(BARE, bare.boot())
            return
        container = peer.new_id()
        epoch, began = time.time(), time.perf_counter()
        try:
            done = subprocess.run(peer.command("--debug", "create", "--bundle", path, container), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, timeout=120, check=False)
            seconds = time.perf_counter() - began
            ready = ready_at(os.path.join(peer.state, container, "sandbox.log"))
        finally:
            peer.stop(container)
            memory.reap()
        if done.returncode != 0 or ready is None:
            raise RuntimeError(f"create: status {done.returncode}, {'no' if ready is None else 'a'} ready guest in the log")
        row.add(READY, ready - epoch)
        row.add(CREATED, seconds)

    context.each_round(f"boot {guest}", [Side(BARE), Side(CREATED)], context.rounds, once)
    return [row]


def measure(context, _binaries):
    rows, skipped = [], {}
    for guest in ("stock", "tuned"):
        peer = next((peer for peer in context.peers if peer.name == f"caisson microvm {guest}"), None)
        if peer is None:
            continue
        try:
            rows += measure_guest(context, peer, guest)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            skipped[f"bare boot ({guest})"] = str(error)
    return rows, skipped
