"""Who is where in the tests of NAT, and rules that many of them have."""

from __future__ import annotations

from dataclasses import dataclass

from tests import frames as f
from tests.kernel.nat_rig import POLICY, Nat, Rules, words

PORT, ADDRESS, ANY = 0, 1, 2
DROPPED = ("dropped", 0)
End = tuple[str, int]


@dataclass(frozen=True)
class Place:
    """Who is where, in one family."""

    family: int
    inside: str
    second: str
    far: str
    other: str
    outside: str
    stranger: str
    prefix: str


V4 = Place(
    4,
    "10.0.0.7",
    "10.0.0.8",
    "192.0.2.9",
    "192.0.2.10",
    "203.0.113.1",
    "172.16.0.1",
    "10.0.0.0/8",
)
V6 = Place(
    6,
    "fd00::7",
    "fd00::8",
    "2001:db8:9::9",
    "2001:db8:9::a",
    "2001:db8::1",
    "2001:db8:5::1",
    "fd00::/8",
)


def masquerade(at: Place, **policy: int) -> Rules:
    """Return the rules by which the inside has one outside address."""
    name = f"external{at.family}"
    rule = {name: words(at.outside), "flags": 1, **policy}
    return Rules({POLICY: rule}, [(at.prefix, POLICY)], outsides=[(at.outside, POLICY)])


def declared(at: Place, port: int, inside: End, **more: int) -> Rules:
    """Return masquerade and one declared port of TCP."""
    rules = masquerade(at)
    given = {"address": words(inside[0]), "port": inside[1], **more}
    rules.ports.append(("in", at.outside, port, f.TCP, given))
    return rules


def full(at: Place, flags: int = 0) -> Rules:
    """Return the rules of one address for another, both ways."""
    rules = masquerade(at)
    rules.ports = [
        ("in", at.outside, 0, 0, {"address": words(at.inside), "flags": flags}),
        ("out", at.inside, 0, 0, {"address": words(at.outside), "flags": flags}),
    ]
    return rules


def source(nat: Nat, sent: bytes, own: bool = False) -> End:
    """Send a packet out; return the source that it has then."""
    seen = nat.out(sent, own)
    return (seen.source, seen.sport) if seen else DROPPED


def dest(nat: Nat, sent: bytes) -> End:
    """Let a packet come in; return the destination that it has then."""
    seen = nat.come(sent)
    return (seen.dest, seen.dport) if seen else DROPPED


def ends(nat: Nat, sent: bytes) -> tuple[End, End]:
    """Turn a packet round at inside interfaces; return its ends then."""
    seen = nat.turn(sent)
    return ((seen.source, seen.sport), (seen.dest, seen.dport)) if seen else (DROPPED, DROPPED)
