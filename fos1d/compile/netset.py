"""Address lists in the public netset format: one address or CIDR a line, `#` and `;` comments.

A million lines are normal, so plain lines are read in columns (compile/columns.py); whatever is
not plain, comments and mistakes among them, is read line by line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import numpy as np
import numpy.typing as npt

from fos1d.compile.columns import Lines, read_ipv4_lines, read_ipv6_lines
from fos1d.compile.ranges import Ranges4, Ranges6

MOST_PROBLEMS = 100
CHUNK_BYTES = 1 << 17

# What a byte says of its line, as bits.
DOT, COLON, LETTER, OTHER = 1, 2, 4, 8


def _byte_classes() -> npt.NDArray[np.uint8]:
    classes = np.full(256, OTHER, np.uint8)
    classes[list(b"0123456789/\n")] = 0
    classes[list(b".")] = DOT
    classes[list(b":")] = COLON
    classes[list(b"abcdefABCDEF")] = LETTER
    return classes


BYTE_CLASSES = _byte_classes()


@dataclass(frozen=True, slots=True)
class NetSet:
    """What a list holds: ranges as written, not yet merged; and what is wrong in it.

    `problems` are at most 100 pairs of line (from 1) and message.
    """

    v4: Ranges4
    v6: Ranges6
    problems: tuple[tuple[int, str], ...] = ()
    lines: int = 0


def read_netset(data: bytes) -> NetSet:
    """Read a list. Lines that are no addresses are reported, and left out."""
    parts = [_read_chunk(chunk) for chunk in _chunks(data)]
    problems: list[tuple[int, str]] = []
    lines = 0
    for part in parts:
        problems += [(lines + number, message) for number, message in part.problems]
        lines += part.lines
    v4 = Ranges4.concatenated([part.v4 for part in parts])
    v6 = Ranges6.concatenated([part.v6 for part in parts])
    return NetSet(v4, v6, tuple(problems[:MOST_PROBLEMS]), lines)


def _chunks(data: bytes) -> Iterator[bytes]:
    """Cut the text behind newlines, into parts that a CPU's cache can hold."""
    begin = 0
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + CHUNK_BYTES) + 1
        if end <= begin:
            end = data.find(b"\n", begin) + 1 or len(data)
        chunk = data[begin:end]
        yield chunk if chunk.endswith(b"\n") else chunk + b"\n"
        begin = end


def _read_chunk(text: bytes) -> NetSet:
    lines = Lines.of(text)
    said = np.bitwise_or.reduceat(BYTE_CLASSES[lines.buffer], lines.starts)
    v4, bad4 = read_ipv4_lines(lines.only(said == DOT))
    v6, bad6 = read_ipv6_lines(lines.only((said & ~np.uint8(LETTER)) == COLON))
    odd = (said != DOT) & ((said & ~np.uint8(LETTER)) != COLON) & (lines.lengths > 0)
    rest = np.sort(np.concatenate([np.flatnonzero(odd), bad4, bad6]))
    networks, problems = _read_one_by_one(lines, rest)
    few4 = Ranges4.of(n for n in networks if isinstance(n, IPv4Network))
    few6 = Ranges6.of(n for n in networks if isinstance(n, IPv6Network))
    return NetSet(
        Ranges4.concatenated([v4, few4]),
        Ranges6.concatenated([v6, few6]),
        tuple(problems),
        len(lines.starts),
    )


def _read_one_by_one(
    lines: Lines, numbers: npt.NDArray[np.int64]
) -> tuple[list[IPv4Network | IPv6Network], list[tuple[int, str]]]:
    networks: list[IPv4Network | IPv6Network] = []
    problems: list[tuple[int, str]] = []
    for number in numbers.tolist():
        try:
            network = read_line(lines.text(number))
        except ValueError as error:
            problems.append((number + 1, str(error)))
            continue
        if network is not None:
            networks.append(network)
    return networks, problems


def read_line(line: bytes) -> IPv4Network | IPv6Network | None:
    """Read one line; None if it holds nothing but a comment.

    Raises ValueError with a message for people.
    """
    text = line.split(b"#", 1)[0].split(b";", 1)[0].strip()
    if not text:
        return None
    return read_network(text.decode("utf-8", "backslashreplace"))


def read_network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or a CIDR without host bits.

    Raises ValueError with a message for people.
    """
    try:
        network = ip_network(text, strict=False)
        address = ip_address(text.partition("/")[0])
    except ValueError:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise ValueError(f"`{shown}` is no IPv4 or IPv6 address or CIDR") from None
    if "/" in text and not text.partition("/")[2].isdecimal():
        raise ValueError(f"`{text}` has no prefix length: write {network}")
    if address != network.network_address:
        raise ValueError(f"`{text}` has bits set behind its prefix: write {network}")
    return network
