"""Limits of workloads in the real kernel: connections, devices, accounts, and their recounting."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fos1d.kernel import bpf, contents
from fos1d.kernel.connections import recount
from fos1d.kernel.usage import Usage, workload_usage
from fos1d.model.pins import SHARED_POLICY, state_family
from fos1d.model.workload import Workload
from tests import lab
from tests.limited import Limiter, limiter, policy
from tests.running import until

pytestmark = pytest.mark.kernel

LOOPBACK = {4: "127.0.0.1", 6: "::1"}

# Connects as often as it is told, and says what became of it; then closes and says so. `greeted`
# waits for the server's word too: to have connected only means that a SYN was answered.
CONNECT = """
import errno, json, socket, sys
kind, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
opened, said = [], []
for _ in range(count):
    one = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    one.settimeout(1 if kind == "greeted" else 0.3)
    try:
        one.connect((address, port))
        if kind == "greeted":
            one.recv(1)
        opened.append(one)
        said.append("ok")
    except TimeoutError:
        said.append("timeout")
    except OSError as error:
        said.append(errno.errorcode[error.errno])
print(json.dumps(said), flush=True)
sys.stdin.readline()
for one in opened:
    one.close()
print("closed", flush=True)
sys.stdin.readline()
"""
# Says the rate that its connection is paced to, after having sent something and heard of it.
PACING = """
import socket, sys, time
one = socket.socket()
if int(sys.argv[3]):
    one.setsockopt(socket.SOL_SOCKET, 47, int(sys.argv[3]))
one.connect((sys.argv[1], int(sys.argv[2])))
while True:
    for _ in range(3):
        one.send(bytes(10))
        time.sleep(0.05)
    print(int.from_bytes(one.getsockopt(socket.SOL_SOCKET, 47, 8), "little"), flush=True)
    sys.stdin.readline()
"""
NOT_PACED = ((1 << 32) - 1, (1 << 64) - 1)
# Listens, accepts and greets until its input ends.
LISTEN = """
import socket, sys, threading
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
made = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family, backlog=64)
kept = []
def accept():
    while True:
        kept.append(made.accept()[0])
        kept[-1].send(b"!")
