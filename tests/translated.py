"""Translations lowered without a kernel, for tests to look at what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import numpy as np
import numpy.typing as npt

from fos1d import abi
from fos1d.abi import NatWay
from fos1d.compile.lists import ListStore
from fos1d.kernel.loader import object_digests
from fos1d.kinds.admission import Accepted
from fos1d.kinds.assemble import Assembled, assemble
from fos1d.kinds.lowered import Context
from fos1d.kinds.nat_tables import NatStore
from fos1d.model.condition import Condition
from fos1d.model.facts import Facts, Features, Interface, Rival
from fos1d.model.identity import ResourceId
from fos1d.model.objects import Attachment, Entries, Program
from tests.manifests import declared

OUT4, OUT6 = IPv4Address("203.0.113.1"), IPv6Address("2001:db8:f::1")
WAN = Interface("wan0", 3, redirects=True, takes_frames=True, addresses=(OUT4, OUT6))
LAN = Interface("lan0", 2, redirects=True, takes_frames=True)
PORT_OF_BRIDGE = Interface("tap0", 5, is_port=True)
LOOPBACK = Interface("lo", 1, link_type=772)
PLAIN = Features()
INTERFACES = (WAN, LAN, PORT_OF_BRIDGE, LOOPBACK)
DNAT = """
  type: dnat
  interface: wan0
  externalIP: 203.0.113.1
  portMappings:
"""


def nat(name: str, spec: str, kind: str = "EBPFNATPolicy") -> str:
    """A manifest; a spec of one line is written in braces."""
    head = f"apiVersion: networking.fos1.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {spec}\n"


def assembled(
    *manifests: str,
    interfaces: Sequence[Interface] = INTERFACES,
    features: Features = PLAIN,
    store: NatStore | None = None,
    rivals: tuple[Rival, ...] = (),
    forwards: Mapping[int, bool] | None = None,
) -> Assembled:
    """Lower manifests."""
    by_name = {found.name: found for found in interfaces}
    facts = Facts(by_name, features, object_digests(), rivals=rivals)
    facts = replace(facts, forwards=forwards if forwards is not None else {4: True, 6: True})
    here = [Accepted(found, {}, "r1") for text in manifests for found in declared(text)]
    return assemble(here, Context(facts, ListStore(), nats=store or NatStore()))


def held(made: Assembled, name: str) -> dict[bytes, bytes]:
    """Return the entries of a map of rules, by key."""
    for found in made.lowered.objects.values():
        if isinstance(found, Entries) and found.map.split("/")[2].startswith(f"{name}-"):
            size = found.key_bytes + found.value_bytes
            rows = [found.packed[at : at + size] for at in range(0, len(found.packed), size)]
            return {row[: found.key_bytes]: row[found.key_bytes :] for row in rows}
    return {}


def read(kind: abi.Record, raw: bytes) -> npt.NDArray[np.void]:
    """Return one record of the ABI."""
    return np.frombuffer(raw, np.dtype(kind))


def sources(made: Assembled) -> dict[str, str]:
    """Return whose the IPv4 sources are at their interface: network -> name, "" nobody's."""
    found = {}
    for key, value in held(made, "nat_sources4").items():
        record = read(abi.NAT_SOURCE4, key)
        bits = int(record["prefix_bits"][0]) - 32
        network = f"{record['interface'][0]}:{ip_address(int(record['address'][0]))}/{bits}"
        rule = made.nats.rules.get(int.from_bytes(value, "little"))
        found[network] = rule.policy.name if rule else ""
    return found


def ports(made: Assembled, way: NatWay) -> dict[str, str]:
    """Return where the declared ports of IPv4 lead."""
    found = {}
    for key, value in held(made, "nat_ports4").items():
        record, leads = read(abi.NAT_PORT4_KEY, key), read(abi.NAT_PORT4, value)
        if record["way"] == way:
            end = f"{ip_address(int(record['address'][0]))}:{record['port'][0]}"
            other = f"{ip_address(int(leads['address'][0]))}:{leads['port'][0]}"
            found[f"{record['protocol'][0]} {end}"] = other
    return found


def attached(made: Assembled) -> set[tuple[str, str, int, str]]:
    """Return what is attached where: interface, hook, order, function."""
    objects = made.lowered.objects.values()
    functions = {p.path: getattr(p.code, "function", "") for p in objects if isinstance(p, Program)}
    return {
        (a.interface, str(a.hook), a.order, functions[a.program])
        for a in objects
        if isinstance(a, Attachment)
    }


def note(made: Assembled, name: str, kind: str = "EBPFNATPolicy") -> Condition | None:
    """Return the first note about a policy."""
    notes = made.lowered.notes.get(ResourceId(kind, "default", name), [None])
    return notes[0]


MASQUERADE = nat("home", "{type: masquerade, interface: wan0, sourceAddresses: [10.0.0.0/8]}")
BALANCED = (
    DNAT
    + """
    - protocol: tcp
      externalPort: 443
      backends:
        - {internalIP: 10.0.0.10, internalPort: 8443, weight: 0}
        - {internalIP: 10.0.0.11}
"""
)
