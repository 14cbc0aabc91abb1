"""A Debian made by debootstrap, for tests with real programs: made once, kept in /var/cache/caisson/test."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess

import pytest

CACHE = pathlib.Path("/var/cache/caisson/test")
# What nothing in a container needs.
UNNEEDED = ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"]
SERVERS = ["nginx-light", "redis-server", "postgresql", "iperf3"]
PROGRAMS = ["busybox", "python3", "libpython3.11-testsuite", "nodejs", "openjdk-17-jdk-headless", "gcc", "libc6-dev", "make", "git", "sqlite3", "redis-tools", "wrk",
            "gdb", "strace", "procps", "iproute2", "util-linux", "perl"]
SUITES = ["systemd-tests", "libglib2.0-tests", "stress-ng"]  # other people's tests, ready to run
BOOT = ["systemd-sysv", "dbus", "procps"]

SERVICES = ["mariadb-server-core", "mariadb-client-core", "openssh-server", "openssh-client", "at", "rsync", "fakeroot", "lsof", "psmisc", "tcpdump", "ethtool", "iputils-ping",
            "netcat-openbsd", "attr", "acl"]


def run(*argv, timeout=900, **options):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f"{' '.join(map(str, argv))} failed: {done.stdout[-1500:]} {done.stderr[-800:]}"


def keep(tree, archive):
    """Packs tree into archive, which appears by rename, and removes the tree."""
    for name in UNNEEDED:
        shutil.rmtree(tree / name, ignore_errors=True)
    run("tar", "-C", tree, "-cf", f"{archive}.new", ".")
    os.rename(f"{archive}.new", archive)
    shutil.rmtree(tree)


def fresh_tree(name):
    if os.environ.get("CAISSON_TEST_OFFLINE") == "1":
        pytest.skip("debootstrap needs the network, and CAISSON_TEST_OFFLINE=1 is set")
    tree = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    return tree


def debian_archive():
    """A minimal Debian with Python."""
    done = CACHE / "bookworm.tar"
    if not done.exists():
        tree = fresh_tree("bookworm")
        run("debootstrap", "--variant=minbase", "--include=python3-minimal", "bookworm", tree)
        keep(tree, done)
    return done


def install(tree, packages, environment=()):
    """Installs packages in the root file system tree, as the host's own apt would. environment: (name, value) pairs for their scripts."""
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    for setting in pathlib.Path("/etc/apt/apt.conf.d").glob("*proxy*"):
        shutil.copy(setting, tree / "etc/apt/apt.conf.d")
    # No service may start because it is installed.
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    # The tree is thrown away when it is not finished, so nothing need reach the disk; what is not kept need not be unpacked.
    dpkg = tree / "etc/dpkg/dpkg.cfg.d/caisson-test"
    dpkg.write_text("force-unsafe-io\n" + "".join(f"path-exclude=/{name}/*\n" for name in UNNEEDED if name.startswith("usr/share/")))
    (tree / "usr/share/man/man1").mkdir(parents=True, exist_ok=True)  # openjdk makes links there
    script = "apt-get -q update && apt-get -q -y --no-install-recommends install " + " ".join(packages)
    run("unshare", "--mount", "--pid", "--fork", "sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" sh -c "$1"', tree, script,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", **dict(environment)})
    policy.unlink()
    dpkg.unlink()


@contextlib.contextmanager
def one_at_a_time():
    """Only one process of this machine makes what is in the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def server_archive():
    """The same with nginx, redis, PostgreSQL and iperf3."""
    done = CACHE / "bookworm-servers.tar"
    if not done.exists():
        base = debian_archive()
        tree = fresh_tree("bookworm-servers")
        tree.mkdir()
        run("tar", "-C", tree, "-xf", base)
        install(tree, SERVERS)
        keep(tree, done)
    return done


def tree_with(name, packages, archive):
    """A folder, not to be written to: the Debian that `archive` makes, with more packages. Its name tells its contents; those of other contents go."""
    done = CACHE / (f"{name}-" + hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8])
    with one_at_a_time():
        if not done.exists():
            for old in CACHE.glob(f"{name}-*"):
                shutil.rmtree(old)
            base = archive()
            tree = fresh_tree(f"{name}-new")
            tree.mkdir()
            run("tar", "-C", tree, "-xf", base)
            install(tree, packages)
            for unneeded in UNNEEDED[:2]:
                shutil.rmtree(tree / unneeded, ignore_errors=True)
            os.rename(tree, done)
    return done


def boot_tree():
    """The minimal Debian with systemd, ready to boot."""
    return tree_with("boot", BOOT, debian_archive)


def program_tree():
    """The Debian with servers, and PROGRAMS: compilers, interpreters, debuggers."""
    return tree_with("programs", PROGRAMS, server_archive)


def folders_with(name, packages):
    """The program tree with more packages: an overlay's lower folders, none of them to be written to, with colons between them."""
    below = program_tree()
    done = CACHE / (f"{name}-" + hashlib.sha256(" ".join([below.name, *packages]).encode()).hexdigest()[:8])
    with one_at_a_time():
        if not done.exists():
            for old in CACHE.glob(f"{name}-*"):
                shutil.rmtree(old)
            made = fresh_tree(f"{name}-new")
            upper, work, tree = made / "upper", made / "work", made / "tree"
            for path in (upper, work, tree):
                path.mkdir(parents=True)
            upper.chmod(0o755)
            run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={below},upperdir={upper},workdir={work}", tree)
            try:
                install(tree, packages)
                for unneeded in UNNEEDED[:2]:
                    shutil.rmtree(tree / unneeded, ignore_errors=True)
            finally:
                run("umount", tree)
            os.rename(upper, done)
            shutil.rmtree(made)
    return f"{done}:{below}"


def suite_folders():
    """With SUITES, as folders_with() has it."""
    return folders_with("suites", SUITES)


def service_folders():
    """With SERVICES, as folders_with() has it."""
    return folders_with("services", SERVICES)
