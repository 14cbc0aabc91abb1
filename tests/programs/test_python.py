"""Python's own tests of what an operating system gives it. What fails natively too says nothing; what is skipped inside must be skipped natively."""

import json

import pytest

# Tests that mostly wait, or that repeat for long what another one shows, unless CAISSON_TEST_LONG=1.
SLOW = {
    "test_signal": ["*.SiginterruptTest.*", "*.PendingSignalsTests.test_sig*wait*", "*.WakeupSignalTests.test_wakeup_fd_*", "*.ItimerTest.test_itimer_virtual", "*.ItimerTest.test_itimer_prof", "*.StressTest.*", "*.test_interprocess_signal"],
    "test_socket": ["*.NetworkConnectionBehaviourTest.*", "*TimeoutTest.*", "*.testReadAfterTimeout", "*.test_sendall_interrupted_with_timeout", "*.testWithTimeoutTriggeredSend"],
    "test_subprocess": ["*.ProcessTestCaseNoPoll.*", "*.test_check_output_timeout", "*.test_communicate_timeout*", "*.test_leaking_fds_on_error", "*.test_close_fds*", "*.test_swap_*", "*.test_pass_fds*",
                        "*.test_communicate_repeated*"],
    "test_asyncio.test_subprocess": ["*.SubprocessSafeWatcherTests.*", "*.SubprocessFastWatcherTests.test_[a-c]*"],
    "test_threading": ["*.ThreadJoinOnShutdown.*", "*.test_join_nondaemon_on_shutdown", "*.BarrierTests.*", "*.ThreadingExceptionTests.*", "*.CRLockTests.*", "*.CConditionTests.*"],
}
# Races of the tests themselves. testSourceAddress: its thread registers the closing of its socket before it asks for the name, and the main thread's
# clean-up, which comes as soon as the connection has been accepted, may close it in between.
RACES = {"test_socket": ["*.NetworkConnectionAttributesTest.testSourceAddress"]}
# Modules that take minutes: only these of their tests.
PARTS = {
    "test_asyncio.test_subprocess": None,
    "test_asyncio.test_unix_events": None,
    "test_asyncio.test_selector_events": None,
    "test_multiprocessing_spawn": ["*.WithProcessesTestQueue.*", "*.WithProcessesTestLock.*", "*.WithProcessesTestPipe*", "*.WithProcessesTestSharedMemory.*"],
    "test_multiprocessing_fork": ["*.WithProcessesTest[CELQ]*", "*.WithProcessesTestSharedMemory.*", "*.WithManagerTestQueue.*"],
}
QUICK = ["test_os", "test_posix", "test_signal", "test_subprocess", "test_threading", "test_socket", "test_mmap", "test_fcntl", "test_select", *PARTS]
LONG = ["test_signal", "test_subprocess", "test_threading", "test_socket", "test_asyncio", "test_multiprocessing_fork", "test_multiprocessing_spawn", "test_multiprocessing_forkserver"]

# Test -> why it does not pass under the application kernel.
EXPECTED = {
    "test.test_fcntl.TestFcntl.test_fcntl_64_bit": "no F_NOTIFY, which inotify replaced in 2005",
}
NATIVE = {}  # (module, kind) -> outcomes


def outcomes(machine, module, left_out, chosen, timeout):
    patterns = [f"-{pattern}" for pattern in left_out] + [f"+{pattern}" for pattern in chosen]
    words = " ".join(f"'{pattern}'" for pattern in patterns)
    outcome = machine.run(f"cd /tmp && python3 /w/python_tests.py {module} /w/outcomes.json {words} >/w/log 2>&1 </dev/null", timeout=timeout, check=False)
    results = machine.folder / "outcomes.json"
    if not results.exists():
        pytest.fail(f"{module} did not end: {(machine.folder / 'log').read_text(errors='replace')[-2000:]}{outcome}")
    return json.loads(results.read_text())


def judge(machine, module, kind, found):
    assert len(found) > 5, f"only {len(found)} tests ran"
    wrong = {name: reason for name, (outcome, _, reason) in found.items() if outcome in ("error", "failure")}
    if machine.runtime == "runc":
        NATIVE[module, kind] = found
        return
    native = NATIVE.get((module, kind), {})
    wrong = {name: reason[-1500:] for name, reason in wrong.items() if native.get(name, ["ok"])[0] == "ok"}
    for name, (outcome, _, reason) in found.items():
        if outcome == "skipped" and native.get(name, ["skipped"])[0] == "ok":
            wrong[name] = f"skipped ({reason}), but not natively"
    unexpected = {name: reason for name, reason in wrong.items() if name not in EXPECTED}
    assert not unexpected, "\n\n".join(f"{name}: {reason}" for name, reason in unexpected.items())
    outlived = [name for name in EXPECTED if name in found and name not in wrong]
    assert not outlived, f"passes by now: {outlived}"
    if native:
        missing = sorted(set(native) - set(found))
        assert not missing, f"did not run: {missing}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", QUICK)
def test_python(machine, module):
    judge(machine, module, "quick", outcomes(machine, module, SLOW.get(module, []) + RACES.get(module, []), PARTS.get(module) or [], 120))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("module", LONG)
def test_python_all(machine, module):
    judge(machine, module, "all", outcomes(machine, module, RACES.get(module, []), [], 900))
