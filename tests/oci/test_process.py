"""config.json: process.*"""

import os

import pytest

from harness.bundle import capability_bits
from harness.container import error


def test_user_groups_and_umask(container):
    container.bundle.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 2000, 1001], "umask": 0o027}
    (container.bundle.rootfs / "data").chmod(0o777)
    ids, umask, _, made, home = container.ask("ids", "umask", "create /data/new text 0666", "stat /data/new", "env")
    assert [ids[name] for name in ("uid", "euid", "suid", "fsuid")] == [1000] * 4
    assert [ids[name] for name in ("gid", "egid", "sgid", "fsgid")] == [1001] * 4
    assert set(ids["groups"]) == {5, 2000, 1001}
    assert umask == 0o027
    assert (made["uid"], made["gid"], made["mode"]) == (1000, 1001, 0o640)
    assert "HOME=/home/user" in home, "HOME comes from the container's /etc/passwd"


def test_root_user_defaults(container):
    ids, umask, env, cwd, pids, signals = container.ask("ids", "umask", "env", "cwd", "pids", "signals")
    assert (ids["uid"], ids["gid"], ids["groups"]) == (0, 0, [])
    assert umask == 0o022
    assert env[:2] == container.bundle.process["env"]
    assert "HOME=/root" in env
    assert cwd == "/"
    assert (pids["pid"], pids["ppid"], pids["sid"], pids["parent_death_signal"]) == (1, 0, 1, 0)
    assert signals == {"blocked": [], "ignored": []}


def test_no_descriptor_leaks_in(container):
    (fds,) = container.ask("fds")
    assert [entry["fd"] for entry in fds] == [0, 1, 2]


ODD_WORDS = ["/testinit", "ask", "env", "", "a b", "quote'\"", "üñí", "$HOME", "-x", "--", "new\nline"]


def test_args_and_env_are_verbatim(container):
    container.bundle.process["env"] = ["PATH=/", "EMPTY=", "SPACES=  a  b ", "UMLAUT=äö", "EQUALS=a=b=c", "LINES=a\nb"]
    container.bundle.process["args"] = ["testinit", "echo", *ODD_WORDS]
    assert container.run().stdout == " ".join(ODD_WORDS) + "\n"
    (env,) = container.ask("env")
    env = [variable.encode("latin-1").decode() for variable in env]
    assert env[:6] == container.bundle.process["env"]


def test_cwd(container):
    (container.bundle.rootfs / "data/below").mkdir()
    container.bundle.process["cwd"] = "/data/below"
    (cwd,) = container.ask("cwd")
    assert cwd == "/data/below"


def test_missing_cwd_is_made(container):
    container.bundle.process["cwd"] = "/data/made/for/me"
    cwd, status = container.ask("cwd", "stat /data/made/for/me")
    assert cwd == "/data/made/for/me"
    assert status["type"] == "dir"


SOME = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETUID"]


def test_capabilities_of_root(container):
    container.bundle.process["capabilities"] = {"bounding": SOME, "effective": SOME, "permitted": SOME, "inheritable": SOME[:2], "ambient": SOME[:1]}
    (caps,) = container.ask("caps")
    assert caps["bounding"] == capability_bits(SOME)
    assert caps["effective"] == caps["permitted"] == capability_bits(SOME)
    assert caps["inheritable"] == capability_bits(SOME[:2])
    assert caps["ambient"] == capability_bits(SOME[:1])


def test_capabilities_of_a_user(container):
    container.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    container.bundle.process["capabilities"] = {"bounding": SOME, "effective": SOME, "permitted": SOME, "inheritable": SOME[:2], "ambient": SOME[:2]}
    (caps,) = container.ask("caps")
    assert caps["bounding"] == capability_bits(SOME)
    assert caps["ambient"] == caps["inheritable"] == capability_bits(SOME[:2])
    assert caps["effective"] == caps["permitted"] == capability_bits(SOME[:2]), "a user keeps what is ambient"


def test_no_capability(container):
    container.bundle.process["capabilities"] = {}
    caps, chown = container.ask("caps", "chown /data 5 5")
    assert set(caps.values()) == {0}
    assert error(chown) == "EPERM"


def test_rlimits(container, runtime):
    hard = {"RLIMIT_NOFILE": 600, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 1 << 30, "RLIMIT_NPROC": 300, "RLIMIT_AS": 1 << 34, "RLIMIT_MEMLOCK": 4096, "RLIMIT_STACK": 4 << 20}
    if "/asan/" in runtime.argv[0]:
        del hard["RLIMIT_AS"]  # AddressSanitizer's shadow is larger
    container.bundle.process["rlimits"] = [{"type": name, "soft": value // 2, "hard": value} for name, value in hard.items()]
    limits, descriptor = container.ask("rlimits", "open /testinit r")
    for name, value in hard.items():
        if (runtime.name, name) != ("runc", "RLIMIT_NOFILE"):  # Go programs raise the soft limit of open files, at times too late
            assert limits[name] == [value // 2, value], name
    assert descriptor is True


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(container, wanted):
    container.bundle.process["noNewPrivileges"] = wanted
    (security,) = container.ask("security")
    assert security["no_new_privs"] == int(wanted)
    assert security["securebits"] == 0
    assert security["keepcaps"] == 0


def test_oom_score_adj(container):
    container.bundle.process["oomScoreAdj"] = 777
    (score,) = container.ask("oom_score_adj")
    assert score == 777


def test_scheduler_and_io_priority(container):
    container.bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    container.bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    scheduler, priority = container.ask("scheduler", "io_priority")
    assert (scheduler["policy"], scheduler["nice"]) == (3, 7)
    assert priority == {"class": 2, "level": 6}


def test_session_keyring_is_new(container, runtime):
    (keyring,) = container.ask("keyring")
    if error(keyring):
        pytest.skip(f"keyrings cannot be read in there: {keyring}")
    assert container.id in keyring["description"], "the session keyring is named after the container"


def test_program_not_found(container):
    container.bundle.process["args"] = ["no-such-program"]
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert "no-such-program" in outcome.stderr
    assert "not found" in outcome.stderr or "no such file" in outcome.stderr.lower(), "podman recognises a missing program by these words"


def test_program_not_executable(container):
    container.bundle.process["args"] = ["/etc/passwd"]
    outcome = container.run(check=False)
    assert outcome.status != 0
    assert "permission denied" in outcome.stderr.lower(), "podman recognises a program that cannot be executed by these words"


@pytest.mark.parametrize("field, value", [("apparmorProfile", "docker-default"), ("selinuxLabel", "system_u:system_r:svirt_lxc_net_t:s0:c1,c2")])
@pytest.mark.runtimes("namespace", "microvm")
def test_security_module_that_the_kernel_lacks(container, runtime, field, value):
    """Refused by name; in a guest, whose kernel has neither, a warning by name: podman sets labels by the node's kernel."""
    if os.path.exists("/sys/kernel/security/apparmor" if field == "apparmorProfile" else "/sys/fs/selinux"):
        pytest.skip("this kernel has that security module")
    container.bundle.process[field] = value
    outcome = container.run(check=False)
    assert (outcome.status == 0) == runtime.is_vm
    assert f"process.{field}" in outcome.stderr
