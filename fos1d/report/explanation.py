"""What the loaded programs do to a packet: the question, the answer, both as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from fos1d.model.frame import ECHO_REQUEST
from fos1d.model.identity import ResourceId
from fos1d.model.packet import ICMP, ICMPS, ICMPV6, PROTOCOLS, WITH_PORTS, Tuple
from fos1d.report.packets import tuple_fields
from fos1d.report.refusal import ApiRefusal

Json = dict[str, Any]
PLACES = ("in", "out", "workload")
HIGHEST_PORT = 65535
PASS, DROP, NOT_RUN = "pass", "drop", "not-run"


@dataclass(frozen=True, slots=True)
class Question:
    """A packet, and where it comes in and leaves, or whose it is.

    `established`: it belongs to a connection that the other end has opened.
    """

    ends: Tuple
    comes_in: str = ""
    goes_out: str = ""
    workload: str = ""
    established: bool = False


@dataclass(frozen=True, slots=True)
class RuleSaid:
    """A rule that matched, and where it is written."""

    policy: ResourceId
    direction: str
    index: int
    action: str
    description: str
    written_in: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one program did. `policed_by` are the policies, with their places in the source, for
    want of whose rules a packet was denied by default."""

    hook: str
    place: str
    program: str
    verdict: str
    reason: str = ""
    rules: tuple[RuleSaid, ...] = ()
    policed_by: tuple[tuple[ResourceId, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The steps in the order of the hooks, up to the one that drops the packet."""

    question: Question
    steps: tuple[Step, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What becomes of the packet."""
        return DROP if any(step.verdict == DROP for step in self.steps) else PASS


# As JSON


def explanation_of(explanation: Explanation) -> Json:
    """Return an explanation."""
    return {
        "kind": "Explanation",
        "apiVersion": "fos1.io/v1",
        "packet": {
            "text": str(explanation.question.ends),
            **tuple_fields(explanation.question.ends),
        },
        "established": explanation.question.established,
        "verdict": explanation.verdict,
        "steps": [_step(step) for step in explanation.steps],
        "remarks": list(explanation.remarks),
    }


def _step(step: Step) -> Json:
    return {
        "hook": step.hook,
        "place": step.place,
        "program": step.program,
        "verdict": step.verdict,
        "reason": step.reason,
        "rules": [_rule(rule) for rule in step.rules],
        "deniedByDefaultOf": [
            {"resource": str(policy), "origin": origin} for policy, origin in step.policed_by
        ],
    }


def _rule(rule: RuleSaid) -> Json:
    return {
        "resource": str(rule.policy),
        "direction": rule.direction,
        "index": rule.index,
        "action": rule.action,
        "description": rule.description,
        "origin": rule.written_in,
    }


def question_of(body: Any) -> Question:
    """Read a question. Raises ApiRefusal that says what is wrong with it."""
    if not isinstance(body, dict):
        raise ApiRefusal(400, 'the body must be {"protocol": …, "source": …, "dest": …, "in": …}')
    _known_only(body)
    chosen = {name: _text(body, name) for name in PLACES}
    if not any(chosen.values()) or (chosen["workload"] and (chosen["in"] or chosen["out"])):
        raise ApiRefusal(400, "say where: in, out or both (interfaces), or workload")
    return Question(
        _ends(body),
        chosen["in"],
        chosen["out"],
        chosen["workload"],
        body.get("established") is True,
    )


KNOWN = frozenset(
    {*PLACES, "protocol", "source", "dest", "source_port", "dest_port", "icmp_type", "established"}
)


def _known_only(names: Iterable[str]) -> None:
    if unknown := sorted(set(names) - KNOWN):
        known = ", ".join(sorted(KNOWN))
        raise ApiRefusal(400, f"unknown: {', '.join(unknown)[:200]}; a question has: {known}")


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise ApiRefusal(400, f"{name} must be text")
    return value


def _ends(body: Mapping[str, Any]) -> Tuple:
    name = _text(body, "protocol")
    if name not in PROTOCOLS:
        raise ApiRefusal(400, f'protocol: "{name[:40]}" is none of: {", ".join(PROTOCOLS)}')
    protocol = PROTOCOLS[name]
    try:
        source, dest = ip_address(_text(body, "source")), ip_address(_text(body, "dest"))
    except ValueError as error:
        raise ApiRefusal(400, f"source and dest must be addresses: {error}") from error
    version = {ICMP: 4, ICMPV6: 6}.get(protocol, source.version)
    if (source.version, dest.version) != (version, version):
        raise ApiRefusal(400, f"{name} from {source} to {dest}: these are of different versions")
    if protocol in ICMPS:
        kind = _number(body, "icmp_type", 255, ECHO_REQUEST[protocol])
        return Tuple(protocol, source, dest, type=kind)
    assert protocol in WITH_PORTS
    ports = (_number(body, port, HIGHEST_PORT, None) for port in ("source_port", "dest_port"))
    return Tuple(protocol, source, dest, *ports)


def _number(body: Mapping[str, Any], name: str, most: int, default: int | None) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ApiRefusal(400, f"{name} must be a number from 0 to {most}")
    return value
