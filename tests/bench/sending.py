"""A UDP socket that sends to many hosts in turn, and what each datagram costs it.

sendmmsg(2) takes 60 at a time, so that Python has no share in the figure. What the kernel does up
to the far end of a veth pair happens within the call. The figure is the median over all calls.
"""

from __future__ import annotations

import ctypes
import os
import socket
import time

import numpy as np

from tests.bench.networks import Networks
from tests.bench.wire import PAYLOAD, Reading

AT_ONCE = 60
ADDRESS = np.dtype([("family", "u2"), ("port", ">u2"), ("address", ">u4"), ("zero", "u8")])
VECTOR = np.dtype([("base", "u8"), ("bytes", "u8")])
# struct mmsghdr of 64-bit machines.
MESSAGE = np.dtype(
    [
        ("name", "u8"),
        ("name_bytes", "u8"),
        ("vector", "u8"),
        ("vectors", "u8"),
        ("control", "u8", 2),
        ("flags", "u8"),
        ("sent", "u8"),
    ]
)
_libc = ctypes.CDLL(None, use_errno=True)


class Sender:
    """Sends to the same port of many IPv4 hosts, round and round."""

    def __init__(self, sender: socket.socket, hosts: Networks, port: int) -> None:
        self._socket = sender
        self._payload = ctypes.create_string_buffer(PAYLOAD, len(PAYLOAD))
        vector = (ctypes.addressof(self._payload), len(PAYLOAD))
        self._vector = np.array([vector], VECTOR)
        count = len(hosts) // AT_ONCE * AT_ONCE
        self._addresses = np.zeros(count, ADDRESS)
        self._addresses["family"], self._addresses["port"] = socket.AF_INET, port
        self._addresses["address"] = hosts.low[:count]
        self._messages = np.zeros(count, MESSAGE)
        first = self._addresses.ctypes.data
        self._messages["name"] = first + ADDRESS.itemsize * np.arange(count)
        self._messages["name_bytes"] = ADDRESS.itemsize
        self._messages["vector"], self._messages["vectors"] = self._vector.ctypes.data, 1
        self._next = 0

    def send(self) -> None:
        """Send to the next hosts; raise OSError if one of the datagrams is refused."""
        first = self._messages.ctypes.data + self._next * MESSAGE.itemsize
        self._next = (self._next + AT_ONCE) % len(self._messages)
        sent = _libc.sendmmsg(self._socket.fileno(), ctypes.c_void_p(first), AT_ONCE, 0)
        if sent != AT_ONCE:
            number = ctypes.get_errno()
            raise OSError(number, f"{sent} of {AT_ONCE} datagrams sent: {os.strerror(number)}")

    def fire(self, packets: int) -> Reading:
        """Send so many datagrams, rounded up, and say what one cost."""
        taken = np.array([self._timed() for _ in range(-(-packets // AT_ONCE))]) / AT_ONCE
        return Reading(float(np.median(taken)), float(taken.mean()), len(taken) * AT_ONCE, 0)

    def _timed(self) -> int:
        began = time.perf_counter_ns()
        self.send()
        return time.perf_counter_ns() - began
