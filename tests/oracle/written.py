"""The oracle's policies as a manifest writes them, to be read by what is compared with it."""

from __future__ import annotations

from typing import Any

from tests.oracle.policy import Block, ContainerPolicy, NetworkPolicy, Policy, Ports, Rule

Document = dict[str, Any]

SELECTOR: Document = {"podSelector": {}}


def document_of(policy: Policy) -> Document:
    """Return the manifest of a policy, but for whom it selects."""
    match policy:
        case NetworkPolicy():
            return _document("EBPFNetworkPolicy", policy, _network_spec(policy))
        case ContainerPolicy():
            return _document("EBPFContainerPolicy", policy, _container_spec(policy))


def _document(kind: str, policy: Policy, spec: Document) -> Document:
    return {
        "apiVersion": "networking.fos1.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": policy.name, "namespace": policy.namespace},
        "spec": {"priority": policy.priority, "selector": SELECTOR, **spec},
    }


def _network_spec(policy: NetworkPolicy) -> Document:
    spec: Document = {"policyType": policy.kind, "stateful": policy.stateful}
    if policy.kind == "routing":
        spec["route"] = {"mark": 1}
    if policy.ingress is not None:
        spec["ingress"] = [_rule(rule, "from") for rule in policy.ingress]
    if policy.egress is not None:
        spec["egress"] = [_rule(rule, "to") for rule in policy.egress]
    return spec


def _rule(rule: Rule, peers: str) -> Document:
    written: Document = {
        peers: [{"ipBlock": _block(block)} for block in rule.peers],
        "ports": [_ports(ports) for ports in rule.ports],
        "action": rule.action,
    }
    if rule.mark is not None:
        written["mark"] = rule.mark
    if rule.limit is not None:
        written["rateLimit"] = {"bitsPerSecond": rule.limit.bits_per_s}
        if rule.limit.burst_bytes is not None:
            written["rateLimit"]["burstSize"] = rule.limit.burst_bytes
    return written


def _block(block: Block) -> Document:
    return {"cidr": str(block.cidr), "except": [str(inner) for inner in block.excepts]}


def _ports(ports: Ports) -> Document:
    fields = {"port": ports.port, "endPort": ports.end_port, "icmpType": ports.icmp_type}
    given = {name: value for name, value in fields.items() if value is not None}
    return {"protocol": ports.protocol, **given}


def _container_spec(policy: ContainerPolicy) -> Document:
    controls: Document = {
        "enableIngressControl": policy.enable_ingress_control,
        "enableEgressControl": policy.enable_egress_control,
        "ingressRules": [_workload_rule(rule) for rule in policy.ingress],
        "egressRules": [_workload_rule(rule) for rule in policy.egress],
    }
    if policy.default_ingress is not None:
        controls["defaultIngressAction"] = policy.default_ingress
    if policy.default_egress is not None:
        controls["defaultEgressAction"] = policy.default_egress
    return {"networkControls": controls}


def _workload_rule(rule: Rule) -> Document:
    written: Document = {"ports": [_ports(ports) for ports in rule.ports], "action": rule.action}
    if rule.peers:
        (block,) = rule.peers
        written["ipBlock"] = _block(block)
    return written
