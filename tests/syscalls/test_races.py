"""Calls that race with each other (tests/guest/races): the application kernel lives through them. `./test tsan` runs this under ThreadSanitizer."""

import json
import os
import pathlib
import subprocess

from harness.runtime import caisson_binary

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("CAISSON_SYSCALL_TESTS", pathlib.Path(caisson_binary()).parent))
SECONDS = os.environ.get("CAISSON_RACES_SECONDS", "4")
PYTHON = "/usr/bin/python3"


def test_races(scratch):
    folder = scratch / "races"
    folder.mkdir()
    program = [PYTHON, ROOT / "tests/guest/races/races.py", SECONDS, folder]
    natively = subprocess.run(program, capture_output=True, text=True, timeout=20, check=False)
    assert natively.returncode != 0 and "only" in natively.stderr
    done = subprocess.run([PROGRAMS / "kernel_run", *program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120 + float(SECONDS), check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    counts = json.loads(done.stdout.splitlines()[-1])
    assert all(count > 0 for count in counts.values()), counts
    assert "kernel: error" not in done.stderr, done.stderr[-3000:]
