"""A workload that comes finds the rules and programs ready: only it is new."""

from __future__ import annotations

import pytest

from fos1d.compile.lists import ListStore
from fos1d.kernel.loader import object_digests
from fos1d.kinds.admission import Accepted
from fos1d.kinds.assemble import assemble
from fos1d.kinds.lowered import Context
from fos1d.model.facts import Facts
from fos1d.model.objects import KernelObject, Key
from fos1d.model.workload import Provider, Workload
from tests.manifests import declared, manifest

LABELS = {"app": "web"}
WEB = Workload("web", "web", 7, Provider.STATIC, labels=LABELS, trusted_labels=LABELS)
SELECTED = "selector: {podSelector: {matchLabels: {app: web}}}\n"


def objects_for(kind: str, spec: str, *workloads: Workload) -> dict[Key, KernelObject]:
    facts = Facts(objects=object_digests(), workloads=workloads)
    here = [Accepted(found, {}, "r1") for found in declared(manifest(kind, SELECTED + spec))]
    return dict(assemble(here, Context(facts, ListStore())).lowered.objects)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("EBPFNetworkPolicy", "policyType: filtering\ningress: [{ports: [{port: 80}]}]"),
        ("EBPFContainerPolicy", "networkControls: {enableEgressControl: true}"),
        ("EBPFContainerPolicy", "resourceLimits: {connectionLimits: {maxConnections: 9}}"),
        ("EBPFContainerPolicy", "deviceControl: {enableDeviceControl: true}"),
    ],
)
def test_programs_are_ready_before_the_first_workload(kind: str, spec: str) -> None:
    before, after = objects_for(kind, spec), objects_for(kind, spec, WEB)
    assert any(key.kind == "program" for key in before)
    assert {key.kind for key in after.keys() - before.keys()} == {"attachment"}
    assert not before.keys() - after.keys()
    changed = {key.kind for key in before if before[key] != after[key]}
    assert changed == {"entries"}
