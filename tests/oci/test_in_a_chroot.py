"""Caisson called in a chroot: a root directory that is not its mount namespace's."""

import subprocess

import pytest


@pytest.mark.runtimes("microvm")
def test_a_chroot_is_named_as_the_reason(container, folder):
    """The process that failed is gone before its number could be noted: what it said must win."""
    root = folder / "root"
    root.mkdir()
    script = 'mount --rbind / "$0" && mount --make-rprivate "$0" && exec chroot "$0" "$@"'
    container.bundle.write()
    words = [*container.runtime.argv, "run", "--bundle", container.bundle.path, container.id]
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, root, *map(str, words)], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode != 0
    assert "in a chroot a virtual machine cannot be jailed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
