"""rtnetlink(7) by hand: a question as bytes, the answers as headers and attributes.

Only what netlink.py asks is here. docs/decisions/0012-netlink-by-hand.md says why no library.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fos1d.errors import KernelError

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
TYPE_MASK = 0x3FFF
MOST_BYTES = 1 << 16
MOST_DUMPS = 10

Attributes = Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Message:
    """An answer without its netlink header: a fixed part and attributes follow in `body`."""

    kind: int
    body: bytes

    def attributes(self, fixed_bytes: int) -> Attributes:
        """Return the attributes after the fixed part."""
        return attributes_of(self.body[fixed_bytes:])


def attributes_of(data: bytes) -> Attributes:
    """Return packed attributes (struct nlattr) by type; of equal types the last."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            break
        found[kind & TYPE_MASK] = data[offset + ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, packed."""
    length = ATTRIBUTE.size + len(value)
    return (ATTRIBUTE.pack(length, kind) + value).ljust(_aligned(length), b"\0")


def _aligned(length: int) -> int:
    return -(-length // 4) * 4


def messages_in(data: bytes) -> Iterator[tuple[int, int, Message]]:
    """Yield the flags, the sequence number and the message of all that one read gave."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        yield flags, sequence, Message(kind, data[offset + HEADER.size : offset + length])
        offset += max(HEADER.size, _aligned(length))


class Socket:
    """One socket for questions, in the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sequence = 0

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[Message]:
        """Return all answers to a question; asks again where something changed meanwhile.

        Raises KernelError.
        """
        for _ in range(MOST_DUMPS):
            whole, messages = self._ask(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
            if whole:
                break
        return messages

    def order(self, kind: int, body: bytes) -> None:
        """Have something done.

        Raises KernelError.
        """
        self._ask(kind, NLM_F_REQUEST | NLM_F_ACK, body)

    def _ask(self, kind: int, flags: int, body: bytes) -> tuple[bool, list[Message]]:
        """Return the answers, and whether nothing changed while the kernel wrote them."""
        self._sequence += 1
        self._socket.send(self._request(kind, flags, body))
        messages: list[Message] = []
        whole = True
        while True:
            for said, sequence, message in messages_in(self._socket.recv(MOST_BYTES)):
                if sequence != self._sequence:
                    continue
                whole &= not said & NLM_F_DUMP_INTR
                if message.kind in (NLMSG_DONE, NLMSG_ERROR):
                    _see_error(message)
                    return whole, messages
                messages.append(message)

    def _request(self, kind: int, flags: int, body: bytes) -> bytes:
        length = HEADER.size + len(body)
        return HEADER.pack(length, kind, flags, self._sequence, 0) + body


def _see_error(message: Message) -> None:
    """Raise KernelError unless the end of the answers says that all is well."""
    number = -int.from_bytes(message.body[:4], sys.byteorder, signed=True)
    if number > 0:
        why = f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"
        raise KernelError(f"ask the kernel by netlink: {why}", number)
