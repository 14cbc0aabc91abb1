"""One command line for all runtimes: runc and crun, which say what is right, and caisson with each isolation."""

import json
import os
import pathlib
import shutil
import subprocess

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
NAMES = ["runc", "crun", "namespace", "appkernel", "microvm"]
ORACLES = ["runc", "crun"]

# crun 1.8 refuses a hybrid cgroup layout; without the (nearly empty) v2 hierarchy it works.
HIDE_UNIFIED = ["unshare", "-m", "--", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "crun"]


def caisson_binary():
    """The caisson under test: $CAISSON_BIN, else the dev build's."""
    return os.environ.get("CAISSON_BIN", str(REPOSITORY / "build/dev/bin/caisson"))


def testinit_binary():
    """testinit: $CAISSON_TESTINIT, else the one beside caisson, else the dev build's."""
    candidates = [pathlib.Path(caisson_binary()).parent / "testinit", REPOSITORY / "build/dev/bin/testinit"]
    if "CAISSON_TESTINIT" in os.environ:
        candidates.insert(0, pathlib.Path(os.environ["CAISSON_TESTINIT"]))
    for candidate in candidates:
        if candidate.exists():
            return str(candidate)
    raise FileNotFoundError(f"testinit is in none of {[str(c) for c in candidates]}; build it with: ninja -C build/dev testinit")


class Outcome:
    """How a command ended: status, stdout and stderr (text, or bytes where asked for)."""

    def __init__(self, argv, status, stdout, stderr):
        self.argv, self.status, self.stdout, self.stderr = argv, status, stdout, stderr

    @property
    def ok(self):
        return self.status == 0

    def __repr__(self):
        def short(text):
            return text if len(text) < 4000 else text[:2000] + type(text)() + text[-2000:]
        return f"\n  $ {' '.join(map(str, self.argv))}\n  status {self.status}\n  stdout {short(self.stdout)!r}\n  stderr {short(self.stderr)!r}"


class Runtime:
    """A runtime with a --root of its own."""

    def __init__(self, name, folder):
        self.name = name
        self.root = pathlib.Path(folder) / f"root-{name}"
        self.is_caisson = name in ("namespace", "appkernel", "microvm")
        self.is_vm = name == "microvm"
        self.globals = []  # further global options
        self.env = {}
        if self.is_vm:
            # The tests share the machine's CPUs with others: a slow boot is not what they look for.
            config = pathlib.Path(folder) / "microvm.toml"
            config.write_text("[microvm]\nboot_timeout_seconds = 240\nagent_timeout_seconds = 60\n")
            self.globals = ["--config", str(config)]

    @property
    def argv(self):
        own = ["--root", str(self.root), *self.globals]
        if self.is_caisson:
            return [caisson_binary(), *own, "--isolation", self.name]
        if self.name == "crun":
            prefix = HIDE_UNIFIED if os.path.exists("/sys/fs/cgroup/unified") else []
            return [*prefix, "crun", *own]
        return [shutil.which(self.name) or self.name, *own]

    def call(self, *args, check=True, text=True, timeout=300, stdin=subprocess.DEVNULL, input=None, cwd=None, fd3=None, **options):
        """Runs the runtime with args and returns its Outcome; fails the test when it fails, unless check is False. fd3: a descriptor of ours that it
        gets as its descriptor 3."""
        argv = [*self.argv, *map(str, args)]
        if fd3 is not None:
            argv = ["bash", "-c", f'exec 3<&{fd3} {fd3}<&-; exec "$@"' if fd3 != 3 else 'exec "$@"', "sh", *argv]
            options["pass_fds"] = (fd3,)
        if input is not None:
            stdin = None
            options["input"] = input
        done = subprocess.run(argv, text=text, timeout=timeout, stdin=stdin, cwd=cwd, env={**os.environ, **self.env},
                              stdout=options.pop("stdout", subprocess.PIPE), stderr=options.pop("stderr", subprocess.PIPE), **options)
        outcome = Outcome(argv, done.returncode, done.stdout, done.stderr)
        if check:
            assert outcome.ok, f"failed: {outcome}"
        return outcome

    def popen(self, *args, **options):
        """Starts the runtime with args; the caller waits for it."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([*self.argv, *map(str, args)], env={**os.environ, **self.env}, **options)

    def state(self, container_id):
        """The state document, None where there is no such container."""
        outcome = self.call("state", container_id, check=False)
        return json.loads(outcome.stdout) if outcome.ok else None
