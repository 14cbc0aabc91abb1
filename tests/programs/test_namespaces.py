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
