"""Services as people put them into containers, and the tools that look at them; what docs/programs.md tells of came from the same."""

import pytest

from harness.debian import service_folders

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def tree():
    return service_folders()


def test_mariadb(machine):
    """InnoDB writes its pages past the page cache (O_DIRECT), survives a kill, and checks itself."""
    script = r"""
cd /tmp; useradd -r mysql; mkdir -p /run/mysqld; chown mysql /run/mysqld
mariadb-install-db --user=mysql --datadir=/tmp/db --auth-root-authentication-method=normal >/tmp/install 2>&1 || { cat /tmp/install; exit 1; }
start() {
  mariadbd --user=mysql --datadir=/tmp/db --skip-networking --innodb-flush-method=O_DIRECT --innodb-buffer-pool-size=32M 2>/tmp/err & server=$!
  until mariadb -e 'select 1' >/dev/null 2>&1; do kill -0 $server; sleep 0.05; done
}
start
mariadb -Ne "create database t; use t; create table a(id int primary key auto_increment, v varchar(100), key(v)) engine=innodb; insert into a(v) select concat('row', seq) from seq_1_to_20000; select count(*), max(v) from a"
for k in 1 2 3 4; do mariadb t -e "insert into a(v) select concat('more$k', seq) from seq_1_to_2000" & loads="$loads $!"; done; wait $loads
mariadb t -Ne 'start transaction; delete from a; rollback; select count(*) from a'
kill -9 $server; wait $server || true; start
mariadb t -Ne 'select count(*) from a; check table a extended'; mariadb -e shutdown; wait $server; echo $?; grep -c '\[ERROR\]' /tmp/err || true
"""
    assert machine.lines(script, timeout=120) == ["20000\trow9999", "28000", "28000", "t.a\tcheck\tstatus\tOK", "0", "0"]


def test_ssh(machine):
    """Logging in goes through PAM; commands, terminals, copies and forwarding through one server."""
    script = r"""
cd /tmp; useradd -m -s /bin/bash joe; mkdir -p /run/sshd ~joe/.ssh; ssh-keygen -q -t ed25519 -N '' -f k; ssh-keygen -A >/dev/null; cp k.pub ~joe/.ssh/authorized_keys; chown -R joe ~joe/.ssh; rm -f /etc/motd
/usr/sbin/sshd -p 2222 -E /tmp/sshd.log; options='-q -i k -o StrictHostKeyChecking=no -o UserKnownHostsFile=/tmp/kh'; s="ssh $options -p 2222 joe@127.0.0.1"
until nc -z 127.0.0.1 2222; do sleep 0.02; done
$s 'id -un; tty; exit 3' || echo $?
$s -tt 'test -t 0 && echo terminal; stty -a | grep -c speed' </dev/null | tr -d '\r'
head -c 3000000 /dev/urandom >big; scp $options -P 2222 big joe@127.0.0.1:copy; $s cat copy | cmp - big && echo equal
printf 'put big b2\nrename b2 b3\nchmod 600 b3\nls -1\n' | sftp $options -P 2222 -b - joe@127.0.0.1 | grep -v '^sftp>'; $s 'stat -c "%a %s" b3'
$s -f -N -L 2300:127.0.0.1:2222; nc -w1 127.0.0.1 2300 </dev/null | head -c 7; echo
for i in 1 2 3 4 5 6; do $s "head -c 100000 /dev/zero | wc -c" >out$i & pids="$pids $!"; done; wait $pids; cat out? | sort | uniq -c | awk '{print $1, $2}'
rsync -a -e "ssh $options -p 2222" /etc/pam.d joe@127.0.0.1: && $s ls pam.d | grep -c sshd; pkill sshd
"""
    assert machine.lines(script, timeout=90) == ["joe", "not a tty", "3", "terminal", "1", "equal", "b3", "copy", "600 3000000", "SSH-2.0", "6 100000", "1"]


def test_at(machine):
    script = r"""
touch /run/utmp; atd; cd /tmp; echo 'id -un >/tmp/ran.new; mv /tmp/ran.new /tmp/ran' | at now 2>/dev/null; until [ -e ran ]; do sleep 0.05; done; cat ran; atq | wc -l; pkill atd
"""
    assert machine.lines(script) == ["root", "0"]


def test_who_has_it_open(machine):
    """A socket has the same inode in /proc/PID/fd, in /proc/net and in the answers of sock_diag."""
    script = r"""
nc -l -p 6000 & listener=$!; until ss -Hltn | grep -q 6000; do sleep 0.02; done
lsof -t -iTCP:6000 -sTCP:LISTEN | grep -c "^$listener$"; fuser 6000/tcp 2>/dev/null | wc -w; ss -Hltnp 'sport = 6000' | grep -c "pid=$listener,"; kill $listener; wait $listener || true
exec 5>/tmp/open; lsof -t /tmp/open | grep -c "^$$\$"
"""
    assert machine.lines(script) == ["1", "1", "1", "1"]


def test_packets(machine):
    """libpcap maps the ring of a packet socket and asks the device what it can do."""
    script = r"""
cd /tmp; ethtool lo 2>/dev/null | grep -c 'Link detected: yes'
tcpdump -c 2 -i lo -nn --immediate-mode icmp >dump 2>err & until grep -q listening err; do sleep 0.02; done
ping -q -c 1 127.0.0.1 >/dev/null; wait $!; grep -c 'ICMP echo re' dump
"""
    assert machine.lines(script) == ["1", "2"]


def test_rsync_daemon(machine):
    script = r"""
cd /tmp; mkdir -p a/b; for i in $(seq 1 100); do echo file $i >a/b/f$i; done; ln a/b/f1 a/b/hard; ln -s f2 a/b/soft; truncate -s 10M a/sparse; mkfifo a/fifo; setfattr -n user.k -v val a/b/f3; setfacl -m u:nobody:r a/b/f4
rsync -aHAXS a/ c/; diff -r --exclude fifo a c && echo same; getfattr --only-values -n user.k c/b/f3; echo; getfacl -c c/b/f4 | grep nobody; stat -c %h c/b/hard; test $(du -k c/sparse | cut -f1) -lt 100 && test -p c/fifo && echo sparse
printf '[m]\npath=/tmp/a\nread only=no\nuid=root\ngid=root\nuse chroot=yes\n' >conf; rsync --daemon --port 8730 --config conf --address 127.0.0.1; until nc -z 127.0.0.1 8730; do sleep 0.02; done
rsync -a rsync://127.0.0.1:8730/m/ d/; echo changed >a/b/f5; rm a/b/f6; rsync -a --delete --itemize-changes rsync://127.0.0.1:8730/m/ d/ | grep -v "^\.d" | cut -c1-2; diff -r --exclude fifo a d && echo same; pkill rsync
"""
    assert machine.lines(script) == ["same", "val", "user:nobody:r--", "2", "sparse", "*d", ">f", "same"]


def test_nothing_of_another_stays(machine):
    """What a process has become is not seen in the next: files after fakeroot as another user, chosen CPUs over execve."""
    script = r"""
cd /tmp; for i in 1 2 3 4 5; do su nobody -s /bin/bash -c 'cd /tmp; fakeroot sh -c "touch x; chown 0:0 x; ls -ln x | cut -c12-15" | cat' >/dev/null; mkdir made$i; stat -c %u made$i; done | sort | uniq -c | awk '{print $1, $2}'
taskset -c 0 sh -c nproc; taskset -c 0 taskset -cp $$ | wc -l
"""
    assert machine.lines(script) == ["5 0", "1", "1"]
