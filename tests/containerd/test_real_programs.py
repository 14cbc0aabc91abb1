"""Programs that people run, from Debian packages, in pods: web server, key-value store, database, interpreter; and what goes over the network."""

import contextlib
import json
import os
import re
import shutil
import subprocess

import pytest
from harness import debian
from harness.waiting import wait_for
import images

DEBIAN = "localhost/caisson-test/debian:1"
ALL = pytest.mark.runtimes("runc", "namespace", "microvm")
pytestmark = pytest.mark.timeout(1200)  # the first run makes the image
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def servers(node, scratch):
    """The image, in the node's content store and unpacked once."""
    layer = debian.server_archive()
    archive = images.docker_archive(layer, scratch / "debian.tar", DEBIAN, ["/bin/bash"], path=PATH)
    node.ctr("images", "import", archive, namespace="k8s.io", timeout=300)
    os.unlink(archive)
    yield DEBIAN
    node.ctr("images", "rm", DEBIAN, namespace="k8s.io", check=False, timeout=120)


def sh(pod, container, script, check=True):
    return pod.exec(container, "bash", "-c", script, check=check)


def shell(text):
    return {"command": ["bash", "-c", text], "image": DEBIAN}


@ALL
def test_postgresql_redis_and_python_in_one_pod(servers, network, make_pod, folder, runtime_name):
    """Three containers of one pod that talk by the pod's loopback; the database's files are on a volume."""
    data = folder / "data"
    data.mkdir()
    pod = make_pod(resources={"memory_limit_in_bytes": 700 << 20})
    # The package has made an empty database; initdb takes a minute in an emulated machine.
    database = pod.start(**shell("""set -e
        cp -a /var/lib/postgresql/15/main /data/db
        echo 'host all all 127.0.0.1/32 trust' > /data/db/pg_hba.conf
        echo "listen_addresses = '127.0.0.1'" > /data/db/postgresql.conf
        exec su postgres -c 'exec /usr/lib/postgresql/15/bin/postgres -D /data/db -c unix_socket_directories=/tmp -c shared_buffers=16MB -c fsync=off'"""),
        mounts=[{"host_path": str(data), "container_path": "/data"}])
    store = pod.start(**shell("exec redis-server --save '' --bind 127.0.0.1 --dir /tmp"))
    asking = pod.start(**shell("exec sleep 1000"))
    sql = lambda text, check=True: sh(pod, database, f'/usr/lib/postgresql/15/bin/psql -h 127.0.0.1 -U postgres -Atc "{text}"', check=check)
    wait_for(lambda: sql("select 1", check=False).stdout == "1\n", "the database", interval=0.5, deadline=120)
    sql("create table t (id serial primary key, words text); insert into t (words) select md5(i::text) from generate_series(1, 2000) i")
    assert sql("select count(*), count(distinct words) from t").stdout == "2000|2000\n"
    assert sql("select words from t where id = 1000").stdout.strip() == "a9b7ba70783b617e9998dc4dd82eb3c5"  # md5 of "1000"
    assert (data / "db/PG_VERSION").read_text() == "15\n"
    wait_for(lambda: sh(pod, store, "redis-cli ping", check=False).stdout == "PONG\n", "redis", interval=0.2)
    python = """import socket
s = socket.create_connection(('127.0.0.1', 6379), 10)
f = s.makefile('rw', newline='\\r\\n')
for i in range(500): f.write(f'INCRBY n {i}\\r\\n')
f.flush()
last = [f.readline().strip() for i in range(500)][-1]
print(last)"""
    assert pod.exec(asking, "python3", "-c", python).stdout == f":{sum(range(500))}\n"


@ALL
def test_nginx_inside_wrk_outside(servers, network, make_pod, runtime_name, record_property):
    """A web server in the pod, load from the node: every answer right, none lost."""
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed (Debian package wrk)")
    pod = make_pod()
    pod.start(**shell("""mkdir -p /tmp/www && head -c 1000 /dev/zero | tr '\\0' x > /tmp/www/file
        echo 'events {} http { access_log off; server { listen 8080; root /tmp/www; } }' > /tmp/conf
        exec nginx -g 'daemon off; pid /tmp/p; error_log stderr;' -c /tmp/conf"""))
    url = f"http://{pod.addresses()[0]}:8080/file"
    fetch = lambda: subprocess.run([shutil.which("wget") or "busybox", *([] if shutil.which("wget") else ["wget"]), "-q", "-O", "-", url], capture_output=True, text=True, timeout=30).stdout
    assert wait_for(fetch, "the web server", interval=0.3) == "x" * 1000
    done = subprocess.run(["wrk", "-t", "1", "-c", "8", "-d", "3s", url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))
    print(f"{runtime_name}: {rate:.0f} requests a second")
    record_property("requests_per_second", rate)
    assert rate > 10 and "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout, done.stdout


@contextlib.contextmanager
def iperf_server(pod):
    container = pod.start(**shell("exec iperf3 -s"))
    wait_for(lambda: ":1451 " in sh(pod, container, "cat /proc/net/tcp /proc/net/tcp6", check=False).stdout, "iperf3 to listen", interval=0.2)
    yield pod.addresses()[0]


def throughput(address, *options):
    def measure():
        done = subprocess.run(["iperf3", "-J", "-t", "1", "-c", address, *options], capture_output=True, text=True, timeout=60)
        # It ends with 0 even where the server was still busy with the last client.
        return json.loads(done.stdout).get("end", {}).get("sum_received", {}).get("bits_per_second") if done.returncode == 0 else None

    return wait_for(measure, "iperf3's figures", interval=0.3)


@pytest.mark.runtimes("namespace", "microvm")
def test_iperf_both_ways_beside_runc(servers, network, make_pod, runtime_name, record_property):
    """Told as ratios to runc in the same run. What a virtual machine under emulation reaches says nothing of one on KVM, so only a breakdown fails."""
    if not shutil.which("iperf3"):
        pytest.skip("iperf3 is not installed (Debian package iperf3)")
    with iperf_server(make_pod()) as ours, iperf_server(make_pod(handler="runc")) as theirs:
        for way, options in (("into the pod", []), ("out of the pod", ["-R"])):
            ratio = throughput(ours, *options) / throughput(theirs, *options)
            print(f"{runtime_name}: {way}: {ratio:.3f} x runc")
            record_property(way, ratio)
            assert ratio > 0.0005, (way, ratio)
