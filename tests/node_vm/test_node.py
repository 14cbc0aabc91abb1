"""What this machine cannot show: Caisson on a Debian 12 as it comes, with its kernel 6.1, systemd, cgroups of version 2, AppArmor, device mapper and KVM. The
tests run on that node (tests/node_vm/inside, and others of this repository); each of these starts some of them there and fails with what failed."""

import pytest

LONG = pytest.mark.long


def test_the_node(node):
    assert node.run("uname", "-r").stdout.strip() == node.release
    node.pytest("node_vm/inside/test_systemd.py", "-k", "the_node_is")


@pytest.mark.timeout(600)
def test_systemd(node):
    """Scopes made by systemd, limits that outlive its reloads, containers that it stops."""
    assert not node.pytest("node_vm/inside/test_systemd.py", "--runtimes", "namespace,appkernel")


@pytest.mark.timeout(600)
def test_apparmor(node):
    assert not node.pytest("node_vm/inside/test_apparmor.py", "--runtimes", "namespace,appkernel")


@pytest.mark.timeout(900)
def test_devmapper(node):
    """Root file systems on thin volumes, by containerd and the shim."""
    assert not node.pytest("containerd/test_devmapper.py", "-k", "thin_volumes", "--runtimes", "namespace,appkernel", timeout=800)


def need_crictl(node):
    if not node.run("test -x /caisson/bin/crictl", check=False).ok:
        pytest.skip("crictl is not here: scripts/build-crictl makes it where a Go toolchain and the module are")


@pytest.mark.timeout(900)
def test_systemd_cgroups(node):
    """A pod as a kubelet with systemd's cgroup driver makes it."""
    need_crictl(node)
    assert not node.pytest("containerd/test_systemd_cgroups.py", "-k", "slice_of_scopes", "--runtimes", "appkernel", timeout=800)


RESOURCES = "pids_limit_holds or memory_limit_holds or ends_the_container or statistics or update_by_flags"


@pytest.mark.timeout(900)
def test_limits(node):
    """Limits by cgroups of version 2: they hold, are reported, and can be changed."""
    node.pytest("oci/test_resources.py", "-k", RESOURCES, "--runtimes", "namespace,appkernel", timeout=800)


@pytest.mark.timeout(600)
def test_lifecycle(node):
    """Who waits for the process of the pid file gets the status, though this kernel's process descriptors do not tell it."""
    node.pytest("oci/test_lifecycle.py", "-k", "pid_file or pause or kill_all or detached", "--runtimes", "namespace,appkernel")


@LONG
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["oci/test_lifecycle.py", "oci/test_exec.py", "oci/test_resources.py", "oci/test_namespaces.py", "oci/test_process.py", "oci/test_root_and_mounts.py",
                                  "oci/test_seccomp.py"])
def test_oci(node, what):
    node.pytest(what, "--runtimes", "namespace,appkernel", timeout=3500)


@LONG
@pytest.mark.timeout(3600)
def test_all_of_systemd_cgroups(node):
    need_crictl(node)
    assert not node.pytest("containerd/test_systemd_cgroups.py", "--runtimes", "namespace,appkernel", timeout=3500)


@LONG
@pytest.mark.timeout(3600)
def test_system_calls(node):
    """Each test natively and under the application kernel, on a kernel that lacks what was new in the last years."""
    node.pytest("syscalls/test_syscalls.py", "--runtimes", "appkernel", "-k", "not test_container", timeout=3500)


# Its processor is an emulated one: a guest is there after fifteen seconds, or after a minute where others use this machine's processors.
PATIENT = "[microvm]\nboot_timeout_seconds = 240\nagent_timeout_seconds = 60\n"


@LONG
@pytest.mark.timeout(3600)
def test_kvm(node):
    """Micro-VMs by KVM: QEMU emulates a processor that has it."""
    if not node.run("modprobe kvm_amd; test -c /dev/kvm", check=False).ok:
        pytest.skip("the node's processor has no virtualisation")
    assert not node.pytest("node_vm/inside/test_kvm.py", "--runtimes", "microvm", timeout=900)
    node.run("mkdir -p /etc/caisson && cat > /etc/caisson/config.toml", input=PATIENT)
    assert not node.pytest("containerd/test_devmapper.py", "--runtimes", "microvm", timeout=1800)
    assert not node.pytest("node_vm/inside/test_systemd.py", "--runtimes", "microvm", timeout=1800)
