"""Filters of an EBPFTrafficControl: which packets, what is done with them, which class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fos1d.kinds.fields import (
    Dscp,
    HostOrCidr,
    Interface,
    Mark,
    Maybe,
    OneOrMore,
    Ports,
    Priority,
    RateBits,
    SizeBytes,
)
from fos1d.kinds.meta import DESCRIPTION, Fault, Model
from fos1d.kinds.rules import small_burst

MOST_CLASS_ID = 0xFFFD

ClassId: TypeAlias = Annotated[int, Field(ge=1, le=MOST_CLASS_ID)]
ActionType: TypeAlias = Literal["pass", "drop", "mark", "police", "redirect"]


class Match(Model):
    """What a packet must be like: all of it, and any item of each list."""

    src_ip: OneOrMore[HostOrCidr] = Field((), description="Source address or network.")
    dst_ip: OneOrMore[HostOrCidr] = Field((), description="Destination address or network.")
    src_port: OneOrMore[Ports] = Field((), description='Source port, or a range "a-b".')
    dst_port: OneOrMore[Ports] = Field((), description='Destination port, or a range "a-b".')
    dscp: OneOrMore[Dscp] = Field((), description="DSCP of the packet.")
    mark: OneOrMore[Mark] = Field((), description="The packet's mark (skb->mark).")

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        sources = {network.version for network in self.src_ip}
        destinations = {network.version for network in self.dst_ip}
        if sources and destinations and not sources & destinations:
            yield Fault(("dstIP",), "never matches: one of srcIP and dstIP is IPv4, the other IPv6")


class Police(Model):
    """A limit, and what becomes of packets beyond it."""

    rate: RateBits = Field(description="The rate that is let through.")
    burst: Maybe[SizeBytes] = Field(None, description="Bytes that may come at once.")
    exceed: Literal["drop", "continue", "remark"] = Field(
        "drop", description="What becomes of packets beyond the rate; `remark` writes remarkDscp."
    )
    remark_dscp: Dscp = Field(0, description="remark: the DSCP to write.")

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.exceed != "remark" and "remark_dscp" in self.model_fields_set:
            yield Fault(("remarkDscp",), f"does not belong to exceed {self.exceed}, only to remark")


class FilterAction(Model):
    """What is done with a matching packet."""

    type: ActionType = Field(description="What is done; `mark` writes the DSCP, ECN bits are kept.")
    mark: Maybe[Dscp] = Field(None, description="mark: the DSCP to write.")
    police: Maybe[Police] = Field(None, description="police: the limit.")
    redirect: Maybe[Interface] = Field(None, description="redirect: the interface to leave by.")

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        given = {"mark": self.mark, "police": self.police, "redirect": self.redirect}
        for field, value in given.items():
            if self.type == field and value is None:
                yield Fault((field,), f"is required for action type {field}")
            if self.type != field and value is not None:
                message = f"does not belong to action type {self.type}, only to {field}"
                yield Fault((field,), message)


PASS = FilterAction(type="pass")


class Filter(Model):
    """Which packets, what is done with them, which class they go to."""

    description: str = Field("", description=DESCRIPTION)
    priority: Priority = Field(1000, description="Order among the filters; lower comes first.")
    protocol: Literal["ip", "tcp", "udp", "icmp", "all"] = Field(
        "all", description="The protocol of the packet."
    )
    match: Match = Field(Match(), description="What the packet must be like; empty: anything.")
    action: FilterAction = Field(PASS, description="What is done with the packet.")
    class_id: Maybe[ClassId] = Field(
        None, description="The class it goes to; without one, the default class."
    )

    @property
    def matches_all(self) -> bool:
        """Whether every packet matches."""
        return self.protocol == "all" and not self.match.model_fields_set

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.protocol == "icmp":
            for field in ("srcPort", "dstPort"):
                if field in self.match.written():
                    yield Fault(("match", field), "does not belong to protocol icmp: no ports")
        if self.class_id is not None and self.action.type in ("drop", "redirect"):
            message = f"has no meaning with action {self.action.type}: such packets are not queued"
            yield Fault(("classID",), message)

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        police = self.action.police
        if police and (message := small_burst(police.burst)):
            yield Fault(("action", "police", "burst"), message)
