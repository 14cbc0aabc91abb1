"""Tests of systemd's and GLib's own: each ends natively and under the application kernel with the same status."""

import pytest

from harness.debian import suite_folders

# They take long, mostly by waiting, or what they show is not the kernel's.
LEFT_OUT = """async bus-benchmark bus-watch-bind compress compress-benchmark conf-parser data-fd-util event exec-util firewall-util fs-util fstab-generator.sh hashmap in-addr-prefix-util
install-root ipv4ll journal journal-flush journal-send journal-stream journal-verify libcrypt-util locale-util ndisc-rs network-generator-conversion.sh prioq random-util ratelimit sleep sysusers.sh udev.pl
varlink""".split()
GLIB = """bitlock contexts credentials g-file g-file-info gdbus-auth gdbus-non-socket gdbus-peer gdbus-server-auth gutils-user-database inet-address io-channel live-g-file mappedfile mapping pollable
readwrite signal-handler sleepy-stream socket-listener socket-service spawn-path-search spawn-singlethread spawn-test thread thread-pool timer trash unix-fd unix-mounts unix-streams""".split()
# Test -> why it ends otherwise under the application kernel.
EXPECTED = {
    "test-netlink": "no generic netlink (NETLINK_GENERIC)",
    "test-network": "no generic netlink (NETLINK_GENERIC)",
    "test-sd-device": "sysfs has no devices (/sys/dev, /sys/devices)",
    "test-udev-event": "sysfs has no devices (/sys/dev, /sys/devices)",
    "test-udev-util": "sysfs has no devices (/sys/dev, /sys/devices)",
}
NATIVE = {}

SCRIPT = """
mkdir /w/logs
run() { timeout -s KILL 20 "$2" >"/w/logs/$1" 2>&1 </dev/null && status=0 || status=$?; echo "$1 $status"; }
cd /tmp
for test in /usr/lib/systemd/tests/test-*; do
  name=$(basename $test)
  case " $LEFT_OUT " in *" ${name#test-} "*) continue;; esac
  [ -f $test ] && [ -x $test ] && run $name $test
done
for name in $GLIB; do run $name /usr/libexec/installed-tests/glib/$name; done
"""


@pytest.fixture(scope="module")
def tree():
    return suite_folders()


@pytest.mark.timeout(1200)  # the first run installs them
def test_systemd_and_glib(machine):
    settings = f"LEFT_OUT='{' '.join(LEFT_OUT)}'\nGLIB='{' '.join(GLIB)}'\n"
    found = dict(line.split() for line in machine.lines(settings + SCRIPT, timeout=300))
    assert len(found) > 200
    if machine.runtime == "runc":
        NATIVE.update(found)
        return
    wrong = {name: status for name, status in found.items() if NATIVE and status != NATIVE.get(name)}
    logs = {name: (machine.folder / "logs" / name).read_text(errors="replace")[-1000:] for name in wrong if name not in EXPECTED}
    assert not logs, "\n\n".join(f"{name}: {wrong[name]}, natively {NATIVE.get(name)}: {log}" for name, log in logs.items())
    if NATIVE:
        assert set(NATIVE) == set(found)
        outlived = [name for name in EXPECTED if name not in wrong]
        assert not outlived, f"ends as natively by now: {outlived}"
