"""A whole Debian, made by debootstrap: real programs in a container."""

import hashlib

import pytest

pytestmark = pytest.mark.timeout(1200)  # the first run makes the image


def test_debian(podman, debian, folder):
    """bash, perl, python, apt's database, pipes, permissions, a package tool writing files."""
    script = r"""
set -eu
grep -q 'ID=debian' /etc/os-release
perl -e 'my %seen; $seen{$_ % 7}++ for 1..1000; print join(",", map { "$_=$seen{$_}" } sort keys %seen), "\n"'
python3 -c 'import os, threading, subprocess
results = []
threads = [threading.Thread(target=lambda n=n: results.append(n * n)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(results), subprocess.run(["sh", "-c", "exit 3"]).returncode, os.getpid() > 0)'
seq 1 20000 | sort -rn | head -n 3 | tr '\n' ' '; echo
dpkg-query -W -f '${Status}\n' bash
mkdir -p /var/tmp/tree && cd /var/tmp/tree && for i in $(seq 1 200); do echo "$i" > "f$i"; done
tar -cf /shared/tree.tar . && rm -rf /var/tmp/tree/* && tar -xf /shared/tree.tar && cat f* | sha256sum
useradd -m -u 1234 somebody && su somebody -c 'id -u; touch ~/mine; stat -c %U ~/mine'
bash -c 'diff <(echo a) <(echo b) >/dev/null || echo differs'
"""
    outcome = podman("run", "--rm", "--network", "none", "-v", f"{folder}:/shared", debian, "bash", "-c", script, timeout=300)
    lines = outcome.stdout.splitlines()
    assert lines[0] == "0=142,1=143,2=143,3=143,4=143,5=143,6=143"
    assert lines[1] == "140 3 True"
    assert lines[2] == "20000 19999 19998 "
    assert lines[3] == "install ok installed"

    names = sorted(f"f{number}" for number in range(1, 201))
    content = "".join(name[1:] + "\n" for name in names)
    assert lines[4].split()[0] == hashlib.sha256(content.encode()).hexdigest()
    assert lines[5:] == ["1234", "somebody", "differs"]
