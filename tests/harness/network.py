"""Network namespaces and interfaces that tests make, as an engine's plug-in does."""

import subprocess


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True)


def address(number):
    """The address of a pod's interface eth<number>; the other end's, on the node, ends with 1."""
    return f"10.218.{number}.2"


def add_veth(marker, number, netns):
    """eth<number> with address(number) and an MTU of 1400 in a namespace: by name, or by the pid of a process in it. Goes with the namespace."""
    outside, inside = f"{marker}v{number}", f"eth{number}"
    within = ["nsenter", f"--net=/run/netns/{netns}" if isinstance(netns, str) else f"--net=/proc/{netns}/ns/net", "ip"]
    ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", netns)
    ip("addr", "add", f"10.218.{number}.1/24", "dev", outside)
    ip("link", "set", outside, "up")
    for words in (["addr", "add", f"{address(number)}/24", "dev", inside], ["link", "set", inside, "up", "mtu", "1400"]):
        subprocess.run([*within, *words], check=True)


def join(bundle, netns):
    """The network namespace of that name is the container's."""
    next(row for row in bundle.linux["namespaces"] if row["type"] == "network")["path"] = f"/run/netns/{netns}"
