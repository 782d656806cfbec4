"""Policies on the router itself, what they do to packets, and what is left when they go."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fos1d.kernel import bpf
from fos1d.kernel.attach import TCX_TYPES
from fos1d.kernel.libbpf import call
from fos1d.model.objects import Hook
from tests import lab
from tests.netns.conftest import LAN4, LAN6, WAN4, WAN6, Site
from tests.netns.sockets import family_of, is_answered
from tests.netns.talk import (
    connect,
    connects,
    echo,
    in_force,
    network_policy,
    remove,
    settled,
)
from tests.running import ROOT, until

pytestmark = pytest.mark.netns

IP_RECVERR, IP_RECVTOS, IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 11, 13, 10, 2, 14
DENY_ALL = network_policy("all", "  ingress: []\n  egress: []\n")


def start(site: Site, name: str, manifest: str) -> None:
    """Start the daemon with a policy and wait until that is in force."""
    site.router.write(f"{name}.yaml", manifest)
    settled(site.wan, site.router, site.lan)
    site.router.start()
    in_force(site.router, name)


@pytest.mark.parametrize(("near", "far"), [(f"{WAN4}.2", f"{WAN4}.1"), (f"{WAN6}:2", f"{WAN6}:1")])
def test_the_failsafe_port_outlives_any_policy(site: Site, near: str, far: str) -> None:
    start(site, "all", DENY_ALL)
    with echo(site.router.namespace, far, 22, 8080), echo(site.lan, f"{LAN4}.2", 22):
        made = connect(site.wan, near, far, 22)
        assert made and is_answered(made)
        assert not connects(site.wan, near, far, 8080)
        assert not connects(site.wan, f"{WAN4}.2", f"{LAN4}.2", 22), "only the router's own port"


def test_what_the_router_must_ask_is_answered(site: Site) -> None:
    site.router.settings = (
        '[reconcile]\nfailsafe_ports = ["in:udp:500", "out:udp:123", "out:tcp:443"]'
    )
    site.router.write_settings()
    start(site, "all", DENY_ALL)
    far, own = f"{WAN4}.2", f"{WAN4}.1"
    with echo(site.wan, far, 443, 444), echo(site.router.namespace, own, 22):
        made = connect(site.router.namespace, own, far, 443)
        assert made and is_answered(made)
        assert not connects(site.router.namespace, own, far, 444)
        assert not connects(site.wan, far, own, 22), "it is not in the list any more"
    assert exchanged(udp(site.router.namespace, own), udp(site.wan, far, 123))
    assert not exchanged(udp(site.router.namespace, own), udp(site.wan, far, 124))
    assert exchanged(udp(site.wan, far), udp(site.router.namespace, own, 500))
    assert not exchanged(udp(site.wan, far, 123), udp(site.router.namespace, own, 600))


def exchanged(asks: socket.socket, answers: socket.socket) -> bool:
    """Whether a datagram arrives and is answered."""
    answers.settimeout(0.5)
    asks.settimeout(0.5)
    try:
        asks.sendto(b"?", answers.getsockname())
        _, peer = answers.recvfrom(16)
        answers.sendto(b"!", peer)
        return asks.recv(16) == b"!"
    except TimeoutError:
        return False


def udp(host: lab.Namespace, address: str, port: int = 0) -> socket.socket:
    """Open a UDP socket in a host."""
    with host.entered():
        made = socket.socket(family_of(address), socket.SOCK_DGRAM)
    made.settimeout(1)
    made.bind((address, port))
    return made


def refused(made: socket.socket, dest: str, port: int) -> bool:
    """Whether an ICMP error says that nobody listens."""
    made.connect((dest, port))
    try:
        made.send(b"?")
        made.recv(1)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    return False


@pytest.mark.parametrize(
    ("inside", "outside"), [(f"{LAN4}.2", f"{WAN4}.2"), (f"{LAN6}:2", f"{WAN6}:2")]
)
def test_icmp_errors_about_allowed_flows_pass(site: Site, inside: str, outside: str) -> None:
    start(
        site,
        "wan",
        network_policy(
            "wan",
            "  selector: {interfaces: [wan0]}\n  ingress: []\n"
            "  egress:\n    - ports: [{protocol: UDP, port: 9}]\n",
        ),
    )
    assert refused(udp(site.lan, inside), outside, 9)
    assert not refused(udp(site.lan, inside), outside, 10)


def test_the_router_tells_how_large_packets_may_be(site: Site) -> None:
    site.router.ip("link", "set", "dev", "lan0", "mtu", "1300")
    start(
        site,
        "wan",
        network_policy(
            "wan",
            "  selector: {interfaces: [wan0]}\n"
            "  ingress:\n    - ports: [{protocol: UDP, port: 9}]\n  egress: []\n",
        ),
    )
    made = udp(site.wan, f"{WAN4}.2")
    made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    made.connect((f"{LAN4}.2", 9))
    assert made.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1500
    made.send(bytes(1400))
    until(lambda: made.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1300, 2)


def test_a_mark_is_on_the_wire(site: Site) -> None:
    start(
        site,
        "voice",
        network_policy(
            "voice",
            "  selector: {interfaces: [wan0]}\n"
            "  ingress:\n"
            "    - ports: [{protocol: UDP, port: 5060}]\n      action: mark\n      mark: 46\n",
            "qos",
        ),
    )
    server = udp(site.lan, f"{LAN4}.2", 5060)
    server.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
    sender = udp(site.wan, f"{WAN4}.2")
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x01)
    sender.sendto(b"?", (f"{LAN4}.2", 5060))
    _, ancillary, _, _ = server.recvmsg(16, 64)
    assert ancillary[0][2][0] == 46 << 2 | 0x01, "the DSCP, and the ECN bits as they were"


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_a_rate_limit_is_kept(site: Site, kind: str) -> None:
    start(
        site,
        "wan",
        network_policy(
            "wan",
            "  selector: {interfaces: [wan0]}\n"
            "  ingress:\n"
            f"    - ports: [{{protocol: {kind.upper()}, port: 5001}}]\n"
            "      rateLimit: {bitsPerSecond: 10Mbit, burstSize: 256kb}\n",
        ),
    )
    python = (sys.executable, "-m", "tests.stream")
    ends = {"cwd": ROOT, "stdout": subprocess.PIPE}
    far = f"{LAN4}.2"
    receiver = site.lan.popen(*python, "receive", kind, far, "5001", "1", "4", **ends)
    assert receiver.stdout and receiver.stdout.readline() == b"ready\n"
    sender = site.wan.popen(*python, "send", kind, far, "5001", "6", "30e6", "2", "", **ends)
    try:
        payload = float(receiver.communicate(timeout=30)[0])
    finally:
        sender.kill()
        sender.wait()
    wire = payload * 8 * (1442 / 1400 if kind == "udp" else 1514 / 1448)
    # What exceeds the rate is dropped, not delayed: TCP keeps below it.
    assert (0.9 if kind == "udp" else 0.3) <= wire / 10e6 <= 1.1, wire
    metrics = site.router.json("get", "enpol/wan")["status"]["metrics"]
    assert 0 < metrics["drops"] == metrics["byRule"][0]["exceeded"] < metrics["matches"]
    assert metrics["allows"] + metrics["drops"] == metrics["matches"]


def test_a_route_sends_to_another_next_hop(site: Site) -> None:
    with lab.namespaces("alt") as (alt,):
        lab.veth(alt, "eth0", site.router.namespace, "alt0")
        lab.address(alt, "eth0", "10.9.0.2/24", f"{LAN4}.2/32")
        lab.address(site.router.namespace, "alt0", "10.9.0.1/24")
        alt.ip("route", "add", "default", "via", "10.9.0.1")
        start(
            site,
            "detour",
            network_policy(
                "detour",
                "  selector: {interfaces: [wan0]}\n"
                "  route: {nextHop: 10.9.0.2}\n"
                "  ingress:\n    - ports: [{protocol: UDP, port: 7000}]\n",
                "routing",
            ),
        )
        near, far = udp(site.lan, f"{LAN4}.2", 7000), udp(alt, f"{LAN4}.2", 7000)
        also = udp(site.lan, f"{LAN4}.2", 7001)
        sender = udp(site.wan, f"{WAN4}.2")
        for port in (7000, 7001):
            sender.sendto(b"?", (f"{LAN4}.2", port))
        assert far.recv(8) == b"?" and also.recv(8) == b"?"
        assert not select.select([near], [], [], 0.2)[0]


def test_an_interface_that_appears_is_policed_within_a_second(site: Site) -> None:
    start(site, "all", DENY_ALL.replace("spec:\n", "spec:\n  selector: {interfaces: ['late*']}\n"))
    with lab.namespaces("new") as (new,), echo(site.lan, f"{LAN4}.2", 8080):
        lab.veth(new, "eth0", site.router.namespace, "late0")
        lab.address(new, "eth0", "10.8.0.2/24")
        lab.address(site.router.namespace, "late0", "10.8.0.1/24")
        new.ip("route", "add", "default", "via", "10.8.0.1")
        until(lambda: list((site.router.bpffs / "link").rglob("*late0*")), 3)
        assert not connects(new, "10.8.0.2", f"{LAN4}.2", 8080)
    assert site.ping(), "the others are open"


STRANGER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int stranger(struct __sk_buff *skb) { return -1; }
char LICENSE[] SEC("license") = "GPL";
"""


