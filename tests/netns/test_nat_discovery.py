"""A judge from outside: coturn's discovery of what a NAT does (RFC 5780), from inside to a server
with two addresses and two ports.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns.nat_how import Translator, masquerade
from tests.netns.nat_site import FAMILIES, Addresses, Household
from tests.running import until

NEEDED = ("turnserver", "turnutils_natdiscovery")
MISSING = [name for name in NEEDED if shutil.which(name) is None]

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}: apt install coturn"),
    pytest.mark.parametrize("at", FAMILIES, ids=["ipv4", "ipv6"]),
]

PORT = 3478
INDEPENDENT = "NAT with Endpoint Independent Mapping!"
FILTERING = {
    "endpoint-independent": "NAT with Endpoint Independent Filtering!",
    "address": "NAT with Address Dependent Filtering!",
    "address-and-port": "NAT with Address and Port Dependent Filtering!",
}
HAIRPIN = "Received a request (maybe a successful hairpinning)"


@contextmanager
def stun_server(home: Household, at: Addresses) -> Iterator[None]:
    """Run the server on both addresses beyond the provider."""
    words = ["turnserver", "-n", "--stun-only", "--no-auth", "--no-tls", "--no-dtls", "--no-cli"]
    words += ["-L", at.far, "-L", at.far2, "--log-file=stdout", "--pidfile=/dev/null"]
    process = home.far.popen(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: f"{PORT}" in home.far.run("ss", "-Hlun", f"sport = :{PORT}"), 10)
        yield
    finally:
        process.kill()
        process.wait()


def discovered(home: Household, at: Addresses, *tests: str) -> str:
    """Return what a host inside finds out."""
    words = ("turnutils_natdiscovery", *tests, "-L", at.a, at.far)
    return home.a.run(*words, check=False, timeout_s=60)


def test_the_yardstick_is_judged_too(home: Household, either: Translator, at: Addresses) -> None:
    either(home, masquerade())
    with stun_server(home, at):
        said = discovered(home, at, "-m", "-f")
    assert INDEPENDENT in said
    assert FILTERING["address-and-port"] in said


@pytest.mark.parametrize("filtering", ["endpoint-independent", "address"])
def test_mapping_filtering_and_hairpin_as_a_stun_client_finds_them(
    home: Household, translate: Translator, at: Addresses, filtering: str
) -> None:
    translate(home, masquerade(filtering=filtering))
    with stun_server(home, at):
        said = discovered(home, at, "-m", "-f", "-H")
    assert INDEPENDENT in said
    assert FILTERING[filtering] in said
    # The second socket of the client is one to which the first has not spoken.
    assert (HAIRPIN in said) == (filtering == "endpoint-independent")


def test_mapping_is_independent_though_another_host_has_the_port(
    home: Household, translate: Translator, at: Addresses
) -> None:
    """Here netfilter is found to map by address and port."""
    translate(home, masquerade())
    with stun_server(home, at):
        with home.b.entered():
            other = socket.socket(
                socket.AF_INET if at.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
            )
        with other:
            other.bind((at.b, 41_000))
            other.sendto(b"mine", (at.far, 9999))
            said = discovered(home, at, "-m", "-l", "41000")
    assert INDEPENDENT in said
    assert f"reflexive addr: {at.outside}:41000" not in said
