"""Programs that watch files, and an image built with an overlay."""

import os
import subprocess
import threading

import pytest

from harness.waiting import wait_for
from programs.conftest import CAPABILITIES

pytestmark = pytest.mark.timeout(300)


def test_watching(machine):
    """tail -f, watches by ctypes on a host folder and on a tmpfs, node's fs.watch: told by inotify, not by looking now and then (as tail does on an overlay)."""
    script = r"""
echo one >/w/log; tail -n +1 -f /w/log >/tmp/out 2>/dev/null & tail=$!; until grep -q one /tmp/out; do sleep 0.02; done
ls -l /proc/$tail/fd | grep -c inotify; grep -c ^inotify /proc/$tail/fdinfo/$(ls -l /proc/$tail/fd | awk '/inotify/ {print $9}')
echo two >>/w/log; until grep -q two /tmp/out; do sleep 0.02; done; kill $tail; cat /tmp/out
python3 /w/watch.py /tmp/a; python3 /w/watch.py /dev/shm/a
node /w/watch.js
"""
    found = machine.lines(script)
    watched = ["create f", "open f", "modify f", "close_write f", "moved_from f", "moved_to g", "delete g", "cookies equal", "delete_self", "ignored"]
    assert found == ["1", "1", "one", "two", *watched, *watched, "rename made", "change made"], found


def test_changes_from_outside(machine):
    """What the node does to a shared folder is told: a file written by others, and a configMap's links swapped."""
    shared = machine.folder
    (shared / "config").mkdir()
    (shared / "config/..one").mkdir()
    (shared / "config/..one/key").write_text("1")
    os.symlink("..one", shared / "config/..data")

    def outside():
        wait_for((shared / "ready").exists, "nobody watches")
        (shared / "config/..two").mkdir()
        (shared / "config/..two/key").write_text("2")
        os.symlink("..two", shared / "config/..data_tmp")
        os.rename(shared / "config/..data_tmp", shared / "config/..data")

    changer = threading.Thread(target=outside)
    changer.start()
    try:
        found = machine.lines("python3 /w/watch.py --outside /w/config /w/ready")
    finally:
        changer.join()
    assert found == ["create ..two", "create ..data_tmp", "moved_from ..data_tmp", "moved_to ..data", "key 2"], found


# An image of two layers is changed as package managers and people do. What it looks like then, file by file.
BUILD = r"""
cd "$1"; mkdir one two up work all
mkdir -p one/etc/app one/usr/bin one/var/lib/app/data one/old/deep; echo base >one/etc/app/conf; echo tool >one/usr/bin/tool; chmod 4755 one/usr/bin/tool
ln one/usr/bin/tool one/usr/bin/same; ln -s app/conf one/etc/link; for i in $(seq 50); do echo $i >one/var/lib/app/data/$i; done; echo x >one/old/deep/x; truncate -s 1M one/sparse; echo end >>one/sparse
mkdir -p two/etc/app two/new; echo second >two/etc/app/conf; echo n >two/new/n; chown -R 5:6 two/new; chmod 2775 two/new; touch -d @1000000 two/new/n
mount -t overlay overlay -o lowerdir=two:one,upperdir=up,workdir=work all; cd all
echo more >>etc/app/conf; rm usr/bin/same; mv usr/bin/tool usr/bin/renamed; rm -r old; mkdir old; echo fresh >old/file; chmod 600 var/lib/app/data/7; chown 9:9 var/lib/app/data/8
mv var/lib/app/data/9 var/lib/app/nine; rm var/lib/app/data/1?; mkdir -p opt/pkg/bin; cp -a etc/app opt/pkg/; mv opt/pkg opt/package; ln opt/package/app/conf opt/hard; touch new/made
mv new renamed 2>/dev/null || cp -a new renamed; rm -rf new; echo tail >>sparse; tar -C etc -cf - . | tar -C opt -xf -; sed -i s/second/third/ etc/app/conf; truncate -s 10 var/lib/app/data/20
ln -sf /nowhere etc/link; mkfifo opt/fifo; python3 -c 'import os; f = open("var/lib/app/data/30", "r+b", 0); import mmap; m = mmap.mmap(f.fileno(), 0); m[0:1] = b"X"; m.flush(); os.fsync(f.fileno())'
find . ! -name . -printf '%P %y %m %U %G %n %l\n' | sort | sed 's/^\(.* d .*\) [0-9]* $/\1/'; find . -type f -print0 | sort -z | xargs -0 sha256sum; stat -c %Y renamed/n
cd ..; find one two -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; umount all; mount -t overlay overlay -o lowerdir=up:two:one all; find all -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; ls all all/old all/usr/bin; umount all
"""


