"""EBPFNetworkPolicy: what may pass, where it goes, how it is marked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from pydantic import Field

from fos1d.kinds.fields import (
    AtLeastOne,
    Count,
    Dscp,
    HostAddress,
    Interface,
    Interfaces,
    Listed,
    Mark,
    Maybe,
    Priority,
)
from fos1d.kinds.meta import (
    DESCRIPTION,
    NODE_SELECTOR,
    ApiVersion,
    Fault,
    LabelSelector,
    Metadata,
    Model,
)
from fos1d.kinds.rules import Peer, PortRule, RateLimit, small_burst, unreachable
from fos1d.kinds.translation import Translation
from fos1d.model.identity import ResourceId

PolicyType: TypeAlias = Literal["filtering", "routing", "nat", "qos"]
Direction: TypeAlias = Literal["ingress", "egress"]


class Selector(Model):
    """What a policy applies to; without one, the host itself and everything it forwards."""

    pod_selector: Maybe[LabelSelector] = Field(None, description="Local workloads by label.")
    namespace_selector: Maybe[LabelSelector] = Field(
        None, description="Local workloads by the labels of their name space."
    )
    node_selector: Maybe[LabelSelector] = Field(None, description="Routers by label.")
    interfaces: AtLeastOne[Interfaces] = Field(
        (),
        description="Traffic that enters (ingress) or leaves (egress) these interfaces, forwarded"
        " traffic included; shell globs.",
    )


class PolicyRule(Model):
    """Which traffic, and what becomes of it."""

    description: str = Field("", description=DESCRIPTION)
    from_: Listed[Peer] = Field((), alias="from", description="ingress: the peers; empty: any.")
    to: Listed[Peer] = Field((), description="egress: the peers; empty: any.")
    ports: Listed[PortRule] = Field((), description="Destination ports; empty: any.")
    action: Literal["allow", "deny", "log", "mark"] = Field(
        "allow", description="`allow` and `deny` decide; `log` and `mark` act and go on."
    )
    mark: Maybe[Dscp] = Field(None, description="mark: the DSCP to write.")
    rate_limit: Maybe[RateLimit] = Field(None, description="allow: a limit on what passes.")

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers, whichever way the traffic goes."""
        return self.from_ or self.to

    @property
    def matches_all(self) -> bool:
        """Whether the rule matches all traffic."""
        return not self.peers and not self.ports

    @property
    def decides(self) -> bool:
        """Whether no later rule is asked about what the rule matches."""
        return self.action in ("allow", "deny")

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.action == "mark" and self.mark is None:
            yield Fault(("mark",), "is required for action mark; it is a DSCP, 0 to 63")
        if self.action != "mark" and self.mark is not None:
            yield Fault(("mark",), f"does not belong to action {self.action}, only to mark")
        if self.action != "allow" and self.rate_limit is not None:
            yield Fault(("rateLimit",), f"does not belong to action {self.action}, only to allow")


class Route(Model):
    """Where matching packets go."""

    next_hop: Maybe[HostAddress] = Field(None, description="The next router's address.")
    interface: Maybe[Interface] = Field(None, description="The interface to leave by.")
    table: Maybe[Count] = Field(None, description="The routing table to look up.")
    mark: Maybe[Mark] = Field(None, description="The packet's mark, for `ip rule`.")

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if not self.model_fields_set:
            yield Fault((), "leads nowhere; give nextHop, interface, table or mark")
        if self.table is not None and (self.next_hop or self.interface):
            yield Fault(("table",), "excludes nextHop and interface, which the table decides")
        if self.mark == 0:
            yield Fault(("mark",), "0 marks nothing; write 1 or more")


