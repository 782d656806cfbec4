"""The fast path: established connections go past the stack, and only where nothing is missed."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import pytest
from pyroute2.ethtool.ioctl import IoctlEthtool

from fos1d import abi
from fos1d.kernel.bpffs import open_root
from fos1d.kernel.counters import program_counts
from fos1d.model.pins import SHARED_POLICY
from tests import frames
from tests.applied import program
from tests.flow import steady_flow
from tests.lab import Namespace
from tests.netns.conftest import LAN4, LAN6, WAN4, WAN6, Site
from tests.netns.sockets import family_of
from tests.netns.talk import in_force, network_policy, settled
from tests.running import until

pytestmark = pytest.mark.netns

PORT, LIMITED = 9000, 9001
ENDS = [(f"{WAN4}.2", f"{LAN4}.2"), (f"{WAN6}:2", f"{LAN6}:2")]
PATIENCE_S = 0.5
IP_RECVTTL, IP_TTL, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT = 12, 2, 51, 52


def policy(*more: str) -> str:
    """A policy on both interfaces that lets both sides begin conversations on two ports."""
    limited = f"{{protocol: UDP, port: {LIMITED}}}"
    return network_policy(
        "all",
        "  selector: {interfaces: [wan0, lan0]}\n  ingress:\n"
        + "".join(f"    - {rule}\n" for rule in more)
        + f"    - {{ports: [{limited}], rateLimit: {{bitsPerSecond: 100Mbit}}}}\n"
        f"    - {{ports: [{{protocol: UDP, port: {PORT}}}]}}\n"
        f"    - {{ports: [{{protocol: TCP, port: {PORT}}}]}}\n",
    )


@pytest.fixture
def fast(site: Site) -> Site:
    """The lab with the policy and the fast path."""
    return begun(site)


def begun(site: Site, wanted: str = "xdp", **files: str) -> Site:
    """Start the daemon with a fast path."""
    site.router.settings = f'[kernel]\nfast_path = "{wanted}"'
    site.router.write_settings()
    for host in (site.wan, site.lan):
        like_a_wire(host)
    settled(site.wan, site.router, site.lan)
    for name, content in {"all": policy(), **files}.items():
        site.router.write(f"{name}.yaml", content)
    site.router.start()
    in_force(site.router, "all")
    return site


def like_a_wire(host: Namespace, polls: bool = True, sums: bool = True) -> None:
    """Have a host's interface poll, so that it takes frames of XDP, and complete checksums."""
    with host.entered():
        device = IoctlEthtool("eth0")
        device.set_offload_flag("generic-receive-offload", int(polls))
        device.set_offload_flag("tx-checksumming", int(not sums))


@dataclass(frozen=True)
class Talk:
    """Two UDP sockets that answer each other."""

    near: socket.socket
    far: socket.socket

    def goes(self, data: bytes = b"?") -> bool:
        """Whether a datagram arrives, and its answer."""
        try:
            self.near.send(data)
            got, peer = self.far.recvfrom(65536)
            self.far.sendto(got, peer)
            return got == data and self.near.recv(65536) == data
        except OSError:
            return False

    def hops(self) -> int:
        """Send one, and return the hop limit that is left when it arrives."""
        self.near.send(b"?")
        _, ancillary, _, _ = self.far.recvmsg(16, 64)
        return int(struct.unpack("i", ancillary[0][2])[0])


@contextmanager
def talk(
    near: Namespace, source: str, far: Namespace, dest: str, port: int = PORT
) -> Iterator[Talk]:
    """Open a conversation; the first packets have passed."""
    with near.entered():
        asks = socket.socket(family_of(source), socket.SOCK_DGRAM)
    with far.entered():
        answers = socket.socket(family_of(dest), socket.SOCK_DGRAM)
    with closing(asks), closing(answers):
        for one in (asks, answers):
            one.settimeout(PATIENCE_S)
        asks.bind((source, 0))
        answers.bind((dest, port))
        asks.connect((dest, port))
        made = Talk(asks, answers)
        until(made.goes, 5, "both sides are heard")
        assert made.goes()
        yield made


def went_fast(site: Site) -> int:
    """Return how many packets have gone past the stack."""
    counts = program_counts(open_root(site.router.bpffs), SHARED_POLICY)
    return counts[abi.Reason.PASS_FAST_PATH].packets


def goes_fast(site: Site, made: Talk) -> bool:
    """Whether a conversation goes past the stack; it must go on in any case."""
    before = went_fast(site)
    assert all(made.goes() for _ in range(10))
    return went_fast(site) - before > 10


