"""process.apparmorProfile on a node whose kernel has AppArmor. Runs on the node."""

import pathlib
import subprocess

import pytest
from harness.container import error

PROFILE = "caisson-test-container"
# What docker and podman give to containers, with one more rule that can be seen to hold.
TEXT = f"""
#include <tunables/global>
profile {PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer={PROFILE},
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/sys/[^kn]** wklx,
  deny mount,
  deny /data/denied r,
  ptrace (trace,read,tracedby,readby) peer={PROFILE},
}}
"""


@pytest.fixture(scope="module")
def profile(scratch):
    enabled = pathlib.Path("/sys/module/apparmor/parameters/enabled")
    if not enabled.exists() or enabled.read_text().strip() != "Y":
        pytest.skip("this kernel has no AppArmor")
    path = scratch / "profile"
    path.write_text(TEXT)
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache", path], check=True, capture_output=True)
    yield PROFILE
    subprocess.run(["apparmor_parser", "--remove", path], check=True, capture_output=True)


@pytest.fixture
def confined(container, profile):
    (container.bundle.rootfs / "data").mkdir(exist_ok=True)
    for name in ("denied", "allowed"):
        (container.bundle.rootfs / "data" / name).write_text(name)
    container.bundle.process["apparmorProfile"] = profile
    return container


@pytest.mark.runtimes("runc", "namespace")
def test_a_profile_confines(confined):
    """The container, and what is executed in it later; another profile may be named for that."""
    confined.spawn_sleeping()
    assert pathlib.Path(f"/proc/{confined.pid}/attr/current").read_text().strip() == f"{PROFILE} (enforce)"
    denied, allowed, label = confined.ask_exec("read /data/denied", "read /data/allowed", "read /proc/self/attr/current")
    assert error(denied) == "EACCES"
    assert allowed == "allowed"
    assert label.strip() == f"{PROFILE} (enforce)"


@pytest.mark.runtimes("runc", "namespace")
def test_exec_with_another_profile(confined, profile):
    confined.bundle.process.pop("apparmorProfile")
    confined.spawn_sleeping()
    (free,) = confined.ask_exec("read /data/denied")
    assert free == "denied"
    (denied,) = confined.ask_exec("read /data/denied", flags=["--apparmor", profile])
    assert error(denied) == "EACCES"


@pytest.mark.runtimes("runc", "namespace")
def test_a_profile_that_is_not_loaded_is_an_error(confined):
    confined.bundle.process["apparmorProfile"] = "caisson-test-nobody-has-this"
    outcome = confined.run(check=False)
    assert not outcome.ok
    assert "apparmor" in outcome.stderr.lower()


@pytest.mark.runtimes("appkernel", "microvm")
def test_where_it_cannot_hold_it_is_warned_of_by_name(confined):
    """The container's kernel is not the node's: the node's rules about its files and calls mean nothing to it."""
    confined.bundle.process["args"] = ["/testinit", "ask", "read /data/allowed"]
    outcome = confined.run()
    assert "process.apparmorProfile" in outcome.stderr
    assert "allowed" in outcome.stdout
