"""EBPFNetworkPolicy: rules, peers, ports, and what belongs to which type of policy."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from fos1d.kinds.network_policy import EBPFNetworkPolicy, NetworkPolicySpec
from fos1d.kinds.rules import unreachable
from fos1d.kinds.services import PORTS
from fos1d.quantity import PortRange
from tests.manifests import found, manifest, resource


def spec(text: str) -> NetworkPolicySpec:
    return resource(EBPFNetworkPolicy, text).spec


def complaints(text: str) -> list[str]:
    return found(manifest("EBPFNetworkPolicy", text))


def test_defaults() -> None:
    policy = spec("policyType: filtering\ningress: [{}]")
    assert (policy.priority, policy.stateful, policy.selector, policy.egress) == (
        1000,
        True,
        None,
        None,
    )
    assert policy.ingress is not None
    (rule,) = policy.ingress
    assert (rule.action, rule.peers, rule.ports, rule.matches_all) == ("allow", (), (), True)


def test_an_empty_list_is_not_an_absent_one() -> None:
    assert spec("policyType: filtering\ningress: []").ingress == ()
    assert dict(spec("policyType: filtering\negress: []").directions()) == {"egress": ()}


def test_rules() -> None:
    policy = spec("""
        policyType: filtering
        ingress:
          - from:
              - ipBlock: {cidr: 10.0.0.0/8, except: [10.9.0.0/16]}
              - podSelector: {matchLabels: {app: web}}
            ports:
              - {port: https}
              - {protocol: UDP, port: 5060, endPort: 5080}
              - {protocol: ICMP, icmpType: 0}
              - {protocol: SCTP}
            rateLimit: {bitsPerSecond: 1Mbit, burstSize: 32kb}
        """)
    assert policy.ingress is not None
    (rule,) = policy.ingress
    block = rule.peers[0].ip_block
    assert block is not None
    assert block.cidr == IPv4Network("10.0.0.0/8")
    assert block.except_ == (IPv4Network("10.9.0.0/16"),)
    assert [port.ports for port in rule.ports] == [
        PortRange(443, 443),
        PortRange(5060, 5080),
        None,
        None,
    ]
    assert rule.ports[2].icmp_type == 0
    assert rule.rate_limit is not None
    assert rule.rate_limit.bits_per_second == 1_000_000
    assert rule.rate_limit.burst_size == 32768


def test_routes() -> None:
    policy = spec("policyType: routing\ningress: [{}]\nroute: {nextHop: 192.0.2.1, mark: 0x10}")
    assert policy.route is not None
    assert policy.route.next_hop == IPv4Address("192.0.2.1")
    assert policy.route.mark == 16


def test_translation_in_place() -> None:
    policy = spec("""
        policyType: nat
        selector: {interfaces: [eth0]}
        nat: {type: masquerade}
        """)
    assert policy.nat is not None
    assert policy.nat.type == "masquerade"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policyType: nat", "spec.nat is required for policyType nat"),
        ("policyType: routing\ningress: []", "spec.route is required for policyType routing"),
        (
            "policyType: qos\negress: [{action: log}]",
            "spec.egress[0].action log does not belong to policyType qos, which marks and limits",
        ),
        (
            "policyType: filtering",
            "spec warning: does nothing: it has neither ingress nor egress rules",
        ),
    ],
)
def test_types(text: str, said: str) -> None:
    assert complaints(text) == [said]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], None),
        ([(True, True)], None),
        ([(True, False), (False, True)], None),
        ([(False, True), (True, True), (False, False), (True, True)], (2, 1)),
    ],
)
def test_unreachable_rules(
    rules: list[tuple[bool, bool]], expected: tuple[int, int] | None
) -> None:
    assert unreachable(rules) == expected


def test_services_have_one_port_each() -> None:
    assert PORTS["https"] == 443
    assert PORTS["postgresql"] == 5432
    assert all(1 <= port <= 65535 and name == name.lower() for name, port in PORTS.items())
