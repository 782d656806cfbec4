"""EBPFNATPolicy: what is translated into what."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from fos1d.kinds.nat_policy import EBPFNATPolicy, NatPolicySpec
from fos1d.quantity import PortRange
from tests.manifests import found, manifest, resource

DNAT = "type: dnat\ninterface: eth0\nexternalIP: 192.0.2.1\n"


def spec(text: str) -> NatPolicySpec:
    return resource(EBPFNATPolicy, text).spec


def complaints(text: str) -> list[str]:
    return found(manifest("EBPFNATPolicy", text))


def test_defaults_are_the_rfcs() -> None:
    nat = spec("type: masquerade\ninterface: eth0")
    assert (nat.priority, nat.enable_tracking, nat.hairpin) == (100, True, True)
    assert (nat.mapping, nat.filtering) == ("endpoint-independent", "address-and-port")
    seconds = [
        time_ns // 10**9
        for time_ns in (
            nat.timeouts.udp,
            nat.timeouts.tcp_established,
            nat.timeouts.tcp_transitory,
            nat.timeouts.icmp,
        )
    ]
    assert seconds == [300, 7440, 240, 60]
    assert nat.prefix64 == IPv6Network("64:ff9b::/96")


def test_port_mappings() -> None:
    nat = spec(
        DNAT
        + """
portMappings:
  - {protocol: tcp, externalPort: 80, internalIP: 10.0.0.1, internalPort: 8080}
  - {protocol: udp, externalPort: "8000-8099", internalIP: 10.0.0.1, internalPort: 9000}
  - {protocol: tcp, externalPort: 443, backends: [{internalIP: 10.0.0.2, weight: 3}]}
"""
    )
    one, several, spread = nat.port_mappings
    assert (one.external_port, one.internal_port) == (PortRange(80, 80), PortRange(8080, 8080))
    assert several.external_port.count == 100
    assert [address for _, address in spread.servers()] == [IPv4Address("10.0.0.2")]


@pytest.mark.parametrize(
    "text",
    [
        "type: snat\nexternalIP: 192.0.2.1\nsourceAddresses: [10.0.0.0/8]",
        "type: snat\nexternalIP: 192.0.2.1\nsourceAddresses: [10.0.0.1]\nenableTracking: false",
        "type: full\nexternalIP: 192.0.2.1\nsourceAddresses: [10.0.0.1]",
        "type: full\nexternalIP: 192.0.2.1\n"
        "portMappings: [{protocol: tcp, externalPort: 80, internalIP: 10.0.0.1}]",
        "type: nat64",
        "type: nat64\nexternalIP: 192.0.2.1\nprefix64: 2001:db8::/32\nsourceAddresses: [fd00::/8]",
        "type: npt66\nexternalIP: '2001:db8::'\nsourceAddresses: ['fd00::/48']",
        "type: masquerade\nsourceAddresses: [10.0.0.0/8]\nexcludeAddresses: [10.1.0.0/16]",
    ],
)
def test_valid(text: str) -> None:
    assert complaints(f"interface: eth0\n{text}") == []


def test_one_of_several_sources() -> None:
    nat = spec("type: masquerade\ninterface: eth0\nsourceAddresses: [10.0.0.0/8, 192.0.2.1]")
    assert nat.source_addresses == (IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.1/32"))


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("tcp 80", "tcp 80", True),
        ("tcp 80", "udp 80", False),
        ("tcp 80-90", "tcp 90-99", True),
        ("tcp 80-90", "tcp 91", False),
        ("tcp 85", "tcp 80-90", True),
    ],
)
def test_mappings_of_one_port(one: str, other: str, clash: bool) -> None:
    mappings = "".join(
        f"  - {{protocol: {p}, externalPort: '{ports}', internalIP: 10.0.0.{i}}}\n"
        for i, (p, ports) in enumerate((one.split(), other.split()), 1)
    )
    said = complaints(f"{DNAT}portMappings:\n{mappings}")
    assert [line.split(" ", 1)[0] for line in said] == ["spec.portMappings[1].externalPort"] * clash
