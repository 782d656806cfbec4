"""Address lists in the public netset format: one address or CIDR a line, `#` and `;` comments.

A million lines are normal, so lines are read in columns (compile/columns.py), comments and blanks
taken off first; whatever then is not plain, mistakes above all, is read line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import numpy as np
import numpy.typing as npt

from fos1d.compile.columns import Lines, is_plain_ipv4, read_ipv4_lines, read_ipv6_lines
from fos1d.compile.ranges import Ranges4, Ranges6

MOST_PROBLEMS = 100
CHUNK_BYTES = 1 << 18

# What a byte says of its line, as bits. The margin is what stands beside an address and does not
# matter: comments and blanks.
DOT, COLON, LETTER, MARGIN, OTHER = 1, 2, 4, 8, 16


def _byte_classes() -> bytes:
    classes = bytearray([OTHER] * 256)
    said = {DOT: b".", COLON: b":", LETTER: b"abcdefABCDEF", MARGIN: b"#; \t\r\v\f"}
    for what, by in {0: b"0123456789/\n", **said}.items():
        for byte in by:
            classes[byte] = what
    return bytes(classes)


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
    """Read a list. Lines that are no addresses are reported, and left out.

    After 100 of them the rest is not read: such a list is not used anyway.
    """
    parts: list[NetSet] = []
    problems: list[tuple[int, str]] = []
    lines = 0
    for chunk in _chunks(data):
        part = _read_chunk(chunk) if len(chunk) <= CHUNK_BYTES + 1 else _read_long_line(chunk)
        parts.append(part)
        problems += [(lines + number, message) for number, message in part.problems]
        lines += part.lines
        if len(problems) >= MOST_PROBLEMS:
            break
    v4 = Ranges4.concatenated([part.v4 for part in parts])
    v6 = Ranges6.concatenated([part.v6 for part in parts])
    return NetSet(v4, v6, tuple(problems[:MOST_PROBLEMS]), lines)


def _chunks(data: bytes) -> Iterator[bytes]:
    """Cut the text behind newlines, into parts that a CPU's cache can hold; a line that is longer
    is a part of its own."""
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
    if is_plain_ipv4(lines.buffer):
        v4, bad = read_ipv4_lines(lines)
        v6 = Ranges6.empty()
    else:
        lines, v4, v6, bad = _read_mixed(lines)
    few4, few6, problems = _read_one_by_one(lines, bad[lines.lengths[bad] > 0])
    return NetSet(
        Ranges4.concatenated([v4, few4]) if len(few4) else v4,
        Ranges6.concatenated([v6, few6]) if len(few6) else v6,
        tuple(problems),
        len(lines.starts),
    )


def _read_mixed(lines: Lines) -> tuple[Lines, Ranges4, Ranges6, npt.NDArray[np.int64]]:
    """Read lines of any kind; return them as read, and the numbers of those that were neither
    plain IPv4 nor IPv6."""
    classes = _classes(lines)
    if np.bitwise_or.reduce(classes) & MARGIN:
        lines = lines.trimmed()
        classes = _classes(lines)
    said = np.bitwise_or.reduceat(classes, lines.starts)
    is_ipv4, is_ipv6 = said == DOT, (said & ~np.uint8(LETTER)) == COLON
    v4, bad4 = read_ipv4_lines(lines.only(is_ipv4))
    v6, bad6 = read_ipv6_lines(lines.only(is_ipv6))
    bad = np.concatenate([np.flatnonzero(~(is_ipv4 | is_ipv6)), bad4, bad6])
    return lines, v4, v6, np.sort(bad)


def _classes(lines: Lines) -> npt.NDArray[np.uint8]:
    return np.frombuffer(lines.buffer.tobytes().translate(BYTE_CLASSES), np.uint8)


def _read_long_line(line: bytes) -> NetSet:
    """Read a line that is too long for arrays of its length; it can only be a comment, or wrong."""
    problems: list[tuple[int, str]] = []
    networks = _networks([(1, line)], problems)
    return NetSet(*_ranges_of(networks), tuple(problems), 1)


def _read_one_by_one(
    lines: Lines, numbers: npt.NDArray[np.int64]
) -> tuple[Ranges4, Ranges6, list[tuple[int, str]]]:
    problems: list[tuple[int, str]] = []
    texts = ((number + 1, lines.text(number)) for number in numbers.tolist())
    return *_ranges_of(_networks(texts, problems)), problems


def _networks(
    lines: Iterable[tuple[int, bytes]], problems: list[tuple[int, str]]
) -> list[IPv4Network | IPv6Network]:
    """Read numbered lines until there are too many problems, which are added to the list."""
    networks: list[IPv4Network | IPv6Network] = []
    for number, text in lines:
        try:
            network = read_line(text)
        except ValueError as error:
            problems.append((number, str(error)))
            if len(problems) >= MOST_PROBLEMS:
                break
            continue
        if network is not None:
            networks.append(network)
    return networks


def _ranges_of(networks: list[IPv4Network | IPv6Network]) -> tuple[Ranges4, Ranges6]:
    return (
        Ranges4.of(n for n in networks if isinstance(n, IPv4Network)),
        Ranges6.of(n for n in networks if isinstance(n, IPv6Network)),
    )


def read_line(line: bytes) -> IPv4Network | IPv6Network | None:
    """Read one line; None if it holds nothing but a comment.

    Raises ValueError with a message for people.
    """
    text = line.split(b"#", 1)[0].split(b";", 1)[0].strip()
    if not text:
        return None
    return read_network(text.decode("utf-8", "backslashreplace"))


def read_network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or a CIDR without host bits, but not the CIDR of all addresses.

    Raises ValueError with a message for people.
    """
    try:
        network = ip_network(text, strict=False)
        address = ip_address(text.partition("/")[0])
    except ValueError:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise ValueError(f"`{shown}` is no IPv4 or IPv6 address or CIDR") from None
    if "%" in text:
        raise ValueError(f"`{text}` names a zone, which no packet does: leave it out")
    if "/" in text and not text.partition("/")[2].isdecimal():
        raise ValueError(f"`{text}` has no prefix length: write {network}")
    if address != network.network_address:
        raise ValueError(f"`{text}` has bits set behind its prefix: write {network}")
    if network.prefixlen == 0:
        raise ValueError(f"`{text}` would drop every IPv{network.version} packet")
    return network
