"""Waiting for conditions, with a deadline. Nothing in the tests sleeps to synchronise."""

import os
import select
import time

DEADLINE = 30.0


def wait_for(condition, what, deadline=DEADLINE, interval=0.01):
    """Calls condition until it returns something true, and returns that. Fails with `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline:.0f} s still waiting for {what}")
        time.sleep(interval)


def wait_for_exit(pid, deadline=DEADLINE):
    """Waits until process pid (not necessarily ours) has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(deadline * 1000), f"process {pid} has not ended after {deadline:.0f} s"
    finally:
        os.close(pidfd)


def read_until(fd, wanted, deadline=DEADLINE):
    """Reads from fd until the bytes `wanted` have appeared; returns everything read."""
    end = time.monotonic() + deadline
    data = b""
    while wanted not in data:
        left = end - time.monotonic()
        readable, _, _ = select.select([fd], [], [], max(left, 0))
        assert readable, f"{wanted!r} did not come within {deadline:.0f} s; got {data!r}"
        try:
            chunk = os.read(fd, 65536)
        except OSError:  # EIO: the other end of a terminal is closed
            chunk = b""
        assert chunk, f"end of file before {wanted!r}; got {data!r}"
        data += chunk
    return data


def read_to_end(fd, deadline=DEADLINE):
    """Everything up to end of file; for a terminal's master, up to the close of its other end."""
    end = time.monotonic() + deadline
    data = b""
    while True:
        readable, _, _ = select.select([fd], [], [], max(end - time.monotonic(), 0))
        assert readable, f"no end of file within {deadline:.0f} s; got {len(data)} bytes: {data[-200:]!r}"
        try:
            chunk = os.read(fd, 1 << 20)
        except OSError:
            chunk = b""
        if not chunk:
            return data
        data += chunk