threading.Thread(target=accept, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
"""
CONTROL = """
deviceControl:
  enableDeviceControl: true
  allowedDevices:
    - {deviceType: char, major: 1, minor: 5}
    - {deviceType: char, major: 1, minor: 8}
    - {deviceType: block}
"""
DEVICES = """
import errno, json
said = {}
for name in ("null", "zero", "full", "random"):
    try:
        open(f"/dev/{name}", "rb", buffering=0).read(1)
        said[name] = "ok"
    except OSError as error:
        said[name] = errno.errorcode[error.errno]
print(json.dumps(said))
"""


@pytest.fixture
def limits(bpffs: Path, cgroup: Path) -> Iterator[Limiter]:
    with limiter(bpffs, cgroup) as made:
        yield made


class Client:
    """A process in a workload that connects and holds what it got."""

    def __init__(
        self, limits: Limiter, where: lab.Namespace, cgroup: str, *words: str, code: str = CONNECT
    ) -> None:
        self._process = limits.popen(cgroup, where, sys.executable, "-c", code, *words)

    def line(self) -> str:
        """Return the next line that it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def results(self) -> list[str]:
        """Return what became of its connections."""
        found = json.loads(self.line())
        assert isinstance(found, list)
        return found

    def go_on(self) -> None:
        """Have it close them."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def client(
    limits: Limiter, where: lab.Namespace, cgroup: str, *words: str, code: str = CONNECT
) -> Iterator[Client]:
    made = Client(limits, where, cgroup, *words, code=code)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def server(namespace: lab.Namespace) -> Iterator[dict[int, int]]:
    """Listening ports by IP version, outside every workload; nothing is accepted."""
    with ExitStack() as stack:
        ports = {}
        for version, address in LOOPBACK.items():
            family = socket.AF_INET6 if version == 6 else socket.AF_INET
            made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            made.bind((address, 0))
            made.listen(64)
            ports[version] = made.getsockname()[1]
        yield ports


def usage(limits: Limiter, cgroup: str) -> Usage:
    number = (limits.root / cgroup).stat().st_ino
    return workload_usage(limits.kernel.bpffs).get(number, Usage())


def most(connections: int) -> str:
    return f"resourceLimits: {{connectionLimits: {{maxConnections: {connections}}}}}"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_connections_beyond_the_maximum_are_refused(
    limits: Limiter, namespace: lab.Namespace, server: dict[int, int], kind: str, version: int
) -> None:
    """And those that are closed make room again."""
    limits.apply([limits.workload("db")], policy(most(3)))
    words = (kind, LOOPBACK[version], str(server[version]))
    with client(limits, namespace, "db", *words, "5") as first:
        assert first.results() == ["ok"] * 3 + ["EPERM"] * 2
        used = usage(limits, "db")
        assert (used.connections, used.opened, used.refused_out) == (3, 3, 2)
        first.go_on()
        assert first.line() == "closed"
        with client(limits, namespace, "db", *words, "5") as second:
            assert second.results()[:2] == ["ok"] * 2


def test_failed_connections_do_not_count(limits: Limiter, namespace: lab.Namespace) -> None:
    limits.apply([limits.workload("db")], policy(most(2)))
    with client(limits, namespace, "db", "tcp", LOOPBACK[4], "9", "5") as made:
        assert made.results() == ["ECONNREFUSED"] * 5
    assert usage(limits, "db").connections == 0


def test_more_connections_than_the_rate_are_refused(
    limits: Limiter, namespace: lab.Namespace, server: dict[int, int]
) -> None:
    rate = "resourceLimits: {connectionLimits: {maxConnectionRate: 4}}"
    limits.apply([limits.workload("db")], policy(rate))
    words = ("udp", LOOPBACK[4], str(server[4]), "12")
    with client(limits, namespace, "db", *words) as made:
        results = made.results()
    assert results[:4] == ["ok"] * 4
    assert 6 <= results.count("EPERM") <= 8


@pytest.mark.parametrize("version", [4, 6])
def test_incoming_connections_beyond_the_maximum_are_dropped(
    limits: Limiter, namespace: lab.Namespace, version: int
) -> None:
    limits.apply([limits.workload("web")], policy(most(3)))
    words = (LOOPBACK[version], "7001")
    with client(limits, namespace, "web", *words, code=LISTEN) as listener:
        assert listener.line() == "ready"
        with client(limits, namespace, ".", "greeted", *words, "5") as made:
            assert made.results() == ["ok"] * 3 + ["timeout"] * 2
            used = usage(limits, "web")
            assert (used.connections, used.opened) == (3, 3)
            assert used.refused_in >= 2
            made.go_on()
            assert made.line() == "closed"


def test_incoming_connections_beyond_the_rate_are_dropped(
    limits: Limiter, namespace: lab.Namespace
) -> None:
    rate = "resourceLimits: {connectionLimits: {maxConnectionRate: 3}}"
    limits.apply([limits.workload("web")], policy(rate))
    words = (LOOPBACK[4], "7002")
    with client(limits, namespace, "web", *words, code=LISTEN) as listener:
        assert listener.line() == "ready"
        with client(limits, namespace, ".", "tcp", *words, "6") as made:
            assert made.results()[:3] == ["ok"] * 3
            assert usage(limits, "web").refused_in >= 1


def test_newcomers_share_the_limits_of_their_slice(
    limits: Limiter, namespace: lab.Namespace, server: dict[int, int]
) -> None:
    """A cgroup that nobody knows, and one that is a workload of its own."""
    parent, child = limits.workload("app.slice", tier="slice"), limits.workload("app.slice/db")
    limits.workload("app.slice/new")
    strict, wide = policy(most(2), "strict"), policy(most(4), "wide")
    strict = strict.replace("podSelector: {}", "podSelector: {matchLabels: {tier: slice}}")
    wide = wide.replace(
        "podSelector: {}", "podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}"
    )
    limits.apply([parent, child], strict, wide)
    words = ("tcp", LOOPBACK[4], str(server[4]), "6")
    for cgroup, room in (("app.slice/new", 2), ("app.slice/db", 4)):
        with client(limits, namespace, cgroup, *words) as made:
            assert made.results() == ["ok"] * room + ["EPERM"] * (6 - room)
    assert usage(limits, "app.slice").opened == 2


def test_only_allowed_devices_open(limits: Limiter, namespace: lab.Namespace) -> None:
    limits.apply([limits.workload("db")], policy(CONTROL))
    said = json.loads(limits.run("db", namespace, sys.executable, "-S", "-c", DEVICES))
    assert said == {"null": "EPERM", "zero": "ok", "full": "EPERM", "random": "ok"}
    assert usage(limits, "db").devices_refused >= 2
    allowed = CONTROL.replace("minor: 5", "minor: 3").replace("major: 1, minor: 8", "major: 10")
    limits.apply([limits.workload("db")], policy(allowed))
    said = json.loads(limits.run("db", namespace, sys.executable, "-S", "-c", DEVICES))
    assert said == {"null": "ok", "zero": "EPERM", "full": "EPERM", "random": "EPERM"}


def test_accounts_survive_a_change_of_policy(limits: Limiter, namespace: lab.Namespace) -> None:
    """Bytes and packets are those of the network layer."""
    workload = [limits.workload("db")]
    limits.apply(workload, policy("resourceLimits: {}"))
    limits.run("db", namespace, "ping", "-q", "-c", "3", "-i", "0.01", "-s", "100", LOOPBACK[4])
    first = usage(limits, "db")
    assert (first.sent.packets, first.sent.bytes) == (3, 3 * 128)
    assert first.received.packets >= 3
    limits.apply(workload, policy(most(7)))
    limits.run("db", namespace, "ping", "-q", "-c", "2", "-i", "0.01", "-s", "100", LOOPBACK[6])
    second = usage(limits, "db")
    assert (second.sent.packets, second.sent.bytes) == (5, 3 * 128 + 2 * 148)


def counts(limits: Limiter, name: str) -> dict[int, bytes]:
    (path,) = limits.kernel.bpffs.pins(state_family(SHARED_POLICY, name))
    with limits.kernel.bpffs.open(path) as fd:
        found = contents.read_entries(fd, bpf.map_info(fd))
    return {int.from_bytes(key, "little"): value for key, value in found.items()}


def test_a_recount_finds_what_was_there_before_and_forgets_what_is_gone(
    limits: Limiter, namespace: lab.Namespace, server: dict[int, int]
) -> None:
    workloads: list[Workload] = [limits.workload("db")]
    limits.workload("db/below")
    words = ("tcp", LOOPBACK[4], str(server[4]))
    with client(limits, namespace, "db/below", *words, "2") as old:
        assert old.results() == ["ok"] * 2
        limits.apply(workloads, policy(most(3)))
        done = recount(limits.kernel.bpffs, limits.root)
        assert (done.counted, done.found, done.gone) == (2, 2, 0)
        with client(limits, namespace, "db", *words, "3") as new:
            assert new.results() == ["ok", "EPERM", "EPERM"]
    # A connection is there until the other end has heard of its end.
    until(lambda: recount(limits.kernel.bpffs, limits.root).counted == 0, 1)
    assert usage(limits, "db").connections == 0
    assert counts(limits, "workload_sockets") == {}


def test_a_recount_leaves_other_network_namespaces_alone(limits: Limiter) -> None:
    limits.apply([limits.workload("db")], policy(most(3)))
    with lab.namespaces("other") as (other,), ExitStack() as stack:
        with other.entered():
            made = stack.enter_context(socket.create_server((LOOPBACK[4], 0)))
        words = ("tcp", LOOPBACK[4], str(made.getsockname()[1]), "2")
        with client(limits, other, "db", *words) as held:
            assert held.results() == ["ok"] * 2
            done = recount(limits.kernel.bpffs, limits.root)
            assert (done.counted, done.found, done.gone) == (2, 0, 0)


def test_what_was_remembered_of_a_workload_goes_with_it(
    limits: Limiter, namespace: lab.Namespace
) -> None:
    db, web = limits.workload("db"), limits.workload("web")
    limits.apply([db, web], policy("resourceLimits: {}"))
    for cgroup in ("db", "web"):
        limits.run(cgroup, namespace, "ping", "-q", "-c", "1", LOOPBACK[4])
    assert set(counts(limits, "workload_usage")) == {db.cgroup_id, web.cgroup_id}
    limits.apply([web], policy("resourceLimits: {}"))
    recount(limits.kernel.bpffs, limits.root)
    assert set(counts(limits, "workload_usage")) == {web.cgroup_id}


def pacing(limits: Limiter, namespace: lab.Namespace, port: int, own: int) -> Generator[int | None]:
    """Yield the pacing rate of one connection each time after it sent something."""
    words = (LOOPBACK[4], str(port), str(own))
    with client(limits, namespace, "db", *words, code=PACING) as made:
        while True:
            rate = int(made.line())
            yield None if rate in NOT_PACED else rate
            made.go_on()


def test_a_connection_follows_the_limit_that_it_is_paced_to(
    limits: Limiter, namespace: lab.Namespace, server: dict[int, int]
) -> None:
    """Also when the limit goes; what paces itself lower is left alone."""
    workloads = [limits.workload("db")]

    def limit(mbit: int) -> None:
        text = f"bandwidthLimits: {{egressBitsPerSecond: {mbit}Mbit}}" if mbit else ""
        limits.apply(workloads, policy(f"resourceLimits: {{{text}}}"))

    limit(80)
    fast = pacing(limits, namespace, server[4], 0)
    slow = pacing(limits, namespace, server[4], 1000)
    for mbit in (80, 160, 40, 0):
        limit(mbit)
        rate = next(fast)
        if mbit:
            assert rate == pytest.approx(mbit * 1e6 / 8 * 33 / 32, rel=0.001)
        else:
            assert rate is None
        assert next(slow) == 1000
    fast.close()
    slow.close()
