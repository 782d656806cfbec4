"""Answers about translations: what a policy uses, and which sessions and bindings there are."""

from __future__ import annotations

import time
from dataclasses import replace

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