def goes_the_long_way(site: Site, made: Talk) -> bool:
    """Whether what is asked arrives, and by the stack."""
    before = went_fast(site)
    for _ in range(10):
        made.near.send(b"?")
        assert made.far.recv(16) == b"?"
    return went_fast(site) == before


def matched(site: Site, rule: int) -> int:
    """Return how many packets a rule of the policy has counted."""
    rules = site.router.json("describe", "enpol/all")["status"]["metrics"]["byRule"]
    return int(rules[rule]["packets"])


@pytest.mark.parametrize(("near", "far"), ENDS)
def test_established_packets_go_past_the_stack(fast: Site, near: str, far: str) -> None:
    with talk(fast.wan, near, fast.lan, far) as made:
        v6 = ":" in near
        level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
        made.far.setsockopt(level, IPV6_RECVHOPLIMIT if v6 else IP_RECVTTL, 1)
        assert goes_fast(fast, made)
        for size in (0, 1, 17, 18, 19, 1000, 1399):
            assert made.goes(bytes(range(256)) * 6 if size == 1399 else bytes(size)), size
        assert made.hops() == 63
        made.near.setsockopt(level, socket.IPV6_UNICAST_HOPS if v6 else socket.IP_TTL, 2)
        assert made.hops() == 1


@pytest.mark.parametrize(("near", "far"), ENDS)
def test_the_rules_count_what_goes_fast(fast: Site, near: str, far: str) -> None:
    with talk(fast.wan, near, fast.lan, far) as made:
        before = matched(fast, 1)
        assert goes_fast(fast, made)
        assert matched(fast, 1) - before == 10, "what asks; answers pass without a rule"


@pytest.mark.parametrize(("near", "far"), ENDS)
def test_a_revoked_permission_stops_what_went_fast(fast: Site, near: str, far: str) -> None:
    with talk(fast.wan, near, fast.lan, far) as made:
        assert goes_fast(fast, made)
        fast.router.write(
            "all.yaml", policy(f"{{action: deny, ports: [{{port: {PORT}, protocol: UDP}}]}}")
        )
        in_force(fast.router, "all")
        assert not made.goes()
        fast.router.write("all.yaml", policy("{action: deny, ports: [{port: 7}]}"))
        in_force(fast.router, "all")
        assert made.goes() and made.goes()
        assert goes_fast(fast, made)


@pytest.mark.parametrize(("near", "far"), ENDS)
def test_others_rules_are_not_passed_by(fast: Site, near: str, far: str) -> None:
    family = "ip6" if ":" in near else "ip"
    with talk(fast.wan, near, fast.lan, far) as made:
        assert goes_fast(fast, made)
        chain = f"add chain {family} t c {{ type filter hook forward priority 0; }}"
        rule = f"add rule {family} t c udp dport {PORT} drop"
        fast.router.namespace.run("nft", f"add table {family} t; {chain}; {rule}")
        assert not made.goes(), "at once, and without the daemon"
        fast.router.namespace.run("nft", "flush ruleset")
        until(lambda: made.goes() and goes_fast(fast, made), 5)


def test_a_way_back_that_is_asked_for_is_checked_by_the_stack(fast: Site) -> None:
    with talk(fast.wan, ENDS[0][0], fast.lan, ENDS[0][1]) as made:
        assert goes_fast(fast, made)
        fast.router.namespace.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
        assert goes_the_long_way(fast, made)


@pytest.mark.parametrize(("near", "far"), ENDS)
def test_the_last_hop_is_told_by_the_stack(fast: Site, near: str, far: str) -> None:
    with talk(fast.wan, near, fast.lan, far) as made:
        v6 = ":" in near
        assert goes_fast(fast, made)
        level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
        made.near.setsockopt(level, socket.IPV6_UNICAST_HOPS if v6 else socket.IP_TTL, 1)
        made.near.setsockopt(level, 25 if v6 else 11, 1)
        made.near.send(b"?")
        with pytest.raises(OSError, match="No route to host"):
            made.near.recv(16)


@pytest.mark.parametrize(("near", "far"), ENDS)
def test_large_packets_are_told_by_the_stack(fast: Site, near: str, far: str) -> None:
    with talk(fast.wan, near, fast.lan, far) as made:
        assert goes_fast(fast, made)
        fast.router.ip("link", "set", "dev", "lan0", "mtu", "1300")
        v6 = ":" in near
        level, discover, size = (41, 23, 24) if v6 else (0, 10, 14)
        made.near.setsockopt(level, discover, 2)
        with suppress(OSError):
            made.near.send(bytes(1350))
            made.near.recv(16)
        assert made.near.getsockopt(level, size) == 1300
        assert made.goes(bytes(1200))