def foreign_program(folder: Path) -> Path:
    """Compile a program that lets everything on."""
    (folder / "stranger.c").write_text(STRANGER)
    triple = lab.command("gcc", "-print-multiarch").strip()
    words = ["clang-19", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{triple}"]
    lab.command(*words, "-c", str(folder / "stranger.c"), "-o", str(folder / "stranger.o"))
    return folder / "stranger.o"


@contextmanager
def attached_by_tcx(host: lab.Namespace, pin: Path, interface: str) -> Iterator[None]:
    """Have a stranger's program on an interface."""
    with host.entered(), bpf.get(pin) as program:
        index = socket.if_nametoindex(interface)
        kind = TCX_TYPES[Hook.TC_INGRESS]
        link = call("bpf_link_create", program.number, index, kind, None, what="attach a stranger")
    try:
        yield
    finally:
        os.close(link)


def on_ingress(host: lab.Namespace, interface: str) -> list[str]:
    """Return the names of the programs that TCX runs there, in order."""
    ids = (ctypes.c_uint32 * 16)()
    with host.entered():
        index = socket.if_nametoindex(interface)
        where = (index, TCX_TYPES[Hook.TC_INGRESS], 0, 0, ctypes.addressof(ids), len(ids))
        query = struct.pack("=IIIIQI", *where)
        answer = bpf.syscall(bpf.BPF_PROG_QUERY, query, "ask for tcx")
    (count,) = struct.unpack_from("=I", answer, 24)
    return [name_of(number) for number in ids[:count]]


def name_of(number: int) -> str:
    """Return a program's name."""
    fd = bpf.program_by_id(number)
    assert fd is not None
    with fd:
        return bpf.program_info(fd).name


def test_a_policy_that_goes_leaves_nothing_and_strangers_stay(site: Site, tmp_path: Path) -> None:
    router = site.router
    pin = router.bpffs.parent / f"{router.bpffs.name}-stranger"
    lab.command("bpftool", "prog", "load", str(foreign_program(tmp_path)), str(pin))
    with attached_by_tcx(router.namespace, pin, "wan0"):
        start(site, "all", DENY_ALL)
        assert not site.ping()
        assert set(on_ingress(router.namespace, "wan0")) == {"stranger", "fos1_tc_policy_"}
        remove(router, "all.yaml")
        assert on_ingress(router.namespace, "wan0") == ["stranger"]
        assert site.ping()


def test_purge_opens_the_router(site: Site) -> None:
    start(site, "all", DENY_ALL)
    site.router.stop()
    assert not site.ping()
    words = (str(ROOT / ".venv/bin/fos1d"), "purge", "--config", str(site.router.config))
    site.router.namespace.run(*words)
    assert site.ping()
    assert not any(path.is_file() for path in site.router.bpffs.rglob("*"))
