"""Conversations between hosts of the lab, and the policies that they are under."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.applied import HEAD
from tests.lab import Namespace
from tests.netns.sockets import PATIENCE_S, Echo, family_of, listening
from tests.running import Router, until


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


@contextmanager
def echo(host: Namespace, address: str, *ports: int) -> Iterator[None]:
    """Have a host answer on some ports."""
    with host.entered():
        servers = [Echo(listening(address, port)) for port in ports]
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
