"""What is to be said of translations: what is missing, and who else translates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fos1d.kinds.admission import Accepted
from fos1d.kinds.lowered import Lowered
from fos1d.kinds.nat_policy import EBPFNATPolicy
from fos1d.kinds.nat_rules import NatRule, translation_of
from fos1d.kinds.nat_tables import NatTables
from fos1d.model.condition import Condition, ConditionType, Status
from fos1d.model.facts import Facts

KNOB = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


def tell(asked: Iterable[Accepted], tables: NatTables, facts: Facts, lowered: Lowered) -> None:
    """Say of each policy what it lacks and what stands beside it."""
    for accepted in asked:
        rules = [rule for rule in tables.rules if rule.policy == accepted.id]
        if not rules:
            lowered.note(accepted.id, "InterfaceMissing", _missing(accepted))
        _tell_of_program(accepted, lowered)
        for rule in rules:
            _tell_of_addresses(rule, lowered)
            if rule in tables.crowded:
                message = "all balanced ports together are too many; the last ones lead nowhere"
                lowered.note(rule.policy, "TooManyBalancedPorts", message)
        _tell_of_forwarding(accepted, rules, facts, lowered)
        _tell_of_rivals(accepted, rules, facts, lowered)


def _missing(accepted: Accepted) -> str:
    found = translation_of(accepted)
    assert found is not None
    name = f" `{found[0].interface}`" if found[0].interface else " that it is about"
    return f"no interface{name} now; it is in force when one appears"


def _tell_of_program(accepted: Accepted, lowered: Lowered) -> None:
    resource = accepted.declaration.resource
    if isinstance(resource, EBPFNATPolicy) and resource.spec.ebpf_program:
        message = "ebpfProgram has no effect in this release; the built-in program translates"
        lowered.note(accepted.id, "NotSupportedYet", message)


def _tell_of_addresses(rule: NatRule, lowered: Lowered) -> None:
    lacking = " and ".join(f"IPv{version}" for version in rule.lacks())
    if lacking:
        message = f"{rule.interface} has no global {lacking} address: until it has one, what"
        message += " would be translated is dropped"
        if rule.takes_any and (rule.external(4) or rule.external(6)):
            lowered.remark(rule.policy, message)
        else:
            lowered.note(rule.policy, "NoAddress", message)
    external = rule.translation.external_ip
    if external and rule.translation.type != "npt66" and external not in rule.addresses:
        message = f"{external} is no address of {rule.interface}: answers come back only if it is"
        lowered.remark(rule.policy, f"{message} routed here")


def _tell_of_forwarding(
    accepted: Accepted, rules: Iterable[NatRule], facts: Facts, lowered: Lowered
) -> None:
    for version in sorted({version for rule in rules for version in _passing(rule)}):
        if not facts.forwards.get(version, True):
            message = f"this router forwards no IPv{version} packets: {KNOB[version]} is 0"
            lowered.remark(accepted.id, message)


def _passing(rule: NatRule) -> Iterator[int]:
    """Yield the IP versions of the packets that are to be forwarded."""
    if rule.translation.type in ("nat64", "npt66"):
        yield 6
    for version in (4, 6):
        if rule.external(version):
            yield version


def _tell_of_rivals(
    accepted: Accepted, rules: Sequence[NatRule], facts: Facts, lowered: Lowered
) -> None:
    interfaces = sorted({rule.interface for rule in rules})
    for interface in interfaces:
        chains = sorted({rival.chain for rival in facts.rivals if rival.is_at(interface)})
        if chains:
            shown = ", ".join(chains[:3])
            message = f"nftables translates addresses at {interface}, too: {shown}; let one do it"
            condition = Condition(
                ConditionType.CONFLICTED, Status.TRUE, "OtherTranslation", message
            )
            lowered.warn(accepted.id, condition)
