"""A program in a cgroup and a network namespace of a test's choice, which does what it is told.

    with resident(cgroup, namespace) as one: one("serve", "::", 5432)

Orders and answers are lines of JSON: [name, arguments…] and a value.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import errorcode
from pathlib import Path
from typing import Any

from tests.lab import Namespace
from tests.netns.talk import Echo, family_of, is_answered
from tests.running import ROOT

PATIENCE_S = 0.7
MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class Resident:
    """A program that obeys."""

    process: subprocess.Popen[bytes]

    def __call__(self, name: str, *words: str | int) -> Any:
        """Give an order and return the answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([name, *words]).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{name}{words}: it has ended"
        return json.loads(line)


@contextmanager
def resident(cgroup: Path, namespace: Namespace) -> Iterator[Resident]:
    """Start such a program, and end it."""
    procs = cgroup / "cgroup.procs"
    process = subprocess.Popen(
        [*namespace.prefix(), sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        preexec_fn=lambda: (procs.write_text("0"), None)[1],
    )
    try:
        made = Resident(process)
        assert made("ready")
        yield made
    finally:
        process.kill()
        process.communicate()


# What it can do

_kept: list[Any] = []


def _ready() -> bool:
    return True


def _serve(address: str, port: int) -> bool:
    """Answer on TCP and UDP."""
    _kept.append(Echo(None, address, port))
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
