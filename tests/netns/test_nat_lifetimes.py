"""How long translations live: RFC 4787 REQ-5, REQ-6 and REQ-12, RFC 5382 REQ-4 and REQ-5,
RFC 5508 REQ-2 and REQ-6.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests import frames
from tests.netns.nat_how import Translator, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.netns.nat_talk import (
    SILENCE_S,
    Udp,
    dialed,
    endpoint_of,
    fate_of_dial,
    listener,
    pings,
    udp,
)
from tests.netns.nat_wire import inject, packet_of, wire
from tests.running import until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT = 40_000
# What a slow machine may take from a packet to the list, in seconds.
SLOW_S = 20
SHORT_S, OFTEN_S, LONG_S = 2.0, 0.25, 5.0


def sessions(home: Household, protocol: str) -> list[Mapping[str, Any]]:
    """Return the sessions of a protocol."""
    found: list[Mapping[str, Any]] = home.router.json("nat", "list")["sessions"]
    return [one for one in found if one["protocol"] == protocol]


def left_s(home: Household, protocol: str) -> int:
    """Return how many seconds the only session of a protocol has left."""
    (only,) = sessions(home, protocol)
    return int(only["expiresInSeconds"])


def lives_for(home: Household, protocol: str, lifetime_s: int) -> bool:
    """Whether the only session of a protocol has just been given a lifetime."""
    return lifetime_s - SLOW_S < left_s(home, protocol) <= lifetime_s


def test_the_defaults_are_what_the_rfcs_ask_for(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade())
    with udp(home.a, at.a) as inside, udp(home.far, at.far) as far:
        assert far.hears(inside, far.endpoint)
        assert lives_for(home, "udp", 300)
    assert pings(home.a, at.far)
    assert lives_for(home, "icmp" if at.version == 4 else "icmpv6", 60)
    with listener(home.far, at.far) as server:
        with dialed(home.a, at.a, 0, endpoint_of(server.getsockname())) as made:
            taken, _ = server.accept()
            made.sendall(b"word")
            assert taken.recv(9)
            assert lives_for(home, "tcp", 7440)
            taken.close()
        until(lambda: lives_for(home, "tcp", 240), 5, "a closed connection is transitory")


def test_a_syn_that_nobody_answers_is_transitory(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade())
    home.far.run(
        "nft",
        "table inet deaf {\nchain in {\ntype filter hook input priority 0;\n"
        "meta l4proto tcp drop\n}\n}",
    )
    assert fate_of_dial(home.a, (at.a, 0), (at.far, 9), SILENCE_S) == "ETIMEDOUT"
    assert lives_for(home, "tcp", 240)


def kept_alive(sender: Udp, dest: tuple[str, int], seconds: float) -> None:
    """Send now and then for a while."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        sender.send(dest)
        time.sleep(OFTEN_S)


def test_what_goes_out_keeps_a_binding(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """Nothing ever comes back, and it lives on beyond its lifetime; then it ends with silence."""
    translate(home, masquerade(timeouts={"udp": f"{SHORT_S:g}s"}))
    with udp(home.a, at.a, PORT) as inside, udp(home.far, at.far) as far:
        kept_alive(inside, far.endpoint, LONG_S)
        assert inside.hears(far, (at.outside, PORT)) == far.endpoint
        time.sleep(LONG_S)
        assert inside.is_deaf_to(far, (at.outside, PORT))


def test_strangers_cannot_keep_a_binding(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade(filtering="endpoint-independent", timeouts={"udp": f"{SHORT_S:g}s"}))
    with udp(home.a, at.a, PORT) as inside, udp(home.far, at.far) as far:
        assert far.hears(inside, far.endpoint) == (at.outside, PORT)
        with udp(home.far, at.far2) as stranger:
            assert inside.hears(stranger, (at.outside, PORT)) == stranger.endpoint
            kept_alive(stranger, (at.outside, PORT), LONG_S)
            while inside.receive(0.01):
                pass
            assert inside.is_deaf_to(stranger, (at.outside, PORT))


def test_errors_neither_keep_nor_end_a_session(
    home: Household, translate: Translator, at: Addresses
) -> None:
    translate(home, masquerade(timeouts={"udp": f"{SHORT_S:g}s"}))
    kind, words = {4: (frames.ICMP, b"\3\1"), 6: (frames.ICMPV6, b"\1\3")}[at.version]
    with udp(home.a, at.a, PORT) as inside, udp(home.far, at.far, 7000) as far:
        assert far.hears(inside, far.endpoint) == (at.outside, PORT)
        quote = packet_of(at.outside, at.far, frames.UDP, frames.udp(PORT, 7000))
        error = packet_of(at.provider, at.outside, kind, words + bytes(6) + quote)
        inject(home.provider, error)
        assert inside.hears(far, (at.outside, PORT)) == far.endpoint
        ends = time.monotonic() + LONG_S
        while time.monotonic() < ends:
            inject(home.provider, error)
            time.sleep(OFTEN_S)
        assert inside.is_deaf_to(far, (at.outside, PORT))


def test_an_unsolicited_syn_for_a_mapped_port_gets_no_answer(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """So that two that open at the same time meet: the one that is early is not refused."""
    translate(home, masquerade())
    with (
        listener(home.far, at.far) as server,
        dialed(home.a, at.a, PORT, endpoint_of(server.getsockname())),
        wire(home.far) as seen,
    ):
        server.accept()
        fate = fate_of_dial(home.far, (at.far2, 0), (at.outside, PORT), 1.0)
        answers = [one for one in seen.packets() if one.dest == at.far2]
    assert fate == "ETIMEDOUT"
    assert answers == []
