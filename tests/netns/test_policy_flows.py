"""What becomes of established connections when policies change and the daemon dies."""

from __future__ import annotations

import threading
import time

import pytest

from tests.flow import steady_flow
from tests.netns.conftest import LAN4, LAN6, WAN4, WAN6, Site
from tests.netns.sockets import is_answered
from tests.netns.talk import connect, connects, echo, in_force, network_policy, settled

pytestmark = pytest.mark.netns

PORT = 8080
REPLACEMENTS, INTERVAL_S = 50, 0.1


def ports_allowed(*ports: int) -> str:
    """A policy that allows the wan to reach some TCP ports of the lan."""
    rules = ", ".join(f"{{port: {port}}}" for port in ports)
    return network_policy(
        "wan",
        f"  selector: {{interfaces: [wan0]}}\n  ingress:\n    - ports: [{rules}]\n",
    )


@pytest.mark.parametrize(("near", "far"), [(f"{WAN4}.2", f"{LAN4}.2"), (f"{WAN6}:2", f"{LAN6}:2")])
def test_a_revoked_permission_stops_an_open_connection(site: Site, near: str, far: str) -> None:
    site.router.write("wan.yaml", ports_allowed(PORT, PORT + 1))
    settled(site.wan, site.router, site.lan)
    site.router.start()
    in_force(site.router, "wan")
    with echo(site.lan, far, PORT, PORT + 1):
        kept = connect(site.wan, near, far, PORT)
        revoked = connect(site.wan, near, far, PORT + 1)
        assert kept and revoked
        assert is_answered(kept) and is_answered(revoked)
        site.router.write("wan.yaml", ports_allowed(PORT))
        in_force(site.router, "wan")
        assert not is_answered(revoked)
        assert not connects(site.wan, near, far, PORT + 1)
        assert is_answered(kept, 3)
        site.router.write("wan.yaml", ports_allowed(PORT, PORT + 1))
        in_force(site.router, "wan")
        assert connects(site.wan, near, far, PORT + 1)


def version(number: int) -> str:
    """A policy whose rules differ by number and always allow the steady flow."""
    return network_policy(
        "wan",
        "  selector: {interfaces: [wan0]}\n"
        "  ingress:\n"
        f"    - from: [{{ipBlock: {{cidr: 198.51.100.{number}/32}}}}]\n"
        "      action: deny\n"
        "    - ports: [{protocol: UDP, port: 9000}]\n"
        "  egress:\n"
        f"    - to: [{{ipBlock: {{cidr: 198.51.100.{number}/32}}}}]\n",
    )


def test_no_packet_of_an_allowed_flow_is_lost_while_policies_are_replaced(site: Site) -> None:
    site.router.write("wan.yaml", version(0))
    site.router.start()
    in_force(site.router, "wan")
    with steady_flow(site.wan, site.lan, f"{WAN4}.2", f"{LAN4}.2") as flow:
        for number in range(1, REPLACEMENTS + 1):
            began = time.monotonic()
            site.router.write("wan.yaml", version(number))
            in_force(site.router, "wan")
            time.sleep(max(began + INTERVAL_S - time.monotonic(), 0))
    assert flow.lost() == []
    assert len(flow.answered) > 1000


def test_a_dead_daemon_changes_nothing(site: Site) -> None:
    near, far = f"{WAN4}.2", f"{LAN4}.2"
    site.router.write("wan.yaml", ports_allowed(PORT))
    site.router.start()
    in_force(site.router, "wan")
    with echo(site.lan, far, PORT, PORT + 1):
        made = connect(site.wan, near, far, PORT)
        assert made
        for begin in (site.router.kill, site.router.start):
            begin()
            assert is_answered(made)
            assert connects(site.wan, near, far, PORT)
            assert not connects(site.wan, near, far, PORT + 1)
        site.router.kill()
        site.router.write("wan.yaml", ports_allowed(PORT + 1))
        assert is_answered(made)
        site.router.start()
        assert not is_answered(made)
        assert connects(site.wan, near, far, PORT + 1)


def test_nothing_slips_through_while_policies_are_replaced(site: Site) -> None:
    near, far = f"{WAN4}.2", f"{LAN4}.2"
    site.router.write("wan.yaml", version(0))
    site.router.start()
    in_force(site.router, "wan")
    slipped, stop = [], threading.Event()

    def knock() -> None:
        while not stop.is_set():
            slipped.append(connects(site.wan, near, far, PORT))

    with echo(site.lan, far, PORT):
        thread = threading.Thread(target=knock)
        thread.start()
        for number in range(1, 20):
            site.router.write("wan.yaml", version(number))
            time.sleep(INTERVAL_S)
        stop.set()
        thread.join()
    assert slipped and not any(slipped)
