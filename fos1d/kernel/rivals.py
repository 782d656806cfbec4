"""Address translation by others: the NAT chains of nftables, which iptables-nft writes too."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pyroute2 import NetlinkError
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETSETELEM,
    NFTSocket,
    nft_chain_msg,
    nft_rule_msg,
    nft_set_elem_list_msg,
)

from fos1d.model.facts import Rival

FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
INTERFACE_KEYS = frozenset({f"NFT_META_{key}" for key in ("IIF", "OIF", "IIFNAME", "OIFNAME")})
NAT = frozenset({"nat", "masq", "redir"})
NAT_TARGETS = frozenset({"SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP"})
NAME_BYTES = 16
MOST_JUMPS = 16  # linux/netfilter/nf_tables.h, NFT_JUMP_STACK_SIZE
UNKNOWN = (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT)

Place: TypeAlias = tuple[int, str, str]
ANY = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What matters of a rule: its chain, the interfaces it is about ("" any, `ppp*` several),
    whether it translates, and the chains that it leads to."""

    chain: Place
    interfaces: tuple[str, ...] = (ANY,)
    translates: bool = False
    leads_to: tuple[str, ...] = ()


def find_rivals(names: Mapping[int, str]) -> tuple[Rival, ...]:
    """Return which interfaces nftables translates addresses at; `names` are those of interfaces
    by index. None where we may not ask."""
    try:
        with NFTSocket(nfgen_family=0) as netlink:
            bases = [_place(m, "CHAIN_TABLE", "CHAIN_NAME") for m in _chains(netlink)]
            rules = [_rule(m, names) for m in _rules(netlink)] if bases else []
    except NetlinkError as error:
        if error.code in UNKNOWN:
            return ()
        raise
    return tuple(sorted(set(rivals_among(bases, rules))))


def rivals_among(bases: Iterable[Place], rules: Iterable[Rule]) -> Iterator[Rival]:
    """Follow the rules from the NAT chains on; yield where they translate."""
    by_chain: dict[Place, list[Rule]] = {}
    for rule in rules:
        by_chain.setdefault(rule.chain, []).append(rule)
    for base in bases:
        for interface in _reached(base, ANY, by_chain, MOST_JUMPS):
            yield Rival(" ".join((FAMILIES.get(base[0], str(base[0])), *base[1:])), interface)


def _reached(
    chain: Place, within: str, by_chain: Mapping[Place, list[Rule]], jumps: int
) -> Iterator[str]:
    """Yield the interfaces at which a chain translates that is asked about `within`."""
    for rule in by_chain.get(chain, ()):
        for interface in (one or within for one in rule.interfaces):
            if rule.translates:
                yield interface
            for name in rule.leads_to if jumps else ():
                yield from _reached((*chain[:2], name), interface, by_chain, jumps - 1)


# Messages


def _chains(netlink: NFTSocket) -> Iterator[Any]:
    for message in netlink.request_get(nft_chain_msg(), NFT_MSG_GETCHAIN):
        if message.get_attr("NFTA_CHAIN_TYPE") == "nat":
            yield message


def _rules(netlink: NFTSocket) -> Iterable[Any]:
    found: Iterable[Any] = netlink.request_get(nft_rule_msg(), NFT_MSG_GETRULE)
    return found


def _place(message: Any, table: str, chain: str) -> Place:
    names = (str(message.get_attr(f"NFTA_{name}")) for name in (table, chain))
    return (message["nfgen_family"], *names)


def _set_members(place: Place, name: str) -> list[bytes]:
    """Return the elements of a set in the table of a chain, each as the kernel keeps it."""
    request = nft_set_elem_list_msg()
    request["attrs"] = [("NFTA_SET_ELEM_LIST_TABLE", place[1]), ("NFTA_SET_ELEM_LIST_SET", name)]
    with NFTSocket(nfgen_family=place[0]) as netlink:
        messages = list(netlink.request_get(request, NFT_MSG_GETSETELEM))
    elements = [e for m in messages for e in m.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS") or ()]
    keys = (element.get_attr("NFTA_SET_ELEM_KEY") for element in elements)
    return [bytes(key.get_attr("NFTA_DATA_VALUE")) for key in keys if key is not None]


def _rule(message: Any, names: Mapping[int, str]) -> Rule:
    place, asked, translates = _place(message, "RULE_TABLE", "RULE_CHAIN"), "", False
    interfaces: tuple[str, ...] = (ANY,)
    leads_to: list[str] = []
    for name, fields in _expressions(message):
        if name == "meta":
            asked = str(fields.get("NFTA_META_KEY"))
        elif name == "cmp" and asked in INTERFACE_KEYS and _is_equal(fields):
            interfaces = (_interface(asked, _data(fields, "NFTA_CMP_DATA"), names),)
        elif name == "lookup" and asked in INTERFACE_KEYS and not fields["NFTA_LOOKUP_FLAGS"]:
            members = _set_members(place, str(fields["NFTA_LOOKUP_SET"]))
            interfaces = tuple(_interface(asked, member, names) for member in members) or (ANY,)
        elif name == "immediate":
            leads_to += _jumps(fields)
        translates |= name in NAT or fields.get("NFTA_TARGET_NAME") in NAT_TARGETS
    return Rule(place, interfaces, translates, tuple(leads_to))


def _expressions(message: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for expression in message.get_attr("NFTA_RULE_EXPRESSIONS") or ():
        data = expression.get_attr("NFTA_EXPR_DATA")
        fields = dict(data["attrs"]) if data is not None and "attrs" in data else {}
        yield str(expression.get_attr("NFTA_EXPR_NAME")), fields


def _is_equal(fields: Mapping[str, Any]) -> bool:
    return fields.get("NFTA_CMP_OP") == "NFT_CMP_EQ"


def _data(fields: Mapping[str, Any], name: str) -> bytes:
    return bytes(fields[name].get_attr("NFTA_DATA_VALUE") or b"")


def _interface(key: str, data: bytes, names: Mapping[int, str]) -> str:
    if not key.endswith("NAME"):
        return names.get(int.from_bytes(data, "little"), ANY)
    name = data.rstrip(b"\0").decode("utf-8", "replace")
    return name if len(data) == NAME_BYTES else f"{name}*"


def _jumps(fields: Mapping[str, Any]) -> Iterator[str]:
    verdict = fields["NFTA_IMMEDIATE_DATA"].get_attr("NFTA_DATA_VERDICT")
    chain = verdict.get_attr("NFTA_VERDICT_CHAIN") if verdict is not None else None
    if chain:
        yield str(chain)
