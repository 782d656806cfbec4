"""EBPFNetworkPolicy and EBPFContainerPolicy -> the ordered rules of each chain.

Rules stand in the order in which they decide: by their policy's priority, then its name space and
name, then their position. Who a policy selects and where its peers are is asked of the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeAlias

from fos1d.abi import PlaceFlag, PolicyAction, PolicyChain
from fos1d.compile.policy_model import (
    Block,
    Limit,
    Network,
    Peers,
    Route,
    Rule,
    Service,
    peers_of,
)
from fos1d.kinds.container_policy import EBPFContainerPolicy, Way, WorkloadRule
from fos1d.kinds.network_policy import EBPFNetworkPolicy, PolicyRule
from fos1d.kinds.network_policy import Route as RouteSpec
from fos1d.kinds.rules import IpBlock, Peer, PortRule, RateLimit
from fos1d.manifest import Loc
from fos1d.model.identity import Origin, ResourceId

Policy: TypeAlias = EBPFNetworkPolicy | EBPFContainerPolicy
AnyRule: TypeAlias = PolicyRule | WorkloadRule
WAYS: tuple[Way, ...] = ("ingress", "egress")
CHAINS = tuple(chain for chain in PolicyChain if chain is not PolicyChain.CHAINS)

# Where the addresses of a peer's workloads are asked for: the peer, the name space of the policy,
# and whether the rule grants something, which labels of untrusted providers must not.
AddressesOf: TypeAlias = Callable[[Peer, str, bool], Iterable[Network]]
RouteOf: TypeAlias = Callable[[RouteSpec], Route]

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58}
NETWORK_CHAINS = {"ingress": PolicyChain.CHAIN_IN, "egress": PolicyChain.CHAIN_OUT}
CONTAINER_CHAINS = {"ingress": PolicyChain.CHAIN_RECEIVE, "egress": PolicyChain.CHAIN_SEND}

# What labels that nobody vouches for must not bring about.
GRANTING = frozenset({PolicyAction.ACT_ALLOW, PolicyAction.ACT_MARK, PolicyAction.ACT_ROUTE})

# Without burstSize: 20 ms at the declared rate, and room for one large segment at least.
BURSTS_PER_S = 50
LEAST_BURST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Selected:
    """A policy in force, the numbers of the places that it selects, and where it is written.

    `restricted` are those of them that it may only restrict.
    """

    resource: Policy
    subjects: frozenset[int]
    where: Callable[[Loc], Origin] = field(compare=False, repr=False)
    restricted: frozenset[int] = frozenset()

    def subjects_of(self, action: PolicyAction) -> frozenset[int]:
        """Return the places to which a rule with this action applies."""
        return self.subjects - self.restricted if action in GRANTING else self.subjects

    @property
    def rank(self) -> tuple[int, str, str]:
        """Place among policies: priority, then name space, then name."""
        metadata = self.resource.metadata
        return self.resource.spec.priority, metadata.namespace, metadata.name


@dataclass(frozen=True, slots=True)
class RuleSource:
    """Where a rule comes from."""

    policy: ResourceId
    direction: Way
    index: int
    description: str
    action: str
    loc: Loc
    _where: Callable[[Loc], Origin] = field(compare=False, repr=False)

    @property
    def origin(self) -> Origin:
        """File, line and column of the rule. It reads the file's text again."""
        return self._where(self.loc)


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """The rules of each chain, the flags of each place by chain (PlaceFlag, EFFECTS left out),
    and the rules behind the counters."""

    chains: tuple[tuple[Rule, ...], ...]
    flags: tuple[tuple[int, ...], ...]
    sources: dict[int, RuleSource]


@dataclass(frozen=True, slots=True)
class _Written:
    """A rule as it is written."""

    policy: Selected
    way: Way
    loc: Loc
    rule: AnyRule


