"""Bundles: a config.json and a root file system with testinit in it."""

import copy
import json
import pathlib
import shutil

from .runtime import testinit_binary

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

DEFAULT_SPEC = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["/testinit", "exit", "0"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "caisson-test",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware"],
        "readonlyPaths": ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}

ALL_CAPABILITIES = [
    "CAP_" + name for name in
    """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN
    NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
    BPF CHECKPOINT_RESTORE""".split()
]


def capability_bits(names):
    """The kernel's mask of capability names."""
    return sum(1 << ALL_CAPABILITIES.index(name) for name in names)


class Bundle:
    """A bundle's folder. Change .spec, then write()."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.spec = copy.deepcopy(DEFAULT_SPEC)
        self.rootfs = self.path / "rootfs"
        for folder in ("proc", "sys", "dev", "tmp", "etc", "data"):
            (self.rootfs / folder).mkdir(parents=True, exist_ok=True)
        (self.rootfs / "tmp").chmod(0o1777)
        shutil.copy(testinit_binary(), self.rootfs / "testinit")
        (self.rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")
        (self.rootfs / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")

    @property
    def process(self):
        return self.spec["process"]

    @property
    def linux(self):
        return self.spec["linux"]

    def write(self):
        (self.path / "config.json").write_text(json.dumps(self.spec))

    def add_busybox(self):
        """/bin/sh and the other programs of busybox."""
        (self.rootfs / "bin").mkdir(exist_ok=True)
        shutil.copy(shutil.which("busybox"), self.rootfs / "bin/busybox")
        for name in ("sh", "cat", "ls", "echo", "sleep", "true", "false", "stty", "kill", "mount", "umount", "id", "dd"):
            (self.rootfs / "bin" / name).symlink_to("busybox")

    def mount(self, destination, type=None, source=None, options=(), **more):
        entry = {"destination": destination, "options": list(options), **more}
        if type:
            entry["type"] = type
        if source:
            entry["source"] = str(source)
        self.spec["mounts"].append(entry)

    def remove_mount(self, destination):
        self.spec["mounts"] = [mount for mount in self.spec["mounts"] if mount["destination"] != destination]

    def set_capabilities(self, names):
        """The same set for bounding, effective and permitted."""
        self.process["capabilities"] = {kind: list(names) for kind in ("bounding", "effective", "permitted")}

    def privileged(self):
        """Every capability that this machine's root has, and all devices."""
        self.set_capabilities(machine_capabilities())
        self.process["noNewPrivileges"] = False
        self.linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
        self.linux["maskedPaths"] = []
        self.linux["readonlyPaths"] = []

    def namespace(self, kind, path=None):
        """Asks for a namespace, new or by path."""
        self.linux["namespaces"] = [entry for entry in self.linux["namespaces"] if entry["type"] != kind]
        self.linux["namespaces"].append({"type": kind, **({"path": str(path)} if path else {})})

    def without_namespace(self, kind):
        self.linux["namespaces"] = [entry for entry in self.linux["namespaces"] if entry["type"] != kind]


def machine_capabilities():
    """Names of the capabilities in this process's bounding set."""
    for line in open("/proc/self/status"):
        if line.startswith("CapBnd:"):
            mask = int(line.split()[1], 16)
    return [name for bit, name in enumerate(ALL_CAPABILITIES) if mask >> bit & 1]