class NetworkPolicySpec(Model):
    """What an EBPFNetworkPolicy asks for."""

    description: str = Field("", description=DESCRIPTION)
    node_selector: Maybe[LabelSelector] = Field(None, description=NODE_SELECTOR)
    policy_type: PolicyType = Field(description="What the policy does.")
    priority: Priority = Field(1000, description="Order among policies; lower wins.")
    selector: Maybe[Selector] = Field(
        None,
        description="What it applies to; by default the host itself and everything it forwards.",
    )
    ingress: Maybe[Listed[PolicyRule]] = Field(
        None, description="Rules for incoming traffic; an empty list denies all of it."
    )
    egress: Maybe[Listed[PolicyRule]] = Field(
        None, description="Rules for outgoing traffic; an empty list denies all of it."
    )
    stateful: bool = Field(
        True, description="Let replies to allowed connections pass, and ICMP errors about them."
    )
    nat: Maybe[Translation] = Field(None, description="nat: the translation.")
    route: Maybe[Route] = Field(None, description="routing: where matching packets go.")

    def directions(self) -> Iterator[tuple[Direction, tuple[PolicyRule, ...]]]:
        """Yield each direction that the policy names, with its rules."""
        if self.ingress is not None:
            yield "ingress", self.ingress
        if self.egress is not None:
            yield "egress", self.egress

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        yield from self._belongs("nat", "nat", self.nat is not None)
        yield from self._belongs("route", "routing", self.route is not None)
        for direction, rules in self.directions():
            if self.policy_type == "nat":
                yield Fault((direction,), "does not belong to policyType nat; use filtering")
                continue
            for index, rule in enumerate(rules):
                yield from self._rule((direction, index), direction, rule)
        yield from self._nat_interface()

    def _belongs(self, field: str, policy_type: str, given: bool) -> Iterator[Fault]:
        if self.policy_type == policy_type and not given:
            yield Fault((field,), f"is required for policyType {policy_type}")
        if self.policy_type != policy_type and given:
            message = f"does not belong to policyType {self.policy_type}, only to {policy_type}"
            yield Fault((field,), message)

    def _rule(
        self, loc: tuple[str, int], direction: Direction, rule: PolicyRule
    ) -> Iterator[Fault]:
        if direction == "ingress" and rule.to:
            yield Fault((*loc, "to"), "an ingress rule names its peers in from")
        if direction == "egress" and rule.from_:
            yield Fault((*loc, "from"), "an egress rule names its peers in to")
        if self.policy_type == "qos" and rule.action in ("deny", "log"):
            message = f"{rule.action} does not belong to policyType qos, which marks and limits"
            yield Fault((*loc, "action"), message)
        if self.policy_type == "routing" and rule.action == "deny":
            message = "deny does not belong to policyType routing; use filtering"
            yield Fault((*loc, "action"), message)

    def _nat_interface(self) -> Iterator[Fault]:
        elsewhere = self.selector.interfaces if self.selector else ()
        if self.nat and self.nat.type == "masquerade" and not (self.nat.interface or elsewhere):
            message = "is required for masquerade, here or in selector.interfaces"
            yield Fault(("nat", "interface"), message)


class EBPFNetworkPolicy(Model):
    """What may pass, where it goes, how it is marked."""

    api_version: ApiVersion = Field(description="The version of the schema.")
    kind: Literal["EBPFNetworkPolicy"] = Field(description="The kind.")
    metadata: Metadata = Field(description="Who the resource is.")
    spec: NetworkPolicySpec = Field(description="What is asked for.")

    @property
    def id(self) -> ResourceId:
        """Who the resource is."""
        return self.metadata.id_of(self.kind)

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        spec = self.spec
        if spec.policy_type != "nat" and spec.ingress is None and spec.egress is None:
            yield Fault(("spec",), "does nothing: it has neither ingress nor egress rules")
        for direction, rules in spec.directions():
            yield from _rule_remarks(("spec", direction), rules)
            if spec.policy_type == "filtering" and rules and not any(r.decides for r in rules):
                message = "decides nothing, so what no other policy allows is denied"
                yield Fault(("spec", direction), f"{message}; `- action: allow` would let it pass")


def _rule_remarks(loc: tuple[str, str], rules: tuple[PolicyRule, ...]) -> Iterator[Fault]:
    order = [(rule.matches_all, rule.decides) for rule in rules]
    if found := unreachable(order):
        index, earlier = found
        message = f"is never reached, nor what follows: {loc[1]}[{earlier}] decides about the rest"
        yield Fault((*loc, index), message)
    for index, rule in enumerate(rules):
        if rule.rate_limit and (message := small_burst(rule.rate_limit.burst_size) or ""):
            yield Fault((*loc, index, "rateLimit", "burstSize"), message)
