"""Container images made here, from programs of this machine: a docker archive as `ctr images import` takes it."""

import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

from harness.runtime import testinit_binary

PAUSE = "localhost/caisson-test/pause:1"
BUSYBOX = "localhost/caisson-test/busybox:1"


def busybox_tree(folder):
    """A root file system with busybox's applets and testinit."""
    folder = pathlib.Path(folder)
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "run", "root", "var"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox" if os.path.exists("/bin/busybox") else shutil.which("busybox"), folder / "bin/busybox")
    for applet in subprocess.run([folder / "bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox" and not (folder / "bin" / applet).exists():
            (folder / "bin" / applet).symlink_to("busybox")
    shutil.copy(testinit_binary(), folder / "testinit")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    return folder


def layer_of(tree):
    """A folder as a layer, everything root's."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(tree, arcname=".", filter=lambda info: setattr(info, "uid", 0) or setattr(info, "gid", 0) or info)
    return layer.getvalue()


def docker_archive(tree, archive, name, entrypoint, user="", path="/bin:/usr/bin:/sbin"):
    """Writes a one-layer image into archive; tree is a folder, or a file that is a layer already."""
    tree = pathlib.Path(tree)
    layer = layer_of(tree) if tree.is_dir() else tree.read_bytes()
    diff_id = hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "config": {"Entrypoint": entrypoint, "Env": [f"PATH={path}"], "WorkingDir": "/", "User": user},
    }).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for member, data in (("config.json", config), ("layer.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive
