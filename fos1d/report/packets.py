"""What policies say of packets: those that rules log, as events with fields."""

from __future__ import annotations

from collections.abc import Mapping

from fos1d.abi import PlaceKind, PolicyChain, Reason
from fos1d.kinds.policy_lower import PolicyView
from fos1d.kinds.policy_places import Place
from fos1d.kinds.policy_rules import RuleSource
from fos1d.model.packet import ICMPS, WITH_PORTS, LoggedPacket, Tuple
from fos1d.report.events import Event, EventType

WAYS = {
    PolicyChain.CHAIN_IN: "in",
    PolicyChain.CHAIN_RECEIVE: "in",
    PolicyChain.CHAIN_OUT: "out",
    PolicyChain.CHAIN_SEND: "out",
}


def reason_name(reason: Reason) -> str:
    """Return a verdict's name: `drop-policy`."""
    return reason.name.lower().replace("_", "-")


def packet_event(packet: LoggedPacket, view: PolicyView) -> Event:
    """Return the event of a logged packet."""
    source = view.sources.get(packet.counter)
    place = place_name(view, packet.kind, packet.place)
    verdict, way = reason_name(packet.reason), WAYS[PolicyChain(packet.chain)]
    about = f" by {source.direction}[{source.index}]{_described(source)}" if source else ""
    return Event(
        EventType.NORMAL,
        "PacketLogged",
        f"{packet.tuple}, {packet.bytes} bytes, {way} {place}: {verdict}; logged{about}",
        about=source.policy if source else None,
        origin=source.origin if source else None,
        packet={
            "verdict": verdict,
            "direction": way,
            **_place_fields(packet, place),
            **({"rule": f"{source.direction}[{source.index}]"} if source else {}),
            **tuple_fields(packet.tuple),
            "length": packet.bytes,
        },
    )


def _described(source: RuleSource) -> str:
    return f" ({source.description})" if source.description else ""


def place_name(view: PolicyView, kind: int, number: int) -> str:
    """Return the name of an interface or a workload."""
    for place in view.places.numbers:
        if (place.kind, place.id) == (kind, number):
            return _name(place, view)
    what = "interface" if kind == PlaceKind.PLACE_INTERFACE else "cgroup"
    return f"{what} {number}"


def _name(place: Place, view: PolicyView) -> str:
    workload = view.places.workloads.get(place)
    return f"{workload.namespace}/{workload.name}" if workload else place.name


def _place_fields(packet: LoggedPacket, name: str) -> Mapping[str, object]:
    what = "interface" if packet.kind == PlaceKind.PLACE_INTERFACE else "workload"
    return {what: name}


def tuple_fields(ends: Tuple) -> dict[str, object]:
    """Return the fields of a five-tuple."""
    fields: dict[str, object] = {
        "protocol": ends.protocol_name,
        "source": str(ends.source),
        "dest": str(ends.dest),
    }
    if ends.protocol in WITH_PORTS:
        fields |= {"source_port": ends.source_port, "dest_port": ends.dest_port}
    if ends.protocol in ICMPS:
        fields |= {"icmp_type": ends.type, "icmp_code": ends.code}
    return fields
