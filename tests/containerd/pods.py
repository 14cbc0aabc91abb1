"""A pod, made by crictl as a kubelet would have it."""

import json
import pathlib

from harness.waiting import wait_for
from images import BUSYBOX


class Pod:
    def __init__(self, crictl, runtime, name, folder, namespaces=None, ports=(), annotations=None, dns=None, **linux):
        self.crictl, self.runtime, self.name = crictl, runtime, name
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir()
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        self.config = {
            "metadata": {"name": name, "uid": name, "namespace": "default", "attempt": 1},
            "hostname": "" if (namespaces or {}).get("network") == 2 else f"host-{name}"[:60],  # as a kubelet has it
            "log_directory": str(self.logs),
            "dns_config": dns or {"servers": ["192.0.2.53"], "searches": ["example.test"]},
            "port_mappings": [{"protocol": 0, "container_port": inside, "host_port": outside} for outside, inside in ports],
            "annotations": annotations or {},
            "linux": {"cgroup_parent": f"/{name}", "security_context": {"namespace_options": namespaces or {}}, **linux},
        }
        self.path = self.folder / "pod.json"
        self.path.write_text(json.dumps(self.config))
        self.id = crictl.call("runp", "--runtime", runtime, self.path).stdout.strip()
        self.containers = 0

    def create(self, command, mounts=(), resources=None, tty=False, stdin=False, image=BUSYBOX, **more):
        self.containers += 1
        # As a kubelet has it: containers say the same of their processes as the pod.
        pid = self.config["linux"]["security_context"]["namespace_options"].get("pid", 0)
        config = {
            "metadata": {"name": f"{self.name}-c{self.containers}", "attempt": 1},
            "image": {"image": image},
            "command": command,
            "log_path": f"c{self.containers}.log",
            "mounts": list(mounts),
            "tty": tty,
            "stdin": stdin,
            "linux": {"resources": resources or {}, "security_context": {"namespace_options": {"pid": pid}}, **more.pop("linux", {})},
            **more,
        }
        path = self.folder / f"container{self.containers}.json"
        path.write_text(json.dumps(config))
        return self.crictl.call("create", self.id, path, self.path).stdout.strip()

    def start(self, *args, **options):
        container = self.create(*args, **options)
        self.crictl.call("start", container)
        return container

    def exec(self, container, *command, check=True):
        return self.crictl.call("exec", container, *command, check=check)

    def status(self):
        return self.crictl.json("inspectp", self.id)

    def addresses(self):
        """IPv4 and IPv6 address."""
        network = self.status()["status"]["network"]
        return [network["ip"], *(extra["ip"] for extra in network["additionalIps"])]

    def network_namespace(self):
        """Its path on the node."""
        spec = self.status()["info"]["runtimeSpec"]
        return next(row["path"] for row in spec["linux"]["namespaces"] if row["type"] == "network")

    def remove(self):
        """Once, or again."""
        if self.id is None:
            return
        self.crictl.call("stopp", self.id)
        self.crictl.call("rmp", "-f", self.id)
        self.id = None
        # The pod's own cgroup is the kubelet's to remove. Not what is below it: that is the runtime's.
        for folder in pathlib.Path("/sys/fs/cgroup").glob(f"*/{self.name}"):
            wait_for(lambda: remove_folder(folder), f"{folder} to be empty", deadline=5)


def remove_folder(path):
    try:
        path.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
