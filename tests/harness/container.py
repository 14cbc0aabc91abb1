"""A container of a bundle under a runtime, as tests use it."""

import json
import os
import pathlib
import shlex
import socket
import subprocess

from .waiting import wait_for, wait_for_exit


def words(question):
    return shlex.split(question) if isinstance(question, str) else [str(word) for word in question]


def question_args(questions):
    args = ["ask"]
    for index, question in enumerate(questions):
        args += ([";;"] if index else []) + words(question)
    return args


def error(answer):
    """The errno name of a failed answer, None of a successful one."""
    return answer.get("errno") if isinstance(answer, dict) and "call" in answer else None


class Container:
    def __init__(self, runtime, bundle, container_id):
        self.runtime, self.bundle, self.id = runtime, bundle, container_id
        self.stdout = bundle.path / "stdout"
        self.stderr = bundle.path / "stderr"
        self.pid_file = bundle.path / "pid"

    # One command each. args go before the container's id.
    def run(self, *args, check=True, **options):
        """`run`, not detached: Outcome with the container's output and status. Fails the test if the status is not 0, unless check is False."""
        self.bundle.write()
        return self.runtime.call("run", "--bundle", self.bundle.path, *args, self.id, check=check, **options)

    def create(self, *args, check=True, stdin=subprocess.DEVNULL, **options):
        """`create`; the container's output goes to the files .stdout and .stderr."""
        self.bundle.write()
        with open(self.stdout, "wb") as out, open(self.stderr, "wb") as err:
            outcome = self.runtime.call("create", "--bundle", self.bundle.path, "--pid-file", self.pid_file, *args, self.id, check=False,
                                        stdin=stdin, stdout=out, stderr=err, **options)
        outcome.stdout, outcome.stderr = self.output(), self.errors()
        if check:
            assert outcome.ok, f"failed: {outcome}"
        return outcome

    def start(self, check=True):
        return self.runtime.call("start", self.id, check=check)

    def spawn(self, *args):
        """create and start, and for testinit's `sleep` and its like wait until it says ready."""
        self.create(*args)
        self.start()
        return self

    def spawn_sleeping(self, *args):
        self.bundle.process["args"] = ["/testinit", "sleep"]
        self.spawn(*args)
        self.wait_output("ready")
        return self

    def exec(self, *args, flags=(), check=True, **options):
        return self.runtime.call("exec", *flags, self.id, *args, check=check, **options)

    def kill(self, *args, check=True):
        return self.runtime.call("kill", self.id, *args, check=check)

    def delete(self, *args, check=True):
        return self.runtime.call("delete", *args, self.id, check=check)

    def state(self):
        return self.runtime.state(self.id)

    def status(self):
        state = self.state()
        return state["status"] if state else None

    @property
    def pid(self):
        return int(self.pid_file.read_text())

    # What came out.
    def output(self):
        return self.stdout.read_text(errors="replace") if self.stdout.exists() else ""

    def errors(self):
        return self.stderr.read_text(errors="replace") if self.stderr.exists() else ""

    def wait_output(self, text, **options):
        return wait_for(lambda: text in self.output() and self.output(), f"{text!r} on the container's output, which is {self.output()!r}", **options)

    def wait_status(self, status="stopped", **options):
        return wait_for(lambda: self.status() == status, f"container status {status}, now {self.status()}", interval=0.05, **options)

    def wait_stopped(self):
        wait_for_exit(self.pid)
        self.wait_status()

    # Questions to testinit.
    def ask(self, *questions, **options):
        """Runs the container once; it answers all questions. A failed one is {"errno": name, "call": what}."""
        self.bundle.process["args"] = ["/testinit", *question_args(questions)]
        return json.loads(self.run(**options).stdout)

    def ask_exec(self, *questions, flags=(), **options):
        """The same in a running container, by exec."""
        return json.loads(self.exec("/testinit", *question_args(questions), flags=flags, **options).stdout)

    def cleanup(self):
        """Frees a container that the test has not deleted itself. Where the runtime has forgotten it, nothing is done, so that what is left shows."""
        if (self.runtime.root / self.id).exists():
            self.runtime.call("delete", "--force", self.id, check=False)


class ConsoleSocket:
    """Receives the terminal that a runtime sends to --console-socket."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder) / "console.sock"
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(1)
        self.listener.settimeout(30)

    def receive(self):
        """The terminal's master, a descriptor that the caller closes."""
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(30)
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        assert len(fds) == 1, "the console socket got no descriptor"
        os.set_inheritable(fds[0], False)
        return fds[0]

    def close(self):
        self.listener.close()
        self.path.unlink(missing_ok=True)
