"""Waiting for conditions, with a deadline. Nothing in the tests sleeps to synchronise."""

import os
import select
import time

DEADLINE = 60.0


def wait_for(condition, what, deadline=DEADLINE, interval=0.01):
    """Calls condition until it returns something true, and returns that. Fails with `what` (or what it then returns) after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline:.0f} s still waiting for {what() if callable(what) else what}")
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


class Expect:
    """Reads from a descriptor up to words that are waited for; what came after one is kept for the next."""

    def __init__(self, fd):
        self.fd, self.data = fd, b""

    def __call__(self, wanted, deadline=DEADLINE):
        """Returns everything up to and with the bytes `wanted`."""
        end = time.monotonic() + deadline
        while wanted not in self.data:
            readable, _, _ = select.select([self.fd], [], [], max(end - time.monotonic(), 0))
            assert readable, f"{wanted!r} did not come within {deadline:.0f} s; got {self.data!r}"
            try:
                chunk = os.read(self.fd, 65536)
            except OSError:  # EIO: the other end of a terminal is closed
                chunk = b""
            assert chunk, f"end of file before {wanted!r}; got {self.data!r}"
            self.data += chunk
        end_of_it = self.data.index(wanted) + len(wanted)
        seen, self.data = self.data[:end_of_it], self.data[end_of_it:]
        return seen


def read_until(fd, wanted, deadline=DEADLINE):
    """Reads from fd until the bytes `wanted` have appeared; returns everything read, also what came after them."""
    reader = Expect(fd)
    return reader(wanted, deadline) + reader.data


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
