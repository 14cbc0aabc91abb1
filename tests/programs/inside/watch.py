"""inotify(7) by ctypes, as watchdog does it. watch.py FOLDER: does things in a new folder and says what it saw. watch.py --outside FOLDER READY:
makes the file READY, and says what others do to FOLDER until its ..data has been replaced."""

import ctypes
import os
import struct
import sys

NAMES = {1: "access", 2: "modify", 4: "attrib", 8: "close_write", 16: "close_nowrite", 32: "open", 64: "moved_from", 128: "moved_to", 256: "create", 512: "delete",
         1024: "delete_self", 2048: "move_self", 0x8000: "ignored"}
libc = ctypes.CDLL(None, use_errno=True)


def events(fd):
    data, at, found = os.read(fd, 65536), 0, []
    while at < len(data):
        _, mask, cookie, size = struct.unpack_from("iIII", data, at)
        name = data[at + 16:at + 16 + size].rstrip(b"\0").decode()
        found.append((NAMES[mask & 0xffff], name, cookie))
        at += 16 + size
    return found


def watch(folder, mask):
    fd = libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0 or libc.inotify_add_watch(fd, folder.encode(), mask) < 0:
        raise OSError(ctypes.get_errno(), folder)
    return fd


def outside(folder, ready):
    fd, last = watch(folder, 0x100 | 0x80 | 0x40), None
    open(ready, "w").close()
    while last != ("moved_to", "..data"):
        for what, name, _ in events(fd):
            last = what, name
            print(what, name)
    with open(folder + "/..data/key") as key:
        print("key", key.read())


def inside(folder):
    os.mkdir(folder)
    fd = watch(folder, 0xfff & ~0x10)
    with open(folder + "/f", "w") as file:
        file.write("text")
    os.rename(folder + "/f", folder + "/g")
    os.unlink(folder + "/g")
    os.rmdir(folder)
    cookies = set()
    for what, name, cookie in events(fd):
        if what == "delete_self":
            print("cookies", "equal" if len(cookies) == 1 else "differ")
        if cookie:
            cookies.add(cookie)
        print(f"{what} {name}".strip())


if sys.argv[1] == "--outside":
    outside(*sys.argv[2:])
else:
    inside(sys.argv[1])
