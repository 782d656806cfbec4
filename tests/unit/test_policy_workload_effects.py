"""Where programs change what workloads send: at every interface, while a policy wants it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from fos1d.compile.lists import ListStore
from fos1d.kernel.loader import object_digests
from fos1d.kinds.admission import Accepted
from fos1d.kinds.lowered import Context, Lowered
from fos1d.kinds.policy_lower import lower_policies
from fos1d.kinds.policy_workload_effects import CHANGING, CHANGING_ORDER
from fos1d.model.facts import Facts, Interface
from fos1d.model.objects import Attachment, Program
from fos1d.model.workload import Provider, Workload
from tests.manifests import declared, manifest

DB = Workload("db", "db", 1, Provider.STATIC)
BOX = Workload("box", "box", 2, Provider.STATIC, addresses=(ip_address("10.0.0.2"),))
INTERFACES = {
    found.name: found
    for found in (Interface("lo", 1, 772), Interface("eth0", 2), Interface("wg0", 3, 65534))
}
ON_WORKLOADS = "selector: {podSelector: {}}\n"
MARK, ROUTE = "[{action: mark, mark: 1}]", "policyType: routing\nroute: {mark: 1}\n"


def changed_at(workload: Workload, *specs: str) -> dict[str, int]:
    """Return the link header's bytes for which each interface has a program, by its name."""
    texts = [manifest("EBPFNetworkPolicy", spec, f"p{n}") for n, spec in enumerate(specs)]
    facts = Facts(INTERFACES, objects=object_digests(), workloads=(workload,))
    lowered = Lowered()
    here = [Accepted(found, {}, "r1") for found in declared(*texts)]
    lower_policies(here, Context(facts, ListStore()), lowered)
    objects = lowered.objects.values()
    programs = {p.path: p for p in objects if isinstance(p, Program) and p.code == CHANGING}
    return {
        found.interface: int(str(dict(programs[found.program].constants)["link_header_bytes"]))
        for found in objects
        if isinstance(found, Attachment) and found.order == CHANGING_ORDER
    }


@pytest.mark.parametrize(
    "spec", [f"policyType: qos\negress: {MARK}", ROUTE + "egress: [{action: log}, {}]"]
)
def test_every_interface_but_loopback_has_a_program(spec: str) -> None:
    assert changed_at(DB, ON_WORKLOADS + spec) == {"eth0": 14, "wg0": 0}


@pytest.mark.parametrize(
    ("workload", "spec"),
    [
        (DB, ON_WORKLOADS + f"policyType: qos\ningress: {MARK}"),
        (DB, ON_WORKLOADS + ROUTE + "egress: [{action: log}]"),
        (DB, ON_WORKLOADS + "policyType: filtering\negress: [{action: log}, {}]"),
        (DB, f"policyType: qos\negress: {MARK}"),
        (BOX, ON_WORKLOADS + f"policyType: qos\negress: {MARK}"),
    ],
)
def test_no_program_is_there_in_vain(workload: Workload, spec: str) -> None:
    assert changed_at(workload, spec) == {}
