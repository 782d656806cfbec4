"""What a resident can do: `-m tests.netns.orders` reads orders and answers them (resident.py)."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from errno import errorcode
from typing import Any

from tests.netns.sockets import MOST_BYTES, PATIENCE_S, Echo, family_of, is_answered, listening

_kept: list[Any] = []


def _ready() -> bool:
    return True


def _serve(address: str, port: int) -> bool:
    """Answer on TCP and UDP."""
    _kept.append(Echo(listening(address, port)))
    server = socket.socket(family_of(address), socket.SOCK_DGRAM)
    server.bind((address, port))
    threading.Thread(target=_answer, args=(server,), daemon=True).start()
    return True


def _answer(server: socket.socket) -> None:
    while True:
        with suppress(OSError):
            data, sender = server.recvfrom(MOST_BYTES)
            server.sendto(data, sender)


def _connects(dest: str, port: int) -> str:
    """Open a TCP connection and close it; return the error's name, "" for none."""
    with socket.socket(family_of(dest), socket.SOCK_STREAM) as made:
        return _error_of(lambda: _connect(made, dest, port))


def _holds(dest: str, port: int) -> str:
    """Open a TCP connection and keep it."""
    made = socket.socket(family_of(dest), socket.SOCK_STREAM)
    _kept.append(made)
    return _error_of(lambda: _connect(made, dest, port))


def _lives() -> bool:
    """Whether the connection that is held answers."""
    return is_answered(_kept[-1])


def _releases() -> bool:
    """Close the connection that is held."""
    _kept.pop().close()
    return True


def _connect(made: socket.socket, dest: str, port: int) -> None:
    made.settimeout(PATIENCE_S)
    made.connect((dest, port))


def _asks(dest: str, port: int, traffic_class: int = 0) -> str:
    """Send a datagram and wait for the answer."""
    with socket.socket(family_of(dest), socket.SOCK_DGRAM) as made:
        option = (
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
            if made.family == socket.AF_INET6
            else (socket.IPPROTO_IP, socket.IP_TOS)
        )
        made.setsockopt(*option, traffic_class)
        return _error_of(lambda: _ask(made, dest, port))


def _ask(made: socket.socket, dest: str, port: int) -> None:
    made.settimeout(PATIENCE_S)
    made.sendto(b"?", (dest, port))
    made.recv(MOST_BYTES)


def _opens(path: str) -> str:
    """Open a file to read."""
    return _error_of(lambda: os.close(os.open(path, os.O_RDONLY)))


def _error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as error:
        return errorcode.get(error.errno or 0, str(error))
    return ""


ORDERS: dict[str, Callable[..., object]] = {
    "ready": _ready,
    "serve": _serve,
    "connects": _connects,
    "holds": _holds,
    "lives": _lives,
    "releases": _releases,
    "asks": _asks,
    "opens": _opens,
}


def _main() -> None:
    for line in sys.stdin:
        name, *words = json.loads(line)
        print(json.dumps(ORDERS[name](*words)), flush=True)


if __name__ == "__main__":
    _main()
