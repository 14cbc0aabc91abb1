"""The sides of a comparison: one class each, with the command lines they take."""

import os
import shutil
import subprocess
import time

from . import memory

ENDED_BY_US = 120  # seconds; longer than any one container here takes, also under emulation


class Peer:
    """A runtime: run() in the foreground, start() and stop() in the background. `problem` says why it cannot take part."""

    def __init__(self, name, program, state, options=(), detach="--detach"):
        self.name, self.program, self.state, self.options, self.detach = name, program, state, list(options), detach
        self.problem = None
        self.count = 0

    def command(self, *arguments):
        return [self.program, "--root", self.state, *self.options, *arguments]

    def new_id(self):
        self.count += 1
        return f"bench-{os.getpid()}-{self.name.replace(' ', '-')}-{self.count}"

    def run(self, bundle, stdout=subprocess.DEVNULL, timeout=ENDED_BY_US):
        """Runs the bundle's container to its end. Raises on failure, with what the runtime said."""
        container = self.new_id()
        done = subprocess.run(self.command("run", "--bundle", bundle, container), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                              timeout=timeout, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: status {done.returncode}: {last_line(done.stderr)}")
        return done

    def popen(self, bundle, stdout):
        return subprocess.Popen(self.command("run", "--bundle", bundle, self.new_id()), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.DEVNULL)

    def start(self, bundle):
        container = self.new_id()
        done = subprocess.run(self.command("run", self.detach, "--bundle", bundle, container), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=ENDED_BY_US, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: run {self.detach}: status {done.returncode}")
        return container

    def stop(self, container):
        """Some wait until the sandbox's processes have gone, which became our children: they are reaped meanwhile."""
        process = subprocess.Popen(self.command("delete", "--force", container), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + ENDED_BY_US
        while process.poll() is None:
            if time.monotonic() > until:
                process.kill()
                process.wait()
                raise RuntimeError(f"{self.name}: delete --force did not end within {ENDED_BY_US} s")
            memory.reap(but=process.pid)
            time.sleep(0.05)

    def probe(self, bundle):
        """Runs one container to find out whether this side can take part."""
        if self.problem:
            return
        try:
            self.run(bundle)
        except subprocess.TimeoutExpired:
            self.problem = f"did not end within {ENDED_BY_US} s"
        except (RuntimeError, OSError) as error:
            self.problem = str(error)


def last_line(text):
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def missing(name, reason):
    peer = Peer(name, "", "")
    peer.problem = reason
    return peer


def find(name, program, state, options=(), remedy=""):
    path = program if os.path.sep in program else shutil.which(program)
    if not path or not os.access(path, os.X_OK):
        return missing(name, f"{program} is not there{remedy}")
    return Peer(name, os.path.abspath(path), state, options)


def guest_config(folder, guest, settings):
    """A configuration for one guest image; everything that settings (lines of TOML) do not say is the default."""
    path = os.path.join(folder, f"{guest}.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(["[microvm]", f'guest = "{guest}"', *settings, ""]))
    return path


def all_peers(binaries, work, settings):
    """Every side that bench/run knows, the reference first."""
    caisson = os.path.join(binaries, "caisson")
    build = f" (build it: cmake --preset release && ninja -C {os.path.dirname(binaries)})"
    peers = [
        find("crun", "crun", f"{work}/state/crun", remedy=" (apt-get install crun)"),
        find("runc", "runc", f"{work}/state/runc", remedy=" (apt-get install runc)"),
        find("caisson namespace", caisson, f"{work}/state/namespace", ["--isolation", "namespace"], build),
        find("caisson appkernel", caisson, f"{work}/state/appkernel", ["--isolation", "appkernel"], build),
        find("runsc", "runsc", f"{work}/state/runsc", ["--platform=systrap", "--network=none", "--ignore-cgroups"],
             " (CGO_ENABLED=0 GOBIN=/usr/local/bin go install gvisor.dev/gvisor/runsc@go)"),
    ]
    for guest in ("stock", "tuned"):
        options = ["--isolation", "microvm", "--config", guest_config(work, guest, settings)]
        peers.append(find(f"caisson microvm {guest}", caisson, f"{work}/state/microvm-{guest}", options, build))
    return peers