@pytest.mark.parametrize(("near", "far"), ENDS)
def test_a_changed_route_counts_at_once(fast: Site, near: str, far: str) -> None:
    family, bits = ("-6", 128) if ":" in near else ("-4", 32)
    with talk(fast.wan, near, fast.lan, far) as made:
        assert goes_fast(fast, made)
        fast.router.ip(family, "route", "add", "unreachable", f"{far}/{bits}")
        assert not made.goes()
        fast.router.ip(family, "route", "del", "unreachable", f"{far}/{bits}")
        assert made.goes()


def test_frames_for_others_are_not_forwarded(fast: Site) -> None:
    near, far = ENDS[0]
    with talk(fast.wan, near, fast.lan, far) as made:
        assert goes_fast(fast, made)
        port = made.near.getsockname()[1]
        packet = frames.ipv4(near, far, frames.UDP, frames.udp(port, PORT, b"stray"))
        frame = bytes.fromhex("02aabbccddee") + frames.ethernet(packet)[6:]
        with fast.wan.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            for _ in range(3):
                raw.send(frame)
        with pytest.raises(TimeoutError):
            made.far.recv(16)


def test_a_limited_rule_is_kept_by_the_long_way(fast: Site) -> None:
    near, far = ENDS[0]
    with talk(fast.wan, near, fast.lan, far, LIMITED) as made:
        assert goes_the_long_way(fast, made)


def test_what_is_shaped_is_not_passed_by(fast: Site) -> None:
    near, far = ENDS[0]
    with talk(fast.wan, near, fast.lan, far) as made:
        assert goes_fast(fast, made)
        words = ("root", "tbf", "rate", "10mbit", "burst", "10kb", "latency", "50ms")
        fast.router.namespace.run("tc", "qdisc", "add", "dev", "lan0", *words)
        fast.router.ctl("reconcile", "--wait")
        assert goes_the_long_way(fast, made)


def test_no_packet_is_lost_by_restarts_and_changed_rules(fast: Site) -> None:
    with steady_flow(fast.wan, fast.lan, *ENDS[0]) as flow:
        for number in range(1, 6):
            fast.router.write("all.yaml", policy(f"{{action: deny, ports: [{{port: {number}}}]}}"))
            in_force(fast.router, "all")
            fast.router.kill()
            fast.router.start()
        before = went_fast(fast)
        time.sleep(0.5)
        assert went_fast(fast) > before
    assert flow.lost() == []


def test_auto_joins_a_program_that_runs_anyway(site: Site) -> None:
    block = program("block", "wan0", f"{{blacklist: {{enabled: true, ips: ['{WAN4}.66']}}}}")
    begun(site, "auto", block=block)
    assert site.router.xdp("wan0") and not site.router.xdp("lan0")
    with talk(site.wan, ENDS[0][0], site.lan, ENDS[0][1]) as made:
        before = went_fast(site)
        assert all(made.goes() for _ in range(10))
        assert 8 <= went_fast(site) - before <= 10, "one way"
        assert not site.ping(source=f"{WAN4}.66")
        attached = site.router.xdp("wan0")
        site.router.write("all.yaml", policy("{action: deny, ports: [{port: 7}]}"))
        in_force(site.router, "all")
        assert site.router.xdp("wan0") == attached, "the chain stays as it is"
        assert made.goes()
        assert goes_fast(site, made) or went_fast(site) - before > 12
        (site.router.policy / "block.yaml").unlink()
        site.router.ctl("reconcile", "--wait")
        until(lambda: not site.router.xdp("wan0"), 5)
        assert made.goes()


@pytest.mark.parametrize(("near", "far"), ENDS)
def test_checksums_that_are_not_complete_go_the_long_way(fast: Site, near: str, far: str) -> None:
    with talk(fast.wan, near, fast.lan, far) as made:
        assert goes_fast(fast, made)
        for host in (fast.wan, fast.lan):
            like_a_wire(host, sums=False)
        assert goes_the_long_way(fast, made)


def test_no_frame_is_sent_where_none_is_taken(fast: Site) -> None:
    with talk(fast.wan, ENDS[0][0], fast.lan, ENDS[0][1]) as made:
        assert goes_fast(fast, made)
        for host in (fast.wan, fast.lan):
            like_a_wire(host, polls=False)
        until(lambda: made.goes() and goes_the_long_way(fast, made), 5, "the daemon hears of it")


def test_off_is_off(site: Site) -> None:
    begun(site, "off")
    assert not site.router.xdp("wan0")
