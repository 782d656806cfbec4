"""A thousand connections, and a daemon that dies and comes back twenty times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.lab import Namespace
from tests.netns import nat_load
from tests.netns.nat_how import Translator, dnat, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.running import ROOT

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PROGRAM = (sys.executable, "-m", nat_load.__name__)
EACH, RESTARTS, PORT = 250, 20, 8080


@contextmanager
def load(host: Namespace, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program in a host until it is ready."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    process = host.popen(*PROGRAM, *map(str, words), **pipes)
    try:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def begin(stack: ExitStack, home: Household, at: Addresses) -> list[subprocess.Popen[bytes]]:
    """Open connections outwards, and inwards by a declared port."""
    stack.enter_context(load(home.far, "serve", at.far, PORT))
    stack.enter_context(load(home.a, "serve", at.a, PORT))
    outwards = ("run", at.far, PORT, EACH, at.b, at.version)
    inwards = ("run", at.outside, PORT, EACH, at.far2, at.version + 10)
    return [
        stack.enter_context(load(home.b, *outwards)),
        stack.enter_context(load(home.far, *inwards)),
    ]


def ended(client: subprocess.Popen[bytes]) -> Any:
    """Have a client end, and return its tally."""
    said, _ = client.communicate(timeout=60)
    return json.loads(said)


def test_a_thousand_connections_survive_twenty_deaths(
    home: Household, translate: Translator
) -> None:
    policies = [masquerade()]
    for at in FAMILIES:
        inward = {"protocol": "tcp", "externalPort": PORT, "internalIP": at.a}
        policies.append(dnat(at.outside, inward))
    translate(home, *policies)
    with ExitStack() as stack:
        clients = [client for at in FAMILIES for client in begin(stack, home, at)]
        for number in range(RESTARTS):
            home.router.kill()
            if number % 4 == 0:
                # So that what starts finds other rules than those in force.
                policies[0] = masquerade(timeouts={"icmp": f"{60 + number}s"})
            translate(home, *policies)
        tallies = [ended(client) for client in clients]
    assert [tally["wrong"] for tally in tallies] == [[], [], [], []]
    assert all(tally["least"] > 3 for tally in tallies), tallies
