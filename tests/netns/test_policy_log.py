"""Rules that log: what is written, where, how much, and what a restart does to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.netns.conftest import LAN4, LAN6, WAN4, WAN6, Site
from tests.netns.talk import connects, echo, in_force, network_policy, remove, settled
from tests.running import until

pytestmark = pytest.mark.netns

LOGGING = network_policy(
    "watch",
    "  selector: {interfaces: [wan0]}\n"
    "  ingress:\n"
    "    - description: knocks\n"
    "      ports: [{port: 8080}, {protocol: ICMPv6, icmpType: 128}]\n"
    "      action: log\n"
    "    - ports: [{protocol: ICMP}, {protocol: ICMPv6}]\n",
)


def logged(site: Site) -> list[dict[str, Any]]:
    """Return the lines about packets."""
    lines = (json.loads(line) for line in site.router.log().splitlines() if line[:1] == "{")
    return [line for line in lines if line.get("reason") == "PacketLogged"]


def test_a_logged_packet_is_a_line_with_fields(site: Site) -> None:
    site.router.write("watch.yaml", LOGGING)
    settled(site.wan, site.router, site.lan)
    site.router.start()
    in_force(site.router, "watch")
    with echo(site.lan, f"{LAN4}.2", 8080):
        assert not connects(site.wan, f"{WAN4}.2", f"{LAN4}.2", 8080)
    until(lambda: logged(site), 2)
    line = logged(site)[0]
    port = line.pop("source_port")
    expected = {
        "kind": "EBPFNetworkPolicy",
        "namespace": "default",
        "name": "watch",
        "source_file": "watch.yaml",
        "source_line": 8,
        "rule": "ingress[0]",
        "direction": "in",
        "verdict": "drop-policy",
        "interface": "wan0",
        "protocol": "tcp",
        "source": f"{WAN4}.2",
        "dest": f"{LAN4}.2",
        "dest_port": 8080,
    }
    assert {name: line.get(name) for name in expected} == expected
    assert line["length"] >= 54
    assert line["message"] == (
        f"tcp {WAN4}.2:{port} -> {LAN4}.2:8080, {line['length']} bytes, in wan0: drop-policy; "
        "logged by ingress[0] (knocks)"
    )
    shown = site.router.ctl("logs", "enpol/watch").stdout
    assert line["message"] in shown
    assert "PacketLogged" in site.router.ctl("events", "enpol/watch").stdout


def test_a_flood_writes_ten_lines_a_second(site: Site) -> None:
    site.router.write("watch.yaml", LOGGING)
    settled(site.wan, site.router, site.lan)
    site.router.start()
    in_force(site.router, "watch")
    assert site.ping(f"{WAN6}:2", f"{LAN6}:2", count=100)
    until(lambda: len(logged(site)) >= 10, 2)
    assert len(logged(site)) <= 60
    seen = {(line["verdict"], line["icmp_type"], line["protocol"]) for line in logged(site)}
    assert ("pass", 128, "icmpv6") in seen


def test_a_restarted_daemon_reads_on(site: Site) -> None:
    site.router.write("watch.yaml", LOGGING)
    settled(site.wan, site.router, site.lan)
    site.router.start()
    in_force(site.router, "watch")
    site.router.kill()
    assert site.ping(f"{WAN6}:2", f"{LAN6}:2")
    assert not logged(site)
    site.router.start()
    until(lambda: logged(site), 5)
    remove(site.router, "watch.yaml")
    site.router.write("watch.yaml", LOGGING)
    in_force(site.router, "watch")
    before = len(logged(site))
    assert site.ping(f"{WAN6}:2", f"{LAN6}:2")
    until(lambda: len(logged(site)) > before, 5)