def policy_rules(
    policies: Iterable[Selected], places: int, addresses_of: AddressesOf, route_of: RouteOf
) -> PolicyRules:
    """Return the rules of all policies, for places numbered from 0."""
    ordered = sorted(policies, key=lambda selected: selected.rank)
    chains: list[list[Rule]] = [[] for _ in CHAINS]
    sources: dict[int, RuleSource] = {}
    seen: Counter[tuple[str, str, str]] = Counter()
    for selected in ordered:
        for written in _written(selected):
            counter = _counter(written, seen)
            sources[counter] = _source(written)
            rule = _rule(written, counter, addresses_of, route_of)
            chains[_chain(selected.resource, written.way)].append(rule)
    return PolicyRules(tuple(map(tuple, chains)), _flags(ordered, places), sources)


def _chain(policy: Policy, way: Way) -> PolicyChain:
    match policy:
        case EBPFNetworkPolicy():
            return NETWORK_CHAINS[way]
        case EBPFContainerPolicy():
            return CONTAINER_CHAINS[way]


def _written(selected: Selected) -> Iterator[_Written]:
    match selected.resource:
        case EBPFNetworkPolicy(spec=network):
            for way, rules in network.directions():
                for index, rule in enumerate(rules):
                    yield _Written(selected, way, ("spec", way, index), rule)
        case EBPFContainerPolicy(spec=container):
            controls = container.network_controls
            for way in WAYS:
                if controls.controls(way):
                    for index, workload_rule in enumerate(controls.rules(way)):
                        loc = ("spec", "networkControls", f"{way}Rules", index)
                        yield _Written(selected, way, loc, workload_rule)


# One rule


def _rule(written: _Written, counter: int, addresses_of: AddressesOf, route_of: RouteOf) -> Rule:
    resource, rule = written.policy.resource, written.rule
    action = _action(resource, rule)
    return Rule(
        subjects=written.policy.subjects_of(action),
        peers=_peers(written, action, addresses_of),
        services=tuple(service for ports in rule.ports for service in _services(ports)),
        action=action,
        dscp=_dscp(rule),
        limit=_limit(rule.rate_limit) if isinstance(rule, PolicyRule) else None,
        stateful=not isinstance(resource, EBPFNetworkPolicy) or resource.spec.stateful,
        counter=counter,
        route=_route(resource, action, route_of),
    )


def _action(resource: Policy, rule: AnyRule) -> PolicyAction:
    match rule.action:
        case "deny":
            return PolicyAction.ACT_DENY
        case "log":
            return PolicyAction.ACT_LOG
        case "mark":
            return PolicyAction.ACT_MARK
        case "allow":
            return _allowing(resource)


def _allowing(resource: Policy) -> PolicyAction:
    """Return what `allow` means: only filtering policies decide."""
    match resource:
        case EBPFNetworkPolicy(spec=spec) if spec.policy_type == "qos":
            return PolicyAction.ACT_LIMIT
        case EBPFNetworkPolicy(spec=spec) if spec.policy_type == "routing":
            return PolicyAction.ACT_ROUTE
        case _:
            return PolicyAction.ACT_ALLOW


def _peers(written: _Written, action: PolicyAction, addresses_of: AddressesOf) -> Peers | None:
    match written.rule:
        case PolicyRule(peers=peers):
            if not peers:
                return None
            namespace = written.policy.resource.metadata.namespace
            grants = action not in (PolicyAction.ACT_DENY, PolicyAction.ACT_LIMIT)
            return peers_of(
                block for peer in peers for block in _blocks(peer, namespace, grants, addresses_of)
            )
        case WorkloadRule(ip_block=block):
            return None if block is None else peers_of([_block(block)])


def _blocks(peer: Peer, namespace: str, grants: bool, addresses_of: AddressesOf) -> Iterator[Block]:
    if peer.ip_block is not None:
        yield _block(peer.ip_block)
        return
    for network in addresses_of(peer, namespace, grants):
        yield network, ()


def _block(block: IpBlock) -> Block:
    return block.cidr, block.except_


def _services(ports: PortRule) -> Iterator[Service]:
    protocol = PROTOCOLS[ports.protocol]
    if ports.icmp_type is not None:
        yield Service(protocol, ports.icmp_type << 8, ports.icmp_type << 8 | 0xFF)
    elif ports.ports is not None:
        yield Service(protocol, ports.ports.first, ports.ports.last)
    else:
        yield Service(protocol)


