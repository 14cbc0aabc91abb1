"""Runs on the node: takes commands from a virtio port, one line of JSON each, and answers each with one line."""

import json
import os
import subprocess
import traceback

PORT = "/dev/virtio-ports/tests"


def perform(request):
    options = {"cwd": request.get("cwd"), "env": {**os.environ, **request.get("env", {})}, "timeout": request["timeout"]}
    try:
        done = subprocess.run(request["argv"], input=request.get("input", "").encode("utf-8", "surrogateescape"), capture_output=True, start_new_session=True, check=False, **options)
    except subprocess.TimeoutExpired as error:
        return {"status": None, "stdout": text(error.stdout), "stderr": text(error.stderr)}
    return {"status": done.returncode, "stdout": text(done.stdout), "stderr": text(done.stderr)}


def text(data):
    return (data or b"").decode("utf-8", "replace")


def main():
    os.environ.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    os.environ.setdefault("HOME", "/root")
    while not os.path.exists(PORT):
        subprocess.run(["udevadm", "settle", "--timeout=10", f"--exit-if-exists={PORT}"], check=False)
    port = os.open(PORT, os.O_RDWR | os.O_CLOEXEC)
    with os.fdopen(port, "rb", buffering=0, closefd=False) as reader, os.fdopen(port, "wb", buffering=0) as writer:
        send(writer, {"ready": True})
        pending = b""
        while True:
            pending += reader.read(65536)
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                try:
                    answer = perform(json.loads(line))
                except Exception:  # the tests are to see it, whatever it is
                    answer = {"status": None, "stdout": "", "stderr": traceback.format_exc()}
                send(writer, answer)


def send(writer, answer):
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[writer.write(data):]


if __name__ == "__main__":
    main()
