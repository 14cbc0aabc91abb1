"""What a node boots from: a Debian with systemd as one ext4 file, its own stock kernel, and a small initrd. Made once, kept in the tests' cache."""

import hashlib
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

from harness import debian
from harness.debian import CACHE, run

HERE = pathlib.Path(__file__).parent
# What a user's node has: an init system, engines, what snapshotters and profiles need; and what runs the tests.
PACKAGES = ["linux-image-cloud-amd64", "kmod", "systemd-sysv", "udev", "dbus", "dbus-user-session", "libpam-systemd", "iproute2", "iptables", "procps", "util-linux", "mount", "e2fsprogs", "xfsprogs",
            "containerd", "runc", "crun", "podman", "conmon", "catatonit", "netavark", "aardvark-dns", "uidmap", "fuse-overlayfs", "slirp4netns",
            "dmsetup", "thin-provisioning-tools", "apparmor", "qemu-system-x86", "qemu-system-common", "seabios", "busybox-static", "strace", "attr", "acl",
            "python3", "python3-pytest", "python3-pytest-timeout"]
MODULES = ["virtio_mmio", "virtio_blk"]  # up to the root file system; the rest is loaded there
# Not of this node: what waits for a network, a terminal or a clock, and what works in the background.
MASKED = ["apparmor.service", "systemd-binfmt.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "modprobe@drm.service", "modprobe@configfs.service", "modprobe@efi_pstore.service", "sys-kernel-config.mount",
          "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "systemd-pstore.service",
          "getty@.service", "serial-getty@.service", "containerd.service", "podman.service", "podman.socket", "podman-auto-update.timer", "podman-auto-update.service",
          "podman-restart.service", "systemd-networkd-wait-online.service", "systemd-timesyncd.service", "systemd-random-seed.service", "lvm2-monitor.service", "blk-availability.service", "xfs_scrub_all.timer"]
SERVICE = """[Unit]
Description=Runs what the tests ask for
After=basic.target dbus.service systemd-logind.service
[Service]
ExecStart=/usr/bin/python3 /opt/node_service.py
KillMode=process
[Install]
WantedBy=multi-user.target
"""
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod $module; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /root || exec /bin/busybox sh
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
"""


class Image:
    """kernel, initrd and root (an ext4 file system, not to be written to): paths. release: the kernel's."""

    def __init__(self, folder):
        self.folder = folder
        self.kernel, self.initrd, self.root = folder / "vmlinuz", folder / "initrd", folder / "root.ext4"
        self.release = (folder / "release").read_text().strip() if (folder / "release").exists() else None


def recipe():
    parts = [pathlib.Path(__file__).read_bytes(), (HERE / "node_service.py").read_bytes()]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:10]


def image():
    """The image of this recipe, made where it is not there: about two minutes, with downloads. Skips where packages cannot be had."""
    done = CACHE / f"node-{recipe()}"
    with debian.one_at_a_time():
        if not done.exists():
            for old in CACHE.glob("node-*"):
                shutil.rmtree(old)
            base = debian.debian_archive()
            tree, new = debian.fresh_tree("new-node-tree"), debian.fresh_tree("new-node")
            tree.mkdir()
            new.mkdir()
            run("tar", "-C", tree, "-xf", base)
            # No initrd of Debian's own: it takes long to make and to load.
            debian.install(tree, PACKAGES, environment={"INITRD": "No"})
            settle(tree)
            take_kernel(tree, new)
            for name in debian.UNNEEDED[:2]:
                shutil.rmtree(tree / name, ignore_errors=True)
            run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-d", tree, new / "root.ext4", "6G")
            shutil.rmtree(tree)
            os.rename(new, done)
    return Image(done)


def settle(tree):
    """The tree becomes this node."""
    shutil.copy(HERE / "node_service.py", tree / "opt/node_service.py")
    units = tree / "etc/systemd/system"
    (units / "node.service").write_text(SERVICE)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/node.service").symlink_to("../node.service")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    (tree / "etc/hostname").write_text("node\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 node\n::1 localhost\n")
    (tree / "etc/resolv.conf").write_text("")
    (tree / "etc/fstab").write_text("")
    (tree / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tree / "etc/modules-load.d/node.conf").write_text("virtio_console\nvirtio_rng\n")
    run("chroot", tree, "useradd", "--create-home", "--shell", "/bin/bash", "--uid", "1000", "somebody")


def take_kernel(tree, into):
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    run("chroot", tree, "depmod", release)
    shutil.copy(kernel, into / "vmlinuz")
    (into / "release").write_text(release + "\n")
    modules = tree / "lib/modules" / release
    wanted = closure((modules / "modules.dep").read_text(), MODULES)
    files = {"bin/busybox": (pathlib.Path(tree / "bin/busybox").read_bytes(), 0o755), "init": (INIT.encode(), 0o755),
             "modules": ("".join(f"/m/{pathlib.Path(name).name}\n" for name in wanted).encode(), 0o644)}
    for name in wanted:
        files[f"m/{pathlib.Path(name).name}"] = ((modules / name).read_bytes(), 0o644)
    (into / "initrd").write_bytes(cpio(["bin", "m", "proc", "dev", "root"], files))


def closure(text, names):
    """Files of modules.dep that the modules need, in the order of loading."""
    needs = {line.partition(":")[0]: line.partition(":")[2].split() for line in text.splitlines()}
    plain = {re.sub(r"\.ko.*$", "", pathlib.Path(file).name).replace("-", "_"): file for file in needs}
    order = []
    for name in names:
        if name in plain:  # else it is built in
            order += [file for file in [*reversed(needs[plain[name]]), plain[name]] if file not in order]
    return order


def cpio(folders, files):
    """An archive as the kernel takes it (Documentation/driver-api/early-userspace/buffer-format.rst). files: name -> (bytes, mode)."""
    archive = b""
    entries = [(name, b"", stat.S_IFDIR | 0o755) for name in folders] + [(name, data, stat.S_IFREG | mode) for name, (data, mode) in files.items()]
    for number, (name, data, mode) in enumerate([*entries, ("TRAILER!!!", b"", 0)], 1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        part = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        part += b"\0" * (-len(part) % 4) + data
        archive += part + b"\0" * (-len(part) % 4)
    return archive


def qemu_binary():
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        pytest.skip("QEMU is not installed (Debian package qemu-system-x86)")
    if subprocess.run(["mke2fs", "-V"], capture_output=True).returncode != 0:
        pytest.skip("mke2fs is not installed (Debian package e2fsprogs)")
    return program
