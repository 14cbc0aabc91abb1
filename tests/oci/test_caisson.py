"""Commands and promises that are Caisson's own: check, do, auto, the guest's kernel, machine types."""

import json
import os
import pathlib
import subprocess

import pytest

from harness.container import error
from harness.runtime import caisson_binary

pytestmark = pytest.mark.runtimes("namespace", "microvm")

GUEST_CACHE = pathlib.Path("/var/cache/caisson/guest")


def test_whose_kernel_it_is(container, runtime):
    """The whole point: a micro-VM has a kernel of its own; `namespace` has the host's."""
    (name,) = container.ask("uname")
    host = os.uname()
    same = (name["release"], name["version"]) == (host.release, host.version)
    assert same == (not runtime.is_vm)


@pytest.mark.runtimes("microvm")
def test_size_of_the_guest(container):
    """From the limits of the container, plus what is configured for the guest itself."""
    container.bundle.linux["resources"].update({"memory": {"limit": 200 << 20}, "cpu": {"quota": 200000, "period": 100000}})
    (machine,) = container.ask("machine")
    assert 200 << 20 < machine["memory"] < 400 << 20
    assert machine["cpus"] == min(2, os.cpu_count())


def images():
    return [name for name in ("stock", "tuned") if (GUEST_CACHE / name).exists()]


@pytest.mark.runtimes("microvm")
@pytest.mark.parametrize("guest, machine, share", [("stock", "q35", "virtiofs"), ("tuned", "q35", "9p"), ("tuned", "microvm", "9p"), ("tuned", "q35", "virtiofs")])
def test_guests_machines_and_shares(container, runtime, folder, guest, machine, share):
    """The combinations that `auto` chooses from: each boots, runs, and changes the shared tree."""
    if guest not in images():
        pytest.skip(f"needs the {guest} guest kernel: caisson guest build{' --tuned' if guest == 'tuned' else ''} (about 9 minutes; .ci/run makes it)")
    (folder / "config.toml").write_text(f'[microvm]\nguest = "{guest}"\nmachine = "{machine}"\nshare = "{share}"\n')
    runtime.globals = ["--config", str(folder / "config.toml")]
    volume = folder / "volume"
    volume.mkdir()
    container.bundle.mount("/volume", "bind", volume, ["bind"])
    name, made, lock, mapped, read = container.ask("uname", "create /volume/x text 0640", "lock /volume/lock posix", "mmap-shared /data/mapped", "read /volume/x")
    assert name["release"] != os.uname().release
    assert (made, read) == (4, "text")
    assert lock["after"] == "free" and lock["while_held"] in ("EAGAIN", "EACCES")
    assert mapped == {"mapping": "from the child", "file": "from the child"}
    assert (volume / "x").stat().st_mode & 0o777 == 0o640


def do(runtime, *arguments, **options):
    return runtime.call("do", *arguments, **options)


def test_do(runtime, leftovers):
    """A command of this machine: its output, its status, its input; changes are thrown away."""
    outcome = do(runtime, "--", "sh", "-c", "cat; echo out; echo err >&2; exit 5", input="in\n", check=False)
    assert (outcome.status, outcome.stdout) == (5, "in\nout\n")
    assert "err\n" in outcome.stderr
    release = do(runtime, "--", "uname", "-r").stdout.strip()
    assert (release == os.uname().release) == (not runtime.is_vm)


def test_do_throws_changes_away(runtime, leftovers, folder, marker):
    kept = folder / "kept"
    kept.mkdir()
    (kept / "before").write_text("old")
    shown = folder / "shown"
    shown.mkdir()
    (shown / "file").write_text("readable\n")
    script = (f"echo new > /etc/{marker} && cat /etc/{marker} && rm /etc/hostname 2>/dev/null; echo changed > {kept}/before; echo added > {kept}/added; cat /seen/file; pwd; echo $GIVEN; "
              "touch /seen/x 2>/dev/null || echo readonly")
    outcome = do(runtime, "--rw", kept, "--volume", f"{shown}:/seen:ro", "--env", "GIVEN=value", "--cwd", kept, "--", "sh", "-c", script)
    assert outcome.stdout.split() == ["new", "readable", str(kept), "value", "readonly"]
    assert not os.path.exists(f"/etc/{marker}")
    assert (kept / "before").read_text() == "changed\n" and (kept / "added").read_text() == "added\n"
    assert os.listdir(shown) == ["file"]


