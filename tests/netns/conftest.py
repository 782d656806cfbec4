"""A wan host, a router and a lan host, with the daemon's folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import lab
from tests.netns.forked import forked
from tests.netns.nat_how import Translator, by_daemon, by_nftables
from tests.netns.nat_site import Household, household
from tests.running import Router, router

WAN4, LAN4 = "203.0.113", "10.0.0"
WAN6, LAN6 = "2001:db8:113:", "2001:db8:10:"


@dataclass(frozen=True)
class Site:
    """The lab: `wan` and `lan` are hosts on either side of the router."""

    wan: lab.Namespace
    lan: lab.Namespace
    router: Router

    def ping(self, source: str | None = None, dest: str = f"{LAN4}.2", count: int = 1) -> bool:
        """Whether a ping from the wan host, maybe from a certain address, is answered."""
        extra = ("-I", source) if source else ()
        words = ("ping", "-n", "-q", "-c", str(count), "-i", "0.02", "-W", "0.4", *extra, dest)
        return ", 0% packet loss" in self.wan.run(*words, check=False)


@pytest.fixture
def site(bpffs: Path, tmp_path: Path) -> Iterator[Site]:
    """The lab, addressed and forwarding; the daemon is not started."""
    with lab.namespaces("wan", "lan", "rt") as (wan, lan, middle):
        lab.veth(wan, "eth0", middle, "wan0")
        lab.veth(lan, "eth0", middle, "lan0")
        lab.address(wan, "eth0", f"{WAN4}.2/24", f"{WAN4}.66/24", f"{WAN6}:2/64", f"{WAN6}:66/64")
        lab.address(lan, "eth0", f"{LAN4}.2/24", f"{LAN6}:2/64")
        lab.address(middle, "wan0", f"{WAN4}.1/24", f"{WAN6}:1/64")
        lab.address(middle, "lan0", f"{LAN4}.1/24", f"{LAN6}:1/64")
        middle.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        wan.ip("route", "add", f"{LAN4}.0/24", "via", f"{WAN4}.1")
        wan.ip("route", "add", f"{LAN6}:/64", "via", f"{WAN6}:1")
        lan.ip("route", "add", "default", "via", f"{LAN4}.1")
        lan.ip("route", "add", "default", "via", f"{LAN6}:1")
        with router(middle, tmp_path, bpffs, launch=forked) as made:
            yield Site(wan, lan, made)


@pytest.fixture
def home(bpffs: Path, tmp_path: Path) -> Iterator[Household]:
    """The lab of address translation; nothing is translated yet."""
    with household(bpffs, tmp_path) as made:
        yield made


@pytest.fixture
def translate(home: Household) -> Iterator[Translator]:
    """Our translation; no inside address may leave unless the test takes that away."""
    yield by_daemon
    assert not home.leaked()


@pytest.fixture(params=[by_daemon, by_nftables], ids=["fos1d", "nftables"])
def either(request: pytest.FixtureRequest) -> Translator:
    """Our translation, and the yardstick: both must pass the test."""
    chosen: Translator = request.param
    return chosen
