"""A household behind one router: two inside networks, the router, its provider, hosts beyond.

    a (lan0) ─┐
              ├─ router ── wan0 ── provider ── far
    b (lan1) ─┘

The provider knows no inside network, and counts the packets that show an inside address.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import lab
from tests.netns.forked import forked
from tests.running import Router, router

WAN = "wan0"
LINK_BITS = {4: 24, 6: 64}
# What else a kernel would hold back of the errors that tests count.
SPEAKS = ("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
FORWARDS = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The lab in one family. `a` and `a2` are one host, so are `far` and `far2`."""

    version: int
    inside: str
    a: str
    a2: str
    gate_a: str
    b: str
    gate_b: str
    outside: str
    second: str
    provider: str
    gate_far: str
    far: str
    far2: str

    @property
    def everything(self) -> str:
        """All networks."""
        return "0.0.0.0/0" if self.version == 4 else "::/0"

    @property
    def of_router(self) -> tuple[str, str]:
        """The router's outside addresses, in the order in which the first is what masquerade takes:
        of IPv6 the kernel lists the newest first."""
        both = (self.outside, self.second)
        return both if self.version == 4 else both[::-1]

    @property
    def host_bits(self) -> int:
        """The length of a whole address."""
        return 32 if self.version == 4 else 128


V4 = Addresses(
    4,
    inside="10.0.0.0/15",
    a="10.0.0.2",
    a2="10.0.0.3",
    gate_a="10.0.0.1",
    b="10.1.0.2",
    gate_b="10.1.0.1",
    outside="203.0.113.1",
    second="203.0.113.9",
    provider="203.0.113.254",
    gate_far="198.51.100.1",
    far="198.51.100.2",
    far2="198.51.100.3",
)
V6 = Addresses(
    6,
    inside="2001:db8:a000::/35",
    a="2001:db8:a000::2",
    a2="2001:db8:a000::3",
    gate_a="2001:db8:a000::1",
    b="2001:db8:b000::2",
    gate_b="2001:db8:b000::1",
    outside="2001:db8:113::1",
    second="2001:db8:113::9",
    provider="2001:db8:113::fe",
    gate_far="2001:db8:c6::1",
    far="2001:db8:c6::2",
    far2="2001:db8:c6::3",
)
FAMILIES = (V4, V6)


@dataclass(frozen=True)
class Household:
    """The lab."""

    a: lab.Namespace
    b: lab.Namespace
    middle: lab.Namespace
    provider: lab.Namespace
    far: lab.Namespace
    router: Router

    def leaked(self) -> int:
        """Return how many packets with an inside address have left."""
        listed = self.provider.run("nft", "-j", "list", "counters", "table", "inet", "leaks")
        found = (entry.get("counter") for entry in json.loads(listed)["nftables"])
        return sum(counter["packets"] for counter in found if counter)

    def finish_checksums(self) -> None:
        """Have hosts make whole checksums themselves, as on a wire, and check what comes."""
        for host in (self.a, self.b, self.far):
            host.run("ethtool", "-K", "eth0", "tx", "off", "rx", "off")


@contextmanager
def household(bpffs: Path, folder: Path) -> Iterator[Household]:
    """Make the lab; nothing is translated yet."""
    with lab.namespaces("a", "b", "rt", "isp", "far") as (a, b, middle, provider, far):
        _join(a, b, middle, provider, far)
        for at in FAMILIES:
            _number(at, a, b, middle, provider, far)
        for host in (a, b, middle, provider, far):
            host.run("sysctl", "-qw", *SPEAKS)
        for host in (middle, provider):
            host.run("sysctl", "-qw", *FORWARDS)
        _count_leaks(provider)
        with router(middle, folder, bpffs, launch=forked) as made:
            yield Household(a, b, middle, provider, far, made)


def _join(
    a: lab.Namespace,
    b: lab.Namespace,
    middle: lab.Namespace,
    provider: lab.Namespace,
    far: lab.Namespace,
) -> None:
    lab.veth(a, "eth0", middle, "lan0")
    lab.veth(b, "eth0", middle, "lan1")
    lab.veth(middle, WAN, provider, "near")
    lab.veth(provider, "beyond", far, "eth0")


def _number(
    at: Addresses,
    a: lab.Namespace,
    b: lab.Namespace,
    middle: lab.Namespace,
    provider: lab.Namespace,
    far: lab.Namespace,
) -> None:
    for host, interface, addresses in (
        (a, "eth0", (at.a, at.a2)),
        (b, "eth0", (at.b,)),
        (middle, "lan0", (at.gate_a,)),
        (middle, "lan1", (at.gate_b,)),
        (middle, WAN, at.of_router),
        (provider, "near", (at.provider,)),
        (provider, "beyond", (at.gate_far,)),
        (far, "eth0", (at.far, at.far2)),
    ):
        lab.address(host, interface, *(f"{one}/{LINK_BITS[at.version]}" for one in addresses))
    gates = ((a, at.gate_a), (b, at.gate_b), (middle, at.provider), (far, at.gate_far))
    for host, gate in gates:
        host.ip("route", "add", "default", "via", gate)


def _count_leaks(provider: lab.Namespace) -> None:
    rules = (
        f"iifname near {family} saddr {at.inside} counter name seen"
        for at, family in ((V4, "ip"), (V6, "ip6"))
    )
    hook = "type filter hook prerouting priority raw;"
    chain = "\n".join(("chain arrived {", hook, *rules, "}"))
    provider.run("nft", f"table inet leaks {{\ncounter seen {{ }}\n{chain}\n}}")
