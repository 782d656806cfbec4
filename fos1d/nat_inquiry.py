"""Answers about translations: what a policy uses, and which sessions and bindings there are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from fos1d.kernel import nat_list
from fos1d.kernel.bpffs import Bpffs
from fos1d.kernel.nat_state import stats, usage
from fos1d.kinds.nat_lower import NatView
from fos1d.kinds.nat_rules import NatRule
from fos1d.model.identity import ResourceId
from fos1d.model.packet import NAMES
from fos1d.model.translated import NatUse
from fos1d.quantity import PortRange
from fos1d.report.desk import NatAnswer, NatQuery, Translated
from fos1d.report.explanation import RuleSaid

Counted: TypeAlias = Mapping[int, Mapping[str, int]]

# Counters of a policy that say why a packet was dropped.
DROPPING = {
    "filtered": "filtered: the far end has not been spoken to",
    "exhausted": "exhausted: no outside port is free",
    "limited": "limited: the policy has maxConnections already",
    "full": "full: the table of flows has no room",
    "refused": "refused: there is no outside address, or nothing that could begin a connection",
    "unordered": "unordered: a fragment whose first one has not come",
}
# Where ports are looked for when no range is given (RFC 4787, REQ-3, and the inside's own).
USUAL_PORTS = PortRange(1024, 65535)


def translated_by(about: ResourceId, bpffs: Bpffs, view: NatView) -> tuple[Translated, ...]:
    """Return what a policy translates, by interface."""
    mine = {number: rule for number, rule in view.rules.items() if rule.policy == about}
    if not mine:
        return ()
    used, counted = usage(bpffs, _now_ns()), stats(bpffs)
    found = (
        _translated(rule, used.get(number, NatUse()), counted.get(number, {}))
        for number, rule in mine.items()
    )
    return tuple(sorted(found, key=lambda one: one.interface))


def _translated(rule: NatRule, used: NatUse, counts: dict[str, int]) -> Translated:
    addresses = (rule.external(version) for version in (4, 6))
    ports = rule.translation.port_range or USUAL_PORTS
    return Translated(
        rule.interface,
        tuple(str(address) for address in addresses if address is not None),
        used.flows,
        {NAMES.get(protocol, str(protocol)): count for protocol, count in used.ports.items()},
        ports.count,
        counts,
    )


@dataclass(frozen=True, slots=True)
class Said:
    """What a translation said of a packet: which policy's it is, and why it was dropped."""

    reason: str = ""
    rules: tuple[RuleSaid, ...] = ()


def translation_said(before: Counted, after: Counted, view: NatView) -> Said:
    """Tell from a program's counters what it did with a packet."""
    for number, counts in after.items():
        earlier = before.get(number, {})
        more = {name for name, count in counts.items() if count > earlier.get(name, 0)}
        rule = view.rules.get(number)
        if more and rule is not None:
            reason = next((why for name, why in DROPPING.items() if name in more), "")
            return Said(reason, (_rule_said(rule),))
    return Said("it belongs to no translation")


def _rule_said(rule: NatRule) -> RuleSaid:
    kind = rule.translation.type
    return RuleSaid(rule.policy, rule.interface, 0, "translate", kind, str(rule.origin))


def translations(query: NatQuery, bpffs: Bpffs, view: NatView) -> NatAnswer:
    """List sessions and bindings.

    Raises ValueError for a policy or interface that translates nothing.
    """
    narrowed = _narrowed(query, view)
    chosen = nat_list.choose(bpffs, narrowed.choice, query.most, _now_ns())
    return NatAnswer(chosen, _named(view))


def flush_translations(query: NatQuery, bpffs: Bpffs, view: NatView) -> NatAnswer:
    """Forget sessions and bindings; return how many there were. Raises as `translations`."""
    return NatAnswer(nat_list.flush(bpffs, _narrowed(query, view).choice))


def _named(view: NatView) -> dict[int, tuple[str, str]]:
    return {number: (str(rule.policy), rule.interface) for number, rule in view.rules.items()}


def _narrowed(query: NatQuery, view: NatView) -> NatQuery:
    """Put the numbers of the policies that are meant into the choice."""
    if not (query.policy or query.interface):
        return query
    numbers = frozenset(n for n, rule in view.rules.items() if _is_meant(rule, query))
    if not numbers:
        there = sorted(
            {f"{r.policy.namespace}/{r.policy.name} at {r.interface}" for r in view.rules.values()}
        )
        raise ValueError(f"no such translation; there are: {', '.join(there) or 'none'}")
    return replace(query, choice=replace(query.choice, policies=numbers))


def _is_meant(rule: NatRule, query: NatQuery) -> bool:
    who = rule.policy
    names = ("", who.name, f"{who.namespace}/{who.name}", str(who))
    return query.policy in names and query.interface in ("", rule.interface)


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