def _dscp(rule: AnyRule) -> int:
    return rule.mark or 0 if isinstance(rule, PolicyRule) else 0


def _limit(limit: RateLimit | None) -> Limit | None:
    if limit is None:
        return None
    default = max(LEAST_BURST_BYTES, limit.bits_per_second // 8 // BURSTS_PER_S)
    return Limit(limit.bits_per_second, limit.burst_size or default)


def _route(resource: Policy, action: PolicyAction, route_of: RouteOf) -> Route | None:
    if action is not PolicyAction.ACT_ROUTE:
        return None
    assert isinstance(resource, EBPFNetworkPolicy)
    assert resource.spec.route is not None
    return route_of(resource.spec.route)


# Identity


def _counter(written: _Written, seen: Counter[tuple[str, str, str]]) -> int:
    """Return a number that a rule keeps while its policy and its text stay what they are.

    Equal rules of a direction are told apart by which of them comes first.
    """
    text = written.rule.model_dump_json(by_alias=True, exclude={"description"})
    identity = str(written.policy.resource.id), written.way, text
    seen[identity] += 1
    whole = repr((*identity, seen[identity])).encode()
    return int.from_bytes(blake2b(whole, digest_size=8).digest(), "little")


def _source(written: _Written) -> RuleSource:
    index = written.loc[-1]
    assert isinstance(index, int)
    return RuleSource(
        written.policy.resource.id,
        written.way,
        index,
        written.rule.description,
        written.rule.action,
        written.loc,
        written.policy.where,
    )


# Places


def _flags(ordered: Sequence[Selected], places: int) -> tuple[tuple[int, ...], ...]:
    """Return the flags of each place, by chain. The policies come first to last."""
    flags = [[0] * len(CHAINS) for _ in range(places)]
    defaulted: set[tuple[int, Way]] = set()
    for selected in ordered:
        for place in selected.subjects:
            match selected.resource:
                case EBPFNetworkPolicy() as network:
                    _police(network, flags[place])
                case EBPFContainerPolicy() as container:
                    ways = [way for way in WAYS if (place, way) not in defaulted]
                    may_allow = place not in selected.restricted
                    set_by_it = _control(container, flags[place], ways, may_allow)
                    defaulted |= {(place, way) for way in set_by_it}
    for of_place in flags:
        _let_answers_pass(of_place)
    return tuple(map(tuple, flags))


def _let_answers_pass(flags: list[int]) -> None:
    """Have network policies let answers pass where none filters but container policies do."""
    filters = any(flags[chain] for chain in NETWORK_CHAINS.values())
    if not filters and any(flags[chain] for chain in CONTAINER_CHAINS.values()):
        for chain in NETWORK_CHAINS.values():
            flags[chain] |= PlaceFlag.PLACE_STATEFUL


def _police(policy: EBPFNetworkPolicy, flags: list[int]) -> None:
    if policy.spec.policy_type != "filtering":
        return
    for way, _ in policy.spec.directions():
        flags[NETWORK_CHAINS[way]] |= PlaceFlag.PLACE_POLICED
    if policy.spec.stateful:
        for chain in NETWORK_CHAINS.values():
            flags[chain] |= PlaceFlag.PLACE_STATEFUL


def _control(
    policy: EBPFContainerPolicy, flags: list[int], undecided: list[Way], may_allow: bool
) -> set[Way]:
    """Add a policy's controls; return the ways of those undecided whose default it sets."""
    controls = policy.spec.network_controls
    controlled = [way for way in WAYS if controls.controls(way)]
    for way in controlled:
        flags[CONTAINER_CHAINS[way]] |= PlaceFlag.PLACE_POLICED
        for chain in CONTAINER_CHAINS.values():
            flags[chain] |= PlaceFlag.PLACE_STATEFUL
    defaults = {way: controls.default(way) for way in controlled if way in undecided}
    settles = ("deny", "allow") if may_allow else ("deny",)
    setting = {way for way, default in defaults.items() if default in settles}
    for way in setting:
        if defaults[way] == "deny":
            flags[CONTAINER_CHAINS[way]] |= PlaceFlag.PLACE_DEFAULT_DENY
    return setting
