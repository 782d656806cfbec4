"""Policies in the API: what they select, and what each of their rules has matched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fos1d.model.identity import ResourceId
from fos1d.report.desk import Details, RuleCount, WorkloadUse

Json = dict[str, Any]
KINDS = frozenset({"EBPFNetworkPolicy", "EBPFContainerPolicy"})


def policy_fields(about: ResourceId, details: Details | None) -> Json:
    """Return `appliedTo` and `metrics`, where the kernel was asked."""
    if details is None:
        return {}
    metrics = rule_metrics(details.rules)
    if about.kind == "EBPFContainerPolicy":
        metrics |= workload_metrics(details.workloads)
    return {"appliedTo": [_workload(use) for use in details.workloads], "metrics": metrics}


def rule_metrics(rules: Iterable[RuleCount]) -> Json:
    """Return the sums over all rules, and each rule's."""
    counted = list(rules)
    return {
        "matches": sum(rule.packets for rule in counted),
        "allows": sum(r.packets - r.exceeded for r in counted if r.action == "allow"),
        "drops": sum(r.packets if r.action == "deny" else r.exceeded for r in counted),
        "packets": sum(rule.packets for rule in counted),
        "bytes": sum(rule.bytes for rule in counted),
        "byRule": [_rule(rule) for rule in counted],
    }


def _rule(rule: RuleCount) -> Json:
    return {
        "direction": rule.direction,
        "index": rule.index,
        "description": rule.description,
        "action": rule.action,
        "origin": rule.written_in,
        "packets": rule.packets,
        "bytes": rule.bytes,
        "exceeded": rule.exceeded,
    }


def _workload(use: WorkloadUse) -> Json:
    shown: Json = {
        "podName": use.name,
        "namespace": use.namespace,
        "cgroup": use.cgroup,
        "cgroupId": use.cgroup_id,
    }
    return shown | ({"usage": dict(use.usage)} if use.usage else {})


def workload_metrics(workloads: Iterable[WorkloadUse]) -> Json:
    """Return the sums over all workloads of a container policy."""
    sums: dict[str, int] = dict.fromkeys(("bytesIn", "bytesOut", "connections", "blocked"), 0)
    for use in workloads:
        _add(sums, use.usage)
    return dict(sums)


def _add(sums: dict[str, int], usage: Mapping[str, int]) -> None:
    for name in sums:
        sums[name] += usage.get(name, 0)