def build_natively(folder):
    natively = folder / "natively"
    natively.mkdir()
    (folder / "build").write_text("set -e\n" + BUILD)
    lines = subprocess.run(["unshare", "-m", "bash", folder / "build", natively], check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) > 100
    return lines


def test_overlay(machine, folder):
    machine.container.bundle.set_capabilities([*CAPABILITIES, "CAP_SYS_ADMIN"])
    assert machine.lines('set -- /w/image; mkdir "$1"\n' + BUILD) == build_natively(folder)


@pytest.mark.runtimes("appkernel")
def test_overlay_on_a_containers_root(machine, folder):
    """The host refuses an upper layer on an overlay, which containers' roots are; the application kernel does without its whiteouts."""
    machine.container.bundle.set_capabilities([*CAPABILITIES, "CAP_SYS_ADMIN"])
    assert machine.lines('set -- /root/image; mkdir "$1"\n' + BUILD) == build_natively(folder)


def test_overlay_offenders(machine):
    """Layers are changed and removed below the overlay while it is used, by two at a time: errors, at worst."""
    machine.container.bundle.set_capabilities([*CAPABILITIES, "CAP_SYS_ADMIN"])
    script = r"""
cd /w; mkdir -p low/d up work all; for i in $(seq 100); do echo $i >low/d/$i; done
mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work all
( for i in $(seq 100); do echo new >all/d/$i; mv all/d/$i all/d/n$i; rm -f all/d/n$i; mkdir all/d/$i; done ) 2>/dev/null & a=$!
( for i in $(seq 100 -1 1); do rm -f low/d/$i up/d/$i; rm -rf up/d/n$i work/work/*; done ) 2>/dev/null & b=$!
( for i in $(seq 30); do ls -lR all; cat all/d/*; done ) >/dev/null 2>&1 & c=$!
wait $a || true; wait $b || true; wait $c || true
rm -rf up low; ls all >/dev/null 2>&1 || true; echo x >all/x 2>/dev/null || true; cd /; umount /w/all
mkdir -p /w/p/l /w/p/u /w/p/w /w/p/m; cd /w/p; mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m; echo still >m/works; cat u/works; umount m
for i in $(seq 600); do printf 'l:'; done >/tmp/many; mount -t overlay o -o lowerdir=$(cat /tmp/many)l m 2>/dev/null || echo refused
"""
    assert machine.lines(script) == ["still", "refused"]


def test_flood_of_watches(machine):
    """More watches than the kernel process takes from the node's, and more events than wait: refused and told, and all is as before when they have gone."""
    script = r"""
mkdir /w/many; cat >/tmp/flood.py <<'END'
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
fd, watched = libc.inotify_init1(os.O_NONBLOCK), 0
for i in range(9000):
    os.mkdir(f"/w/many/{i}")
    if libc.inotify_add_watch(fd, f"/w/many/{i}".encode(), 0xfff) < 0:
        assert ctypes.get_errno() == errno.ENOSPC
        break
    watched += 1
print(watched > 8000)
for i in range(watched):
    os.chmod(f"/w/many/{i}", 0o700)
    os.rmdir(f"/w/many/{i}")
mask = 0
try:
    while True:
        data = os.read(fd, 1 << 20)
        mask = int.from_bytes(data[-12:-8], "little")
except BlockingIOError:
    print(hex(mask))
os.close(fd)
fd = libc.inotify_init1(0)
print(libc.inotify_add_watch(fd, b"/w/many", 0x100))
os.mkdir("/w/many/new")
print(os.read(fd, 100)[16:19].decode())
END
python3 /tmp/flood.py
"""
    # Each folder had three events to tell of (attrib, delete_self, ignored): the queue has overflown.
    assert machine.lines(script) == ["True", "0x4000", "1", "new"]


def test_output_into_a_file(machine, folder):
    """Standard output is a plain file of the engine's: what programs copy to it within the kernel goes where it stands (cat by copy_file_range)."""
    (machine.folder / "script").write_text("echo first; echo middle >/w/middle; cat /w/middle; echo last")
    machine.container.bundle.process["args"] = ["bash", "/w/script"]
    with open(folder / "output", "w") as output:
        machine.container.run(stdout=output)
    assert (folder / "output").read_text().splitlines() == ["first", "middle", "last"]
