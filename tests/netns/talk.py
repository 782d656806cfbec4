"""Conversations between hosts of the lab, and the policies that they are under."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from tests.applied import HEAD
from tests.lab import Namespace
from tests.running import Router, until

WORD = b"12345678"
PATIENCE_S = 0.7


def network_policy(name: str, spec: str, policy_type: str = "filtering") -> str:
    """Return a manifest; `spec` is YAML, indented by two."""
    head = f"{HEAD}kind: EBPFNetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n"
    return f"{head}  policyType: {policy_type}\n{spec}"


def in_force(router: Router, name: str) -> None:
    """Wait until a policy, as it is written now, is in force."""
    router.ctl("reconcile", "--wait")
    until(lambda: router.ready("enpol", name), 15, f"{name} is Ready")


def remove(router: Router, file: str) -> None:
    """Remove the last manifest, and confirm that this is meant."""
    (router.policy / file).unlink()
    until(lambda: router.status()["held"], 10, "the removal waits for a person")
    router.ctl("confirm")


def settled(wan: Namespace, router: Router, lan: Namespace) -> None:
    """Wait until no host doubts its IPv6 addresses any more (RFC 4862, 5.4)."""
    hosts = (wan, router.namespace, lan)
    until(lambda: not any(host.ip("-6", "addr", "show", "tentative") for host in hosts), 10)


def family_of(address: str) -> socket.AddressFamily:
    """Return the address family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Echo:
    """A TCP server that sends back what comes, on one port of a host; None: of this one."""

    def __init__(self, host: Namespace | None, address: str, port: int) -> None:
        with host.entered() if host else nullcontext():
            self._listener = socket.create_server((address, port), family=family_of(address))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                self._open.append(taken)
                threading.Thread(target=self._answer, args=(taken,), daemon=True).start()

    def _answer(self, taken: socket.socket) -> None:
        with suppress(OSError):
            while data := taken.recv(1 << 16):
                taken.sendall(data)

    def close(self) -> None:
        """Close it and its connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._open):
            one.close()


@contextmanager
def echo(host: Namespace, address: str, *ports: int) -> Iterator[None]:
    """Have a host answer on some ports."""
    servers = [Echo(host, address, port) for port in ports]
    try:
        yield
    finally:
        for server in servers:
            server.close()


def connect(host: Namespace, source: str, dest: str, port: int) -> socket.socket | None:
    """Open a TCP connection; None if nothing comes of it."""
    with host.entered():
        made = socket.socket(family_of(dest), socket.SOCK_STREAM)
    made.settimeout(PATIENCE_S)
    try:
        made.bind((source, 0))
        made.connect((dest, port))
    except OSError:
        made.close()
        return None
    return made


def connects(host: Namespace, source: str, dest: str, port: int) -> bool:
    """Whether a TCP connection can be opened."""
    made = connect(host, source, dest, port)
    if made is not None:
        made.close()
    return made is not None


def is_answered(made: socket.socket, patience_s: float = PATIENCE_S) -> bool:
    """Whether what is sent over a connection to an echo comes back soon."""
    made.settimeout(patience_s)
    try:
        made.sendall(WORD)
        got = b""
        while len(got) < len(WORD):
            data = made.recv(len(WORD) - len(got))
            if not data:
                return False
            got += data
    except OSError:
        return False
    return got == WORD
