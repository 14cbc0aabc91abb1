"""A small image: busybox and testinit."""

import shutil
import tarfile

from harness.runtime import testinit_binary

BUSYBOX_PROGRAMS = "sh cat ls echo sleep true false id stty kill mount umount touch mkdir rm ps env hostname wc head dd tee grep uname test ip chmod chown stat readlink tty nc httpd nslookup ping".split()


def busybox_archive(path):
    """A root file system of busybox and testinit, as a tar archive."""
    with tarfile.open(path, "w") as archive:
        def folder(name, mode=0o755):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        for name in ("bin", "etc", "proc", "sys", "dev", "root", "home", "var", "run"):
            folder(name)
        folder("tmp", 0o1777)
        archive.add(shutil.which("busybox"), "bin/busybox")
        archive.add(testinit_binary(), "testinit")
        for name in BUSYBOX_PROGRAMS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
        for name, text in {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n", "etc/group": "root:x:0:\nuser:x:1000:\n"}.items():
            source = path.parent / "entry"
            source.write_text(text)
            archive.add(source, name)
            source.unlink()
