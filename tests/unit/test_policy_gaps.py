"""What a policy cannot do on its places is said."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from fos1d.kinds.lowered import Lowered
from fos1d.kinds.policy_gaps import APART, LIFELINES, RECEIVED, UNSEEN
from fos1d.model.workload import Provider, Workload
from tests.limited import lowered_policies
from tests.manifests import manifest

DB = Workload("db", "db", 1, Provider.STATIC)
BOX = Workload("box", "box", 2, Provider.STATIC, addresses=(ip_address("10.0.0.2"),))


OPEN = LIFELINES.format("db")


def lowered(kind: str, spec: str) -> Lowered:
    return lowered_policies([DB, BOX], manifest(kind, "selector: {podSelector: {}}\n" + spec))


def remarks(found: Lowered) -> list[str]:
    return [remark for said in found.remarks.values() for remark in said]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("networkControls: {enableEgressControl: true}", [UNSEEN, OPEN]),
        ("resourceLimits: {bandwidthLimits: {egressBitsPerSecond: 1Mbit}}", [UNSEEN]),
        ("resourceLimits: {}", []),
    ],
)
def test_what_passes_no_cgroup_is_said_where_packets_are_judged(spec: str, said: list[str]) -> None:
    assert remarks(lowered("EBPFContainerPolicy", spec)) == said


def test_a_peer_without_addresses_is_named() -> None:
    spec = "policyType: filtering\ningress: [{action: deny, from: [{podSelector: {}}]}]"
    unseen, opened, unmatched = remarks(lowered("EBPFNetworkPolicy", spec))
    assert (unseen, opened) == (UNSEEN, OPEN)
    assert unmatched.startswith("ingress[0] does not match the peer db, which has no address")


MARK, ROUTE = "[{action: mark, mark: 10}]", "policyType: routing\nroute: {mark: 1}\n"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (f"policyType: qos\negress: {MARK}", f"egress[0]: mark on box: {APART}"),
        (f"policyType: qos\ningress: {MARK}", f"ingress[0]: mark: {RECEIVED}"),
        (f"{ROUTE}egress: [{{}}]", f"egress[0]: policyType routing on box: {APART}"),
        (f"{ROUTE}ingress: [{{}}]", f"ingress[0]: policyType routing: {RECEIVED}"),
    ],
)
def test_what_would_change_packets_in_vain_is_not_called_programmed(spec: str, said: str) -> None:
    ((note,),) = lowered("EBPFNetworkPolicy", spec).notes.values()
    assert (note.reason, note.message) == ("NotEnforceable", said)


@pytest.mark.parametrize("spec", [f"policyType: qos\negress: {MARK}", f"{ROUTE}egress: [{{}}]"])
def test_what_a_workload_with_the_routers_addresses_sends_is_changed(spec: str) -> None:
    selected = manifest("EBPFNetworkPolicy", "selector: {podSelector: {}}\n" + spec)
    assert lowered_policies([DB], selected).notes == {}
