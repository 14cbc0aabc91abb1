"""Where runtimes differ. One row per test and runtime, with the reason.

xfail: the test runs and must fail; an unexpected pass fails the run, so that the row is taken out.
skip: running it makes no sense there, or would harm."""

# Test function, or function[parameters] without the runtime -> runtime -> (kind, reason).
EXPECTATIONS = {
    # process
    "test_scheduler_and_io_priority": {"runc": ("xfail", "runc 1.1 has neither"), "crun": ("xfail", "crun 1.8 has neither")},
    # mounts
    "test_propagation_of_mounts": {"crun": ("xfail", "crun 1.8 leaves shared bind mounts private")},
    "test_mounts_of_the_node_come_along": {"crun": ("xfail", "crun 1.8 leaves shared and slave bind mounts private"),
                                           "microvm": ("xfail", "files below a volume that the guest has seen are open on the node, which can unmount them lazily only")},
    "test_destination_cannot_leave_the_root": {"crun": ("xfail", "crun 1.8 refuses destinations below a dangling link")},
    "test_rootfs_propagation[shared]": {"runc": ("xfail", "runc 1.1 makes the host's / shared, not the container's")},
    "test_rootfs_propagation[unbindable]": {"runc": ("xfail", "runc 1.1 cannot bind the root file system then")},
    "test_idmapped_mount": {"runc": ("xfail", "runc 1.1 has no idmapped mounts"), "microvm": ("xfail", "neither virtio-fs (before Linux 6.12) nor 9p can map ids; refused by name")},
    "test_plain_ro_is_not_recursive": {"microvm": ("xfail", "a shared folder is one mount in the guest, with all that is mounted below it on the node")},
    # namespaces and the rest of linux
    "test_hostname_and_domainname": {"runc": ("xfail", "runc 1.1 has no domainname")},
    "test_time_namespace": {"runc": ("xfail", "runc 1.1 has no time namespaces"), "crun": ("xfail", "crun 1.8 loses its sync socket with timeOffsets")},
    "test_personality": {"runc": ("xfail", "runc 1.1 ignores it")},
    "test_log_and_flags": {"runc": ("xfail", "runc 1.1 has no seccomp flags")},
    "test_join_namespaces_by_path": {"microvm": ("xfail", "a container of another micro-VM cannot be joined: its namespaces are of another kernel; refused by name")},
    # hooks
    "test_order_state_and_environment": {"runc": ("xfail", "runc 1.1 runs poststart hooks at create")},
    "test_create_container_hook_is_in_the_containers_namespaces": {"microvm": ("xfail", "refused by name: the hook's program is the node's, its namespaces are the guest's")},
    "test_failing_poststart_hook": {"crun": ("xfail", "crun 1.8 goes on in silence")},
    "test_failing_poststop_hook_is_a_warning": {"runc": ("xfail", "runc 1.1 leaves out the hooks after a failed one")},
    # lifecycle and exec
    "test_kill_with_nonsense": {"crun": ("xfail", "crun 1.8 accepts any signal name")},
    "test_kill_signals[usr2-12]": {"crun": ("skip", "crun 1.8 sends nothing for a lower-case name")},
    "test_kill_signals[SIGRTMIN+1-35]": {"runc": ("xfail", "runc 1.1 knows no real-time signals by name")},
    "test_bad_ids[with space]": {"crun": ("skip", "crun 1.8 takes it")},
    "test_bad_ids[\\xfc]": {"crun": ("skip", "crun 1.8 takes it")},
    # bad input
    "test_preserve_fds": {"microvm": ("xfail", "refused by name: a descriptor cannot be passed into a virtual machine")},
    "test_preserved_descriptor": {"microvm": ("xfail", "refused by name: a descriptor cannot be passed into a virtual machine")},
    "test_additional_gids": {"crun": ("xfail", "crun 1.8 has no such flag")},
    "test_capabilities_and_no_new_privileges": {"crun": ("xfail", "crun 1.8 replaces the container's capabilities")},
    "test_process_document_umask": {"runc": ("xfail", "runc 1.1 ignores it for exec")},
    "test_process_document_oom_score": {"runc": ("xfail", "runc 1.1 ignores it for exec"), "crun": ("xfail", "crun 1.8 ignores it for exec")},
    # terminals and streams
    "test_console_socket_without_terminal": {"crun": ("xfail", "crun 1.8 ignores the socket")},
    "test_run_on_our_terminal": {"crun": ("skip", "crun 1.8 does not pass the size on reliably")},
    "test_run_without_streams": {"crun": ("xfail", "crun 1.8 does not start with closed streams")},
}

# What the application kernel cannot do: reason -> tests.
APPKERNEL = {}
for _reason, _tests in APPKERNEL.items():
    for _test in _tests:
        EXPECTATIONS.setdefault(_test, {})["appkernel"] = ("xfail", _reason)


def expectation(item_name, runtime):
    """The row for a test under a runtime, or None."""
    exact = item_name.replace(f"[{runtime}-", "[").replace(f"-{runtime}]", "]").replace(f"[{runtime}]", "")
    for name in (exact, exact.split("[")[0]):
        row = EXPECTATIONS.get(name, {}).get(runtime)
        if row:
            return row
    return None
