"""Translations in the API: what a policy uses and has counted, sessions, bindings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fos1d.model.packet import NAMES
from fos1d.model.translated import Binding, End, Session
from fos1d.report.desk import Details, NatAnswer, Translated

Json = dict[str, Any]
# Counters by the names that the programs give them, as people read them.
SHOWN = {
    "packets": "packets",
    "bytes": "bytes",
    "begun": "translations",
    "filtered": "filtered",
    "exhausted": "exhausted",
    "limited": "limited",
    "full": "full",
    "refused": "refused",
    "errors": "icmpErrors",
    "unordered": "fragmentsUnordered",
    "other": "otherProtocols",
    "stateless": "stateless",
}


def nat_fields(details: Details | None) -> Json:
    """Return `activeConnections`, `externalAddresses`, `portUse` and `metrics`, where the kernel
    was asked and addresses are translated."""
    if details is None or not details.translated:
        return {}
    translated = details.translated
    return {
        "activeConnections": sum(one.flows for one in translated),
        "externalAddresses": [_outside(one) for one in translated],
        "portUse": [row for one in translated for row in _port_use(one)],
        "metrics": _metrics(translated),
    }


def _outside(one: Translated) -> Json:
    return {"interface": one.interface, "addresses": list(one.addresses)}


def _port_use(one: Translated) -> Iterable[Json]:
    for protocol, used in one.ports.items():
        yield {
            "interface": one.interface,
            "protocol": protocol,
            "used": used,
            "available": one.ports_available,
        }


def _metrics(translated: Iterable[Translated]) -> Json:
    each = list(translated)
    return {shown: sum(one.counts.get(name, 0) for one in each) for name, shown in SHOWN.items()}


def listing_of(answer: NatAnswer) -> Json:
    """Return sessions and bindings, and how many there are in all."""
    chosen = answer.chosen
    return {
        "kind": "Translations",
        "apiVersion": "fos1.io/v1",
        "sessions": [_session(one, answer) for one in chosen.sessions],
        "bindings": [_binding(one, answer) for one in chosen.bindings],
        "sessionCount": chosen.session_count,
        "bindingCount": chosen.binding_count,
    }


def _session(session: Session, answer: NatAnswer) -> Json:
    return {
        **_about(session, answer),
        "far": _end(session.far),
        "state": session.state,
        "declaredPort": session.declared,
        "hairpin": session.hairpin,
        "expiresInSeconds": session.ends_in_s,
    }


def _binding(binding: Binding, answer: NatAnswer) -> Json:
    return {
        **_about(binding, answer),
        "routersOwn": binding.own,
        "expiresInSeconds": binding.ends_in_s,
    }


def _about(one: Session | Binding, answer: NatAnswer) -> Json:
    policy, interface = answer.policies.get(one.policy, ("", ""))
    return {
        "policy": policy,
        "interface": interface,
        "protocol": NAMES.get(one.protocol, str(one.protocol)),
        "inside": _end(one.inside),
        "outside": _end(one.outside),
    }


def _end(end: End) -> Json:
    return {"address": str(end.address), "port": end.port, "text": str(end)}
