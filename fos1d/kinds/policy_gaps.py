"""What a policy asks for and its places cannot give: said, so that nobody believes in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fos1d.abi import PlaceKind
from fos1d.kinds.admission import Accepted
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.lowered import Lowered
from fos1d.kinds.network_policy import EBPFNetworkPolicy, PolicyRule
from fos1d.kinds.policy_places import Places, selects
from fos1d.kinds.policy_workload_effects import effects_of, workloads_of
from fos1d.kinds.rules import Peer
from fos1d.model.facts import Facts
from fos1d.model.identity import ResourceId
from fos1d.model.workload import Workload

UNSEEN = (
    "what a workload forwards for others, or sends by packet sockets (CAP_NET_RAW), and what the"
    " kernel answers for it (pings, refused connections) does not pass its cgroup; a policy that"
    " selects its interface on this router holds for that too"
)
LIFELINES = (
    "{} without an address of its own answers for the router, so DHCP, DNS and the failsafe ports"
    " stay open to it; declare its addresses, or let no such workload be selected"
)
RECEIVED = (
    "a workload is where its packets end: nobody behind it reads a mark, and nothing routes them"
    " any more; select the interface that they come in by instead"
)
APART = (
    "what a workload in a network of its own sends has lost its socket where it leaves the router,"
    " and nothing tells whose it is; select the router's end of its link instead"
)
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
        if alive := _kept_alive(accepted, places):
            lowered.remark(accepted.id, LIFELINES.format(_shown(alive)))
        if not isinstance(resource, EBPFNetworkPolicy):
            continue
        for gap in _without_effect(accepted.id, resource, places):
            lowered.note(accepted.id, "NotEnforceable", gap)
        for gap in _unmatched(resource, facts):
            lowered.remark(accepted.id, gap)


def _kept_alive(accepted: Accepted, places: Places) -> list[str]:
    """Return the workloads to which lifelines stay open whatever a policy denies."""
    if not _denies(accepted.declaration.resource):
        return []
    chosen = places.selected[accepted.id]
    return [place.name for place in chosen if places.answers_for_router(place)]


def _denies(resource: object) -> bool:
    match resource:
        case EBPFContainerPolicy(spec=spec):
            controls = spec.network_controls
            return controls.controls("ingress") or controls.controls("egress")
        case EBPFNetworkPolicy(spec=network):
            return network.policy_type == "filtering" and any(network.directions())
        case _:
            return False


def _judges(resource: object) -> bool:
    match resource:
        case EBPFContainerPolicy(spec=spec):
            return _denies(resource) or spec.resource_limits.bandwidth_limits is not None
        case EBPFNetworkPolicy(spec=network):
            return any(rules is not None for _, rules in network.directions())
        case _:
            return False


def _without_effect(about: ResourceId, policy: EBPFNetworkPolicy, places: Places) -> Iterator[str]:
    """Yield the marks and routes that do nothing to workloads."""
    apart = workloads_of(about, places, apart=True)
    near = workloads_of(about, places, apart=False)
    for effect in effects_of(policy) if apart or near else ():
        if effect.way == "ingress":
            yield f"{effect}: {RECEIVED}"
        elif apart:
            yield f"{effect} on {_shown([place.name for place in apart])}: {APART}"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _unmatched(policy: EBPFNetworkPolicy, facts: Facts) -> Iterator[str]:
    """Yield the rules whose peers are workloads that no address tells from the router."""
    for way, rules in policy.spec.directions():
        for index, rule in enumerate(rules):
            names = sorted({w.name for w in _without_addresses(policy, rule, facts)})
            if names:
                yield (
                    f"{way}[{index}] does not match the peer {_shown(names)}, which has no address"
                    " of its own but uses the router's; select it by a policy of its own instead"
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
