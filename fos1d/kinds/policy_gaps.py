"""What a policy asks for and its places cannot give: said, so that nobody believes in it.

A cgroup's programs see the packets of its sockets, and cannot change them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fos1d.abi import PlaceKind
from fos1d.kinds.admission import Accepted
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.lowered import Lowered
from fos1d.kinds.network_policy import EBPFNetworkPolicy, PolicyRule
from fos1d.kinds.policy_places import Places, selects
from fos1d.kinds.rules import Peer
from fos1d.model.facts import Facts
from fos1d.model.workload import Workload

UNSEEN = (
    "what a workload forwards for others, or sends by packet sockets (CAP_NET_RAW), does not pass"
    " its cgroup; a policy that selects its interface on this router holds for that too"
)
UNCHANGED = "a cgroup's programs cannot change or redirect packets; select interfaces instead"
MOST_NAMED = 3


def tell_gaps(active: Sequence[Accepted], places: Places, facts: Facts, lowered: Lowered) -> None:
    """Say of each policy what is not enforced; `active` are those that select something."""
    for accepted in active:
        resource = accepted.declaration.resource
        on_workloads = any(
            place.kind is PlaceKind.PLACE_CGROUP for place in places.selected[accepted.id]
        )
        if on_workloads and _judges(resource):
            lowered.remark(accepted.id, UNSEEN)
        if not isinstance(resource, EBPFNetworkPolicy):
            continue
        for where in _changes(resource) if on_workloads else ():
            lowered.note(accepted.id, "NotEnforceable", f"{where}: {UNCHANGED}")
        for gap in _unmatched(resource, facts):
            lowered.remark(accepted.id, gap)


def _judges(resource: object) -> bool:
    match resource:
        case EBPFContainerPolicy(spec=spec):
            controls, limits = spec.network_controls, spec.resource_limits.bandwidth_limits
            return controls.controls("ingress") or controls.controls("egress") or limits is not None
        case EBPFNetworkPolicy(spec=network):
            return any(rules is not None for _, rules in network.directions())
        case _:
            return False


def _changes(policy: EBPFNetworkPolicy) -> Iterator[str]:
    """Yield what would have to change packets, or send them elsewhere."""
    if policy.spec.policy_type == "routing":
        yield "policyType routing"
        return
    for way, rules in policy.spec.directions():
        yield from (f"{way}[{n}]: mark" for n, rule in enumerate(rules) if rule.action == "mark")


def _unmatched(policy: EBPFNetworkPolicy, facts: Facts) -> Iterator[str]:
    """Yield the rules whose peers are workloads that no address tells from the router."""
    for way, rules in policy.spec.directions():
        for index, rule in enumerate(rules):
            names = sorted({w.name for w in _without_addresses(policy, rule, facts)})
            if names:
                more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
                shown = ", ".join(names[:MOST_NAMED]) + more
                yield (
                    f"{way}[{index}] does not match the peer {shown}, which has no address of its"
                    " own but uses the router's; select it by a policy of its own instead"
                )


def _without_addresses(
    policy: EBPFNetworkPolicy, rule: PolicyRule, facts: Facts
) -> Iterator[Workload]:
    namespace = policy.metadata.namespace
    for workload in facts.workloads:
        if workload.addresses:
            continue
        if any(_is_peer(peer, namespace, workload) for peer in rule.peers):
            yield workload


def _is_peer(peer: Peer, namespace: str, workload: Workload) -> bool:
    if peer.ip_block is not None:
        return False
    chosen = peer.pod_selector, peer.namespace_selector
    return selects(*chosen, namespace, workload, workload.labels)
