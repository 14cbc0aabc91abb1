"""Programs that make namespaces: util-linux's unshare and nsenter, and bubblewrap."""

import shutil

import pytest

from conftest import CAPABILITIES

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def administrator(machine):
    """May make namespaces of every kind."""
    machine.container.bundle.set_capabilities([*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"])
    machine.container.bundle.linux["maskedPaths"] = machine.container.bundle.linux["readonlyPaths"] = []
    return machine


def test_unshare_and_nsenter(administrator):
    script = r"""
unshare -u sh -c 'hostname inside; hostname'; hostname
unshare -m sh -c 'mount -t tmpfs none /mnt; touch /mnt/x; ls /mnt'; ls /mnt | wc -l
unshare -p -f --mount-proc sh -c 'echo $$; set -- /proc/[0-9]*; echo $#; exit 3' || echo $?
unshare -U -r sh -c 'id -u; tr -s " " </proc/self/uid_map; cat /proc/self/setgroups'
su nobody -s /bin/sh -c 'grep -c stack /proc/self/maps'
su nobody -s /bin/sh -c 'unshare -U -r -m -p -f --mount-proc sh -c "id -u; echo \$\$; mount -t tmpfs none /mnt && echo mounted; cat /etc/shadow"' 2>&1 || true
unshare -u -m -p -f --mount-proc sh -c 'hostname deep; exec sleep 1000' & until pgrep -x sleep >/dev/null; do sleep 0.02; done
init=$(pgrep -x sleep); nsenter -t $init -u -m -p sh -c 'hostname; cat /proc/1/comm'
test "$(readlink /proc/self/ns/uts)" != "$(readlink /proc/$init/ns/uts)" && echo others; grep NSpid /proc/$init/status | awk '{print NF, $3}'
touch /w/uts; mount --bind /proc/$init/ns/uts /w/uts; kill -KILL $init; nsenter --uts=/w/uts hostname; umount /w/uts
"""
    wanted = ["inside", "caisson-test", "x", "0", "1", "1", "3", "0", " 0 0 1", "deny", "1", "0", "1", "mounted", "cat: /etc/shadow: Permission denied",
              "deep", "sleep", "others", "3 1", "deep"]
    assert administrator.lines(script) == wanted


def test_bubblewrap(administrator):
    program = shutil.which("bwrap")
    if program is None:
        pytest.skip("there is no bwrap (package bubblewrap)")
    shutil.copy(program, administrator.folder / "bwrap")
    box = "/w/bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-pid --unshare-uts --unshare-ipc --unshare-cgroup-try --hostname box --die-with-parent"
    script = rf"""
cat >/w/inside <<'END'
hostname; id -u; id -g; touch /tmp/a; stat -c %u:%g /tmp/a; touch /etc/x 2>&1 | grep -c Read-only; echo x >/dev/null; set -- /proc/[0-9]*; echo $#; exit 5
END
{box} sh /w/inside || echo $?
su nobody -s /bin/sh -c '{box} --unshare-user --uid 5 --gid 6 sh /w/inside' || echo $?
hostname; test -e /tmp/a || echo clean
"""
    assert administrator.lines(script) == ["box", "0", "0", "0:0", "1", "2", "5", "box", "5", "6", "5:6", "1", "2", "5", "caisson-test", "clean"]


def test_network_namespaces(administrator):
    """A connection inside one that nobody outside can reach; a user's own; and one that has a name, as `ip netns` makes it."""
    administrator.container.bundle.set_capabilities([*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN"])
    script = r"""
cat >/w/serve.py <<'END'
import socket, sys, time
server = socket.create_server(("127.0.0.1", 4321))
with socket.create_connection(("127.0.0.1", 4321)) as client:
    connection, _ = server.accept()
    client.sendall(b"through")
    print(connection.recv(7).decode())
sys.stdout.flush()
sys.stdin.read()
END
cat >/w/reach.py <<'END'
import socket
try:
    socket.create_connection(("127.0.0.1", 4321)).close()
    print("reached")
except OSError as error:
    print(error.strerror)
END
mkfifo /w/end /w/told
unshare -n sh -c 'ip link set lo up && python3 /w/serve.py' </w/end >/w/told & exec 7>/w/end; head -n 1 /w/told; python3 /w/reach.py; exec 7>&-; wait
unshare -n sh -c 'grep -c : /proc/net/dev; ls /sys/class/net | grep -c eth; python3 /w/reach.py'
su nobody -s /bin/sh -c 'unshare -U -r -n sh -c "ip link set lo up && ip -o addr show lo | grep -c 127.0.0.1"'
ip netns add inner && ip netns exec inner ip link set lo up && ip netns exec inner sh -c 'ip -o link show lo | grep -c UP; python3 /w/reach.py'; ip netns list 2>/dev/null; ip netns del inner; ip netns list | wc -l
"""
    wanted = ["through", "Connection refused", "1", "0", "Network is unreachable", "1", "1", "Connection refused", "inner", "0"]
    assert administrator.lines(script) == wanted


def test_bubblewrap_without_a_network(administrator):
    program = shutil.which("bwrap")
    if program is None:
        pytest.skip("there is no bwrap (package bubblewrap)")
    shutil.copy(program, administrator.folder / "bwrap")
    administrator.container.bundle.set_capabilities([*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN"])
    inside = r"""python3 -c 'import socket; server = socket.create_server(("127.0.0.1", 0)); socket.create_connection(server.getsockname()); print("connected")'"""
    script = rf"""
cat >/w/inside <<'END'
tail -n +3 /proc/net/dev | tr -d " " | cut -d: -f1; {inside}
END
/w/bwrap --ro-bind / / --dev /dev --proc /proc --unshare-net --die-with-parent sh /w/inside
su nobody -s /bin/sh -c '/w/bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all --die-with-parent sh /w/inside'
"""
    assert administrator.lines(script) == ["lo", "connected", "lo", "connected"]
