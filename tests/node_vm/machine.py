"""A whole node in a virtual machine (QEMU's emulation): started once, then told what to run."""

import json
import os
import pathlib
import select
import socket
import subprocess
import time

from harness.runtime import Outcome

BOOT_DEADLINE = 300.0  # a minute where others use the processors, too
# As Caisson's own guests have it (src/microvm/qemu/command_line.cc): what a PC has and a node in a test has no use for costs time.
KERNEL_WORDS = ["console=ttyS0", "quiet", "panic=-1", "reboot=t", "cryptomgr.notests", "no_timer_check", "noreplace-smp", "8250.nr_uarts=1", "i8042.noaux", "i8042.nomux", "i8042.nopnp",
                "i8042.dumbkbd", "random.trust_cpu=on", "mitigations=off", "systemd.show_status=0", "systemd.unified_cgroup_hierarchy=1", "net.ifnames=0"]


def tsc_words():
    """The speed of this machine's counter, which an emulated kernel measures badly (it may hang), and that it is to be believed: else jiffies are the clock."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("cpu MHz"):
            return [f"tsc_early_khz={int(float(line.split(':')[1]) * 1000)}", "tsc=reliable"]
    return []


class Machine:
    """run(...) runs a command on the node. What is written to its disks is gone with it."""

    def __init__(self, program, image, payload, folder, memory_mib=3072, cpu="max,-erms,-fsrm"):
        """payload: an ext4 file, mounted by the node at /caisson; folder: for the socket and the console's log."""
        self.folder, self.console = folder, folder / "console.log"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(folder / "port"))
        self.listener.listen(1)
        drives = []
        for number, path in enumerate([image.root, payload]):
            drives += ["-drive", f"id=disk{number},file={path},format=raw,if=none,snapshot=on,cache=unsafe", "-device", f"virtio-blk-device,drive=disk{number}"]
        argv = [program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "microvm,x-option-roms=off,isa-serial=on,rtc=on,auto-kernel-cmdline=on",
                "-accel", "tcg,thread=multi,tb-size=512", "-cpu", cpu, "-smp", "2", "-m", f"{memory_mib}M", "-kernel", image.kernel, "-initrd", image.initrd,
                "-append", " ".join(KERNEL_WORDS + tsc_words()), "-serial", f"file:{self.console}",
                "-device", "virtio-serial-device,max_ports=2", "-chardev", f"socket,id=tests,path={folder / 'port'}", "-device", "virtserialport,nr=1,chardev=tests,name=tests",
                "-device", "virtio-rng-device", *drives]
        # Its temporary disks go where the tests' files go.
        self.process = subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(folder)})
        self.listener.settimeout(20)
        try:
            self.port, _ = self.listener.accept()
        except TimeoutError:
            self.process.kill()
            raise AssertionError(f"QEMU did not start: {self.process.stdout.read().decode(errors='replace')}") from None
        self.pending = b""
        began = time.monotonic()
        try:
            assert self._answer(BOOT_DEADLINE) == {"ready": True}
        except BaseException:
            self.stop()
            raise
        self.boot_seconds = time.monotonic() - began

    def _answer(self, deadline):
        end = time.monotonic() + deadline
        while b"\n" not in self.pending:
            readable, _, _ = select.select([self.port], [], [], max(end - time.monotonic(), 0))
            chunk = self.port.recv(1 << 20) if readable else b""
            assert chunk, f"the node {'has ended' if readable else f'does not answer within {deadline:.0f} s'}; its console ends: {self.console_tail()}"
            self.pending += chunk
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def console_tail(self, size=3000):
        return self.console.read_text(errors="replace")[-size:] if self.console.exists() else "(nothing)"

    def run(self, *argv, check=True, timeout=120, input="", env=None, cwd="/"):
        """Runs a program: Outcome. One string is a shell script. Fails where the status is not 0, unless check is False."""
        words = ["/bin/bash", "-c", argv[0]] if len(argv) == 1 and isinstance(argv[0], str) else list(map(str, argv))
        request = {"argv": words, "timeout": timeout, "input": input, "env": env or {}, "cwd": cwd}
        self.port.sendall(json.dumps(request).encode() + b"\n")
        answer = self._answer(timeout + 60)
        outcome = Outcome(words, answer["status"], answer["stdout"], answer["stderr"])
        assert answer["status"] is not None, f"not done within {timeout} s: {outcome}"
        assert not check or outcome.ok, f"failed: {outcome}"
        return outcome

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.port.close()
        self.listener.close()