def test_do_has_no_network(runtime, leftovers):
    outcome = do(runtime, "--", "cat", "/proc/net/dev")
    names = [line.split(":")[0].strip() for line in outcome.stdout.splitlines()[2:]]
    assert [name for name in names if name not in ("lo", "sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0")] == []


def test_do_of_a_missing_program(runtime, leftovers):
    outcome = do(runtime, "--", "no-such-program", check=False)
    assert outcome.status != 0
    assert "no-such-program" in outcome.stderr


def test_isolation_annotation(container, runtime):
    """io.caisson.isolation chooses where the command line does not."""
    container.bundle.spec["annotations"] = {"io.caisson.isolation": runtime.name}
    container.bundle.process["args"] = ["/testinit", "ask", "uname"]
    container.bundle.write()
    argv = [caisson_binary(), "--root", str(runtime.root), "run", "--bundle", str(container.bundle.path), container.id]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    (name,) = json.loads(done.stdout)
    assert (name["release"] == os.uname().release) == (not runtime.is_vm)


@pytest.mark.runtimes("namespace")
@pytest.mark.timeout(300)
def test_check(runtime, leftovers):
    outcome = runtime.call("check", "--json", check=False, timeout=250)
    report = json.loads(outcome.stdout)
    assert report, "rows with what was proved"
    text = json.dumps(report)
    assert "namespace" in text and "microvm" in text
    (row,) = [row for row in report["rows"] if row["what"] == "appkernel"]
    if "/asan/" in runtime.argv[0]:
        return  # a sanitizer's program is not static: it cannot be executed inside a container's root, as the kernel process is
    assert row["ok"] and "a program ran on" in row["detail"], row
    assert report["auto_isolation"] == ("microvm" if report["kvm_ok"] else "appkernel")


def test_warning_for_what_cannot_be_honoured(container, runtime):
    """Never ignored in silence: here Intel RDT, on a machine without it, is refused."""
    if os.path.exists("/sys/fs/resctrl/schemata"):
        pytest.skip("this machine has resctrl")
    container.bundle.linux["intelRdt"] = {"closID": "x", "l3CacheSchema": "L3:0=f"}
    outcome = container.run(check=False)
    assert "linux.intelRdt" in outcome.stderr


def test_unknown_capability_is_a_warning(container):
    """As with runc: a newer engine may name capabilities that this kernel does not have."""
    container.bundle.process["capabilities"]["bounding"] = ["CAP_KILL", "CAP_NONSENSE"]
    outcome = container.run()
    assert outcome.stderr.count("CAP_NONSENSE") == 1 and "process.capabilities" in outcome.stderr, outcome


def test_several_containers_one_after_the_other(make_container):
    """Nothing of one shows in the next."""
    for number in range(3):
        container = make_container()
        made, listed = container.ask(f"create /dev/shm/file{number}", "list /dev/shm")
        assert (error(made), listed) == (None, [f"file{number}"])


@pytest.fixture
def kernel_with(runtime):
    """kernel_with("--isolation", "auto") -> the release of the kernel that a command gets then."""
    if "/asan/" in runtime.argv[0]:
        pytest.skip("a sanitizer's program cannot be executed inside a container's root, as the kernel process is")

    def run(*flags):
        outcome = subprocess.run([caisson_binary(), *flags, "do", "--", "uname", "-r"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert (outcome.returncode, outcome.stderr) == (0, ""), outcome
        return outcome.stdout.strip()

    return run


@pytest.mark.runtimes("namespace")
def test_auto_never_takes_the_nodes_kernel(kernel_with, tmp_path):
    """Whoever asks for a sandbox gets one: a machine where a guest boots under KVM, else the application kernel. Only by name is it namespace."""
    configuration = tmp_path / "config.toml"
    configuration.write_text('isolation = "namespace"\n')
    release = os.uname().release
    assert kernel_with("--isolation", "auto") == kernel_with("--isolation", "auto", "--config", str(configuration)) != release
    assert kernel_with("--config", str(configuration)) == release


@pytest.mark.runtimes("namespace")
def test_what_auto_cannot_run_is_refused(container, runtime, kernel_with):
    """Not run on the node's kernel instead: the refusal names the field."""
    if not kernel_with("--isolation", "auto").endswith("-caisson"):
        pytest.skip("auto takes microvm here")
    container.bundle.namespace("pid", "/proc/1/ns/pid")
    container.bundle.write()
    command = [caisson_binary(), "--root", str(runtime.root), "--isolation", "auto", "run", "--bundle", str(container.bundle.path), container.id]
    outcome = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 1 and "linux.namespaces" in outcome.stderr and "appkernel" in outcome.stderr, outcome
