"""Which policies hold where: on interfaces, and on workloads within workloads."""

from __future__ import annotations

from fos1d.kinds.admission import Accepted
from fos1d.kinds.policy_places import places_of
from fos1d.model.facts import Facts
from fos1d.model.workload import Provider, Workload
from tests.manifests import declared, manifest


def workload(path: str, number: int, trusted: bool = True, **labels: str) -> Workload:
    known = labels if trusted else {}
    return Workload(path, path, number, Provider.STATIC, labels=labels, trusted_labels=known)


def policies_at(*workloads: Workload) -> dict[str, dict[str, bool]]:
    """Return the policies of each place, and whether they may grant something there."""
    texts = [
        manifest(
            "EBPFContainerPolicy", f"selector: {{podSelector: {{matchLabels: {{{on}}}}}}}", on[0]
        )
        for on in ("a: x", "b: x")
    ]
    here = [Accepted(found, {}, "r1") for found in declared(*texts)]
    places = places_of(here, Facts(workloads=workloads))
    return {
        place.name: {policy.name: grants for policy, grants in places.subjects[number]}
        for place, number in places.numbers.items()
    }


def test_what_holds_for_a_cgroup_holds_below() -> None:
    found = policies_at(
        workload("s", 1, a="x"), workload("s/t/u", 2, b="x"), workload("st", 3, b="x")
    )
    assert found == {"s": {"a": True}, "s/t/u": {"a": True, "b": True}, "st": {"b": True}}


def test_nobody_escapes_from_a_slice_by_a_label() -> None:
    found = policies_at(workload(".", 1, a="x"), workload("u", 2, trusted=False, b="x", a="x"))
    assert found["u"] == {"a": True, "b": False}
